"""The ladder: its steps, axis values left out, and that no fold sees its own outcomes."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from both_rules import with_both
from sklearn.exceptions import ConvergenceWarning
from trees import ROOT

from benchmarks.known_answers import AXES, make
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.models.canonical import canonical_codes
from robustgap.analysis.models.study_table import Study, make_study
from robustgap.analysis.prediction.gain import normal_scores
from robustgap.analysis.prediction.increment_statements import design_of, increments
from robustgap.analysis.prediction.ladder_steps import make_steps, sparse_step, steps_of
from robustgap.analysis.prediction.settings_regression import (
    Design,
    folds_of,
    out_of_fold,
    ridge,
    training_weights,
    trees_errors,
)
from robustgap.analysis.ranks.influence import interactions, level_codes
from robustgap.analysis.statistics.increments import both_scales, ladder

PARTS = {"axes": AXES, "outcome": "gap"}
MEASURES = ["m", "noise", "holes", "cell"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """A known ledger with more measures: noise, one with values missing, and a function of the settings."""
    found, rng = make("genuine", 24, 3)[1].table, np.random.default_rng(0)
    holes = np.where(rng.random(len(found)) < 0.2, np.nan, found["m"] + rng.standard_normal(len(found)))
    cell = found["defense"].str[-1].astype(int) * 7 + found["batch"].str[-1].astype(int) ** 2 * 3
    product = ((found["defense"] == "defense1") & (found["awp"] == "awp1")).astype(float)
    return found.assign(noise=rng.standard_normal(len(found)), holes=holes, cell=cell, product=product)


def test_the_ladder_has_every_step_and_its_increments_are_differences(table):
    study = make_study(table, **PARTS, measures=["m", "noise", "holes"])
    found = ladder(study, state=["cell", "product"])
    whole = found[found["axis"] == ""]
    assert set(whole["learner"]) == {"ridge", "trees", "better"}
    assert set(whole["statistic"]) == {"r2", "tau", "increment", "r2_raw", "mae_raw", "increment_raw"}
    assert set(zip(whole["step"], whole["over"], strict=True)) == {
        *(("settings", ""), ("state", "settings"), ("measure", "settings")),
        *(("measure", "state"), ("pair", "state"), ("sparse", "state")),
    }
    for unit in ("", "_raw"):
        r2, grown = (
            whole[whole["statistic"] == name + unit].set_index(["learner", "step", "over", "measure"])["estimate"]
            for name in ("r2", "increment")
        )
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


def whole_rows(table: pd.DataFrame, measures: list[str]) -> pd.Series:
    """Estimates of the ladder over all models."""
    study = make_study(table, **PARTS, measures=measures)
    rows = pd.DataFrame(both_scales(study, *design_of(study), [], [{}], seed=0))
    return rows.set_index(["statistic", "learner", "step", "measure"])["estimate"]


def test_normal_scores_see_no_monotone_change_and_the_outcomes_own_unit_does(table):
    first, grown, scaled = (
        whole_rows(table.assign(gap=change(table["gap"])), ["m"]) for change in (np.array, np.exp, lambda gap: 3 * gap)
    )
    raw = first.index.get_level_values("statistic").str.endswith("_raw")
    for other in (grown, scaled):
        np.testing.assert_allclose(other[~raw], first[~raw], atol=1e-12)
    assert (grown[raw] != first[raw]).all()
    np.testing.assert_allclose(scaled["mae_raw"], 3 * first["mae_raw"])


@pytest.mark.parametrize("change", [pd.DataFrame.copy, with_both], ids=["whole", "both"])
def test_the_increment_of_a_verdict_is_that_of_the_ladder(table, change):
    rows, names = change(table), ["m", "noise", "cell"]
    steps = whole_rows(rows, names)["increment"]
    for one in increments(make_study(rows, **PARTS, measures=names)):
        wanted = steps[one.key["learner"], "measure", one.key["measure"]]
        assert one.estimate == pytest.approx(wanted, abs=1e-12)


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
        assert (rows.loc[name, "undefined"] == 1).all() and len(rows.loc[name]) == 3 * 2 * 6


@pytest.mark.parametrize(("axis", "value", "orders"), [("awp", "awp0", [1]), ("defense", "defense1", [1, 2])])
def test_an_axis_value_left_out_is_predicted_without_the_columns_of_its_axis(table, axis, value, orders):
    """With 12 configurations to learn from, main effects are all that can be fitted."""
    study = make_study(table, **PARTS, measures=["m"])
    found = ladder(study)
    row = found[(found["axis"] == axis) & (found["value"] == value) & (found["learner"] == "ridge")]
    row = row[row["step"] == "settings"].set_index("statistic")["estimate"]
    others = [other for other in AXES if other != axis]
    inside, y = (study.table[axis] == value).to_numpy(), study.table["gap"].to_numpy()
    levels = canonical_codes(study.table[others], y, np.ones(len(y)))
    x = np.concatenate([interactions(levels, order) for order in orders], axis=1)
    _, first, cell = np.unique(level_codes(study.table[AXES]), axis=0, return_index=True, return_inverse=True)
    cell, weight = cell.reshape(-1), np.where(inside[first], 0, np.bincount(cell.reshape(-1)))[None]

    def predicted(values: np.ndarray) -> np.ndarray:
        means = np.bincount(cell, values) / np.bincount(cell)
        return ridge(x[first], means, weight.astype(float), study.block[first])[0][0, cell[inside]]

    assert row["mae_raw"] == pytest.approx(np.abs(y[inside] - predicted(y)).mean())
    scores = normal_scores(y)
    error = ((scores[inside] - predicted(scores)) ** 2).sum() / ((scores[inside] - scores[inside].mean()) ** 2).sum()
    assert row["r2"] == pytest.approx(1 - error)


def test_an_axis_value_with_one_model_has_no_increment():
    """A random search: every value of the learning rate occurs once, and has no variance to be explained."""
    table = make("genuine", 24, 0)[1].table.drop(columns="checkpoint")[::4].reset_index(drop=True)
    table["lr"] = np.arange(24).astype(str)
    axes = ["batch", "augment", "awp", "lr"]
    found = ladder(make_study(table, axes=axes, outcome="gap", measures=["m"]))
    rows = found[(found["axis"] == "lr") & found["statistic"].isin(["increment", "r2", "increment_raw", "r2_raw"])]
    assert len(rows) and rows["estimate"].isna().all() and (rows["undefined"] == 1).all()


def steps_and_predictions(study: Study, design: Design, folds: list[np.ndarray], y: np.ndarray) -> dict:
    """What every step of the ladder adds to every model, and what every learner predicts for every cell."""
    made = steps_of(make_steps(design, y, study, ["cell"], folds), folds, combine=True, seed=0)
    predicted = out_of_fold(design, design.means(y), folds, choose=True)
    return {"|".join(key): added for key, (added, _) in made.items()} | predicted


def test_no_outcome_of_a_fold_is_seen_by_its_own_predictions(table):
    """Not by penalties, the choice of a pair or the choice of a learner either. Scores are given, as ranks are taken
    over all models beforehand."""
    study = make_study(table, **PARTS, measures=MEASURES)
    design, _ = design_of(study)
    folds, y = [folds_of(design.block, 10, 0)], normal_scores(study.table["gap"].to_numpy())
    before = steps_and_predictions(study, design, folds, y)
    assert {"pair|state|", "sparse|state|", "better"} < set(before)
    out = folds[0][design.cell] == 4
    other = 5 * study.table["noise"] + 3 * study.table["holes"].fillna(0)
    after = steps_and_predictions(study, design, folds, np.where(out, other, y))
    for name, values in before.items():
        own = folds[0] == 4 if len(values) == len(design.weight) else out
        np.testing.assert_allclose(after[name][own], values[own], atol=1e-12, err_msg=name)
    for name in ("pair|state|", "sparse|state|", "ridge", "trees", "better"):
        assert np.abs(after[name] - before[name]).max() > 1e-3, f"{name}: others do see these outcomes"


def test_copies_of_a_configuration_are_not_split_by_the_folds_within_folds(table):
    """Were they, penalties and learners would be chosen for predicting what was seen: with copies, otherwise."""
    study = make_study(table.fillna(0), **PARTS, measures=MEASURES)
    copied = replace(study, table=pd.concat([study.table] * 3, ignore_index=True), block=np.tile(study.block, 3))
    found = []
    for one in (study, copied):
        design, folds = design_of(one)
        y = normal_scores(one.table["gap"].to_numpy())
        steps = steps_of(make_steps(design, y, one, [], folds), folds, combine=True, seed=0)
        means, weight = design.means(y), training_weights(design, folds[0])
        errors = trees_errors(design, means, weight, 0), ridge(design.linear, means, weight, design.block)[1]
        found.append((steps["sparse", "settings", ""][0][: len(table)], *errors))
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-6)
    for once, thrice in zip(found[0][1:], found[1][1:], strict=True):
        np.testing.assert_allclose(thrice, once, rtol=1e-9)


def test_the_better_learner_is_the_one_with_the_smaller_error_within_the_other_folds(table):
    study = make_study(table, **PARTS, measures=[])
    design, (fold,) = design_of(study)
    y, picked = design.means(normal_scores(study.table["gap"].to_numpy())), set()
    found = out_of_fold(design, y, [fold], choose=True)
    for part in range(24):
        weight = np.where(fold == part, 0, design.weight)[None]
        error = ridge(design.linear, y, weight, design.block)[1][0]
        wins = "ridge" if error <= trees_errors(design, y, weight, 0)[0] else "trees"
        np.testing.assert_array_equal(found["better"][fold == part], found[wins][fold == part])
        picked.add(wins)
    assert picked <= {"ridge", "trees"} and (found["ridge"] != found["trees"]).any()


def test_the_lasso_converges_on_the_ledger_that_ships():
    ledger = Ledger.load(ROOT / "analysis" / "published" / "digits")
    models = ledger.models()
    names = [name for name in models if name.removesuffix(".adv") in set(ledger.measures["measure"])]
    study = make_study(models, axes=ledger.axes, outcome=ledger.outcome, measures=names)
    design, folds = design_of(study)
    gap = study.table[ledger.outcome].to_numpy(float)
    for y in (gap, normal_scores(gap)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            _, chosen = sparse_step(make_steps(design, y, study, [], folds), 0)
        assert "of 10 folds" in chosen
