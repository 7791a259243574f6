"""Increments and the ladder against loops that refit everything, and what must not matter."""

import numpy as np
import pandas as pd
import pytest

from analysis.claims import claims
from analysis.increments import increments
from analysis.influence import interactions, level_codes
from analysis.ladder import ladder, steps_of
from analysis.prediction import beyond_settings, corrections, normal_scores
from analysis.settings_models import folds_of, make_design, out_of_fold, ridge, trees_error
from analysis.study_table import make_study
from benchmarks.known_answers import AXES, make

PARTS = {"axes": AXES, "outcome": "gap"}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """A known ledger with more measures: noise, one with values missing, and functions of the settings."""
    _, ledger = make("genuine", 24, 3)
    rng, found = np.random.default_rng(0), ledger.table
    holes = np.where(rng.random(len(found)) < 0.2, np.nan, found["m"] + rng.standard_normal(len(found)))
    cell = found["defense"].str[-1].astype(int) * 7 + found["batch"].str[-1].astype(int) ** 2 * 3
    product = (found["defense"] == "defense1") & (found["awp"] == "awp1")
    return found.assign(noise=rng.standard_normal(len(found)), holes=holes, cell=cell, product=product.astype(float))


MEASURES = ["m", "noise", "holes", "cell", "product"]


def brute_increment(table: pd.DataFrame, measure: str, learner: str) -> float:
    """The increment by its definition: everything refitted in every fold, the measure beside the settings."""
    study = make_study(table, **PARTS, measures=[measure])
    fold, y, x = folds_of(study.block, 10, 0), table["gap"].to_numpy(), table[measure].to_numpy(float)
    levels = level_codes(table[AXES])
    settings = np.column_stack([np.ones(len(y)), interactions(levels, 1), interactions(levels, 2)])
    base = out_of_fold(make_design(table[AXES], study.block, 3), y, fold)[learner]
    before = after = 0.0
    for part in range(10):
        train = fold != part
        scores = normal_scores(x, train)
        both = np.linalg.lstsq(np.column_stack([settings, scores])[train], y[train], rcond=1e-8)[0]
        alone = np.linalg.lstsq(settings[train], scores[train], rcond=1e-8)[0]
        added = both[-1] * (scores - settings @ alone)[~train]
        before += ((y - base)[~train] ** 2).sum()
        after += (((y - base)[~train] - added) ** 2).sum()
    return (before - after) / ((y - y.mean()) ** 2).sum()


@pytest.mark.parametrize("measure", ["m", "noise"])
def test_the_increment_equals_its_definition(table, measure):
    """Also: its slope is the coefficient beside unpenalised settings (Frisch, Waugh and Lovell)."""
    found = {one.key["learner"]: one for one in increments(make_study(table, **PARTS, measures=[measure]))}
    for learner, one in found.items():
        assert one.estimate == pytest.approx(brute_increment(table, measure, learner))
        assert one.parts.sum() == pytest.approx(0, abs=1e-12)


def test_functions_of_one_or_two_settings_add_exactly_nothing(table):
    for one in increments(make_study(table, **PARTS, measures=["cell", "product"])):
        assert one.estimate == one.se == 0


def test_units_other_measures_and_the_order_of_models_do_not_matter(table):
    def numbers(changed: pd.DataFrame, measures: list[str], measure: str) -> list:
        found = increments(make_study(changed, **PARTS, measures=measures))
        return [(one.estimate, one.se, one.slope, one.n) for one in found if one.key["measure"] == measure]

    for measure in MEASURES:
        wanted = numbers(table, MEASURES, measure)
        np.testing.assert_allclose(numbers(table, [measure], measure), wanted)
        shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
        np.testing.assert_allclose(numbers(shuffled, [measure], measure), wanted, atol=1e-9)
        grown = table.assign(**{measure: np.exp(table[measure].to_numpy() / 3)})
        np.testing.assert_allclose(numbers(grown, [measure], measure), wanted, atol=1e-9)


def test_missing_values_add_nothing_to_their_models(table):
    study = make_study(table, **PARTS, measures=["holes"])
    fold = folds_of(study.block, 10, 0)
    design = make_design(study.table[AXES], study.block, 3)
    values = study.table[["holes"]].to_numpy()
    added, _ = corrections(beyond_settings(design, study.table["gap"].to_numpy(), values, fold))
    assert (added[np.isnan(values)] == 0).all() and (added[~np.isnan(values)] != 0).all()


def test_an_increment_is_about_the_models_that_have_the_measure(table):
    """As if there were no others: among all models it would be diluted by those that it says nothing about."""
    holes = table.assign(m=table["m"].where(table["defense"] != "defense1"), few=table["m"].where(table.index < 4))
    found = increments(make_study(holes, **PARTS, measures=["noise", "m", "few"]))
    assert [one.key["measure"] for one in found] == ["noise", "m", "few"] * 2
    alone = increments(make_study(table[table["defense"] != "defense1"], **PARTS, measures=["m"]))
    for one, wanted in zip(found[1::3], alone, strict=True):
        assert (one.estimate, one.se, one.free, one.n) == (wanted.estimate, wanted.se, wanted.free, wanted.n)
        assert np.isin(wanted.parts, one.parts).all() and (one.parts != 0).sum() == one.configurations == 16
    assert all(np.isnan(one.estimate) and one.configurations == 1 for one in found[2::3])


def test_settings_that_outnumber_the_configurations_with_a_measure_do_not_make_it_a_proxy():
    """12 configurations of 64 fit any numbers by their settings: that says nothing about the measure."""
    _, ledger = make("genuine", 64, 0)
    chosen = np.random.default_rng(0).permutation(64)[:12]
    gap = ledger.configuration_gap
    found = ledger.table.assign(m=np.where(np.isin(np.arange(256) // 4, chosen), gap, np.nan))
    verdict, _ = claims(found, **PARTS, measures=["m"])
    assert verdict["verdict"].tolist() == ["unresolved"] and "too few" in verdict["reason"][0]


def test_the_ladder_has_every_step_and_its_increments_are_differences(table):
    study = make_study(table, **PARTS, measures=["m", "noise", "holes"])
    found = ladder(study, state=["cell", "product"])
    whole = found[found["axis"] == ""]
    assert set(whole["learner"]) == {"ridge", "trees", "better"}
    assert set(zip(whole["step"], whole["over"], strict=True)) == {
        *(("settings", ""), ("state", "settings"), ("measure", "settings")),
        *(("measure", "state"), ("pair", "state"), ("sparse", "state")),
    }
    r2 = whole[whole["statistic"] == "r2"].set_index(["learner", "step", "over", "measure"])["estimate"]
    grown = whole[whole["statistic"] == "increment"].set_index(["learner", "step", "over", "measure"])["estimate"]
    for (learner, step, over, measure), estimate in grown.items():
        before = r2[learner, "settings", "", ""] if over == "settings" else r2[learner, "state", "settings", ""]
        assert estimate == pytest.approx(r2[learner, step, over, measure] - before)
    assert (grown.xs("state", level="step") == 0).all(), "this training state is a function of the settings"
    assert grown["ridge", "measure", "settings", "m"] > 0.05
    assert whole.loc[whole["step"] == "pair", "members"].str.contains("m").all()
    outside = found[found["axis"] != ""]
    assert set(outside["axis"]) == set(AXES) - {"checkpoint"} and set(outside["learner"]) == {"ridge", "trees"}
    rows = outside[(outside["axis"] == "defense") & (outside["measure"] != "holes")]
    assert (rows["n"] == 32).all()


def test_a_step_to_a_measure_that_few_configurations_have_is_undefined(table):
    """Not 0: their settings reproduce 6 configurations' values exactly, whatever these say."""
    few = table["m"].where(table.index % 16 < 4)
    study = make_study(table.assign(few=few, none=np.nan), **PARTS, measures=["m", "holes", "few", "none"])
    found = ladder(study, state=["noise"])
    rows = found[(found["step"] == "measure") & (found["axis"] == "")].set_index("measure")
    for name in ("m", "holes"):
        assert rows.loc[name, "estimate"].notna().all() and (rows.loc[name, "undefined"] == 0).all()
    for name in ("few", "none"):
        assert rows.loc[name, ["estimate", "low", "high"]].isna().all(axis=None)
        assert (rows.loc[name, "undefined"] == 1).all() and len(rows.loc[name]) == 3 * 2 * 4


@pytest.mark.parametrize(("axis", "value", "orders"), [("awp", "awp0", [1]), ("defense", "defense1", [1, 2])])
def test_an_axis_value_left_out_is_predicted_without_the_columns_of_its_axis(table, axis, value, orders):
    """With 12 configurations to learn from, main effects are all that can be fitted."""
    study = make_study(table, **PARTS, measures=["m"])
    found = ladder(study)
    row = found[(found["axis"] == axis) & (found["value"] == value) & (found["learner"] == "ridge")]
    row = row[(row["step"] == "settings") & (row["statistic"] == "mae")]
    others = [other for other in AXES if other != axis]
    levels, inside = level_codes(table[others]), (table[axis] == value).to_numpy()
    x, y = np.concatenate([interactions(levels, order) for order in orders], axis=1), table["gap"].to_numpy()
    predicted, _ = ridge(x[~inside], y[~inside], np.unique(study.block[~inside], return_inverse=True)[1], x[inside])
    assert row["estimate"].tolist() == pytest.approx([np.abs(y[inside] - predicted).mean()])


def test_an_axis_value_with_one_model_has_no_increment():
    """A random search: every value of the learning rate occurs once, and has no variance to be explained."""
    table = make("genuine", 24, 0)[1].table.drop(columns="checkpoint")[::4].reset_index(drop=True)
    table["lr"] = np.arange(24).astype(str)
    axes = ["batch", "augment", "awp", "lr"]
    found = ladder(make_study(table, axes=axes, outcome="gap", measures=["m"]))
    rows = found[(found["axis"] == "lr") & found["statistic"].isin(["increment", "r2"])]
    assert len(rows) and rows["estimate"].isna().all() and (rows["undefined"] == 1).all()


def steps_and_predictions(table: pd.DataFrame, fold: np.ndarray) -> dict[str, np.ndarray]:
    """What every step of the ladder adds, and what every learner predicts, for every model."""
    study = make_study(table, **PARTS, measures=MEASURES)
    design = make_design(study.table[AXES], study.block, 3)
    steps = steps_of(study, design, fold, ["cell"], combine=True, seed=0)
    predicted = out_of_fold(design, table["gap"].to_numpy(), fold, choose=True)
    return {"|".join(key): added for key, (added, _) in steps.items()} | predicted


def test_no_outcome_of_a_fold_is_seen_by_its_own_predictions(table):
    """Not by penalties, the choice of a pair, the sparse combination, or the choice of a learner either."""
    fold = folds_of(make_study(table, **PARTS, measures=[]).block, 10, 0)
    out = fold == 4
    before = steps_and_predictions(table, fold)
    assert {"pair|state|", "sparse|state|", "better"} < set(before)
    lie = table["gap"].where(~out, 5 * table["noise"] + 3 * table["holes"].fillna(0))
    after = steps_and_predictions(table.assign(gap=lie), fold)
    for name, values in before.items():
        np.testing.assert_allclose(after[name][out], values[out], atol=1e-12, err_msg=name)


def test_copies_of_a_configuration_are_not_split_by_the_folds_within_folds(table):
    """Were they, penalties and learners would be chosen for predicting what was seen: with copies, otherwise."""
    table = table.fillna(0)
    copied = pd.concat([table] * 3, ignore_index=True)
    found = []
    for rows in (table, copied):
        study = make_study(rows, **PARTS, measures=MEASURES)
        design, fold = make_design(study.table[AXES], study.block, 3), folds_of(study.block, 10, 0)
        steps = steps_of(study, design, fold, [], combine=True, seed=0)
        error = trees_error(design, rows["gap"].to_numpy(), fold != 0, 0)
        found.append((steps["sparse", "settings", ""][0][: len(table)], error))
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-6)
    assert found[1][1] == pytest.approx(found[0][1], rel=0.1)


def test_the_better_learner_is_the_one_with_the_smaller_error_within_the_other_folds(table):
    y, picked = table["gap"].to_numpy(), set()
    study = make_study(table, **PARTS, measures=[])
    design, fold = make_design(study.table[AXES], study.block, 3), folds_of(study.block, 10, 0)
    found = out_of_fold(design, y, fold, choose=True)
    for part in range(10):
        train = fold != part
        home = np.unique(study.block[train], return_inverse=True)[1]
        _, error = ridge(design.linear[train], y[train], home, design.linear[~train])
        wins = "ridge" if error <= trees_error(design, y, train, 0) else "trees"
        np.testing.assert_array_equal(found["better"][~train], found[wins][~train])
        picked.add(wins)
    assert picked <= {"ridge", "trees"} and (found["ridge"] != found["trees"]).any()
