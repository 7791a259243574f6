"""Increments against loops that refit everything, and what must not matter."""

import numpy as np
import pandas as pd
import pytest
from both_rules import with_both

from benchmarks.known_answers import AXES, make
from robustgap.analysis.ledger import BOTH
from robustgap.analysis.models.study_table import Study, make_study
from robustgap.analysis.prediction.gain import corrections, normal_scores
from robustgap.analysis.prediction.increment_statements import design_of, increments
from robustgap.analysis.prediction.settings_regression import out_of_fold
from robustgap.analysis.ranks.influence import interactions, level_codes
from robustgap.analysis.verdicts.claims import claims

PARTS = {"axes": AXES, "outcome": "gap"}
MEASURES = ["m", "noise", "holes", "cell", "product"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """A known ledger with more measures: noise, one with values missing, and functions of the settings."""
    _, ledger = make("genuine", 24, 3)
    rng, found = np.random.default_rng(0), ledger.table
    holes = np.where(rng.random(len(found)) < 0.2, np.nan, found["m"] + rng.standard_normal(len(found)))
    cell = found["defense"].str[-1].astype(int) * 7 + found["batch"].str[-1].astype(int) ** 2 * 3
    product = (found["defense"] == "defense1") & (found["awp"] == "awp1")
    return found.assign(noise=rng.standard_normal(len(found)), holes=holes, cell=cell, product=product.astype(float))


def loop_increment(study: Study, measure: str, learner: str) -> float:
    """The increment by its definition: everything refitted without each configuration, the measure beside the settings;
    a model that is both checkpoints is two rows of half a weight, and its prediction is their mean."""
    rows = []
    for number, row in enumerate(study.table.to_dict("records")):
        rules = ["best", "last"] if row["checkpoint"] == BOTH else [row["checkpoint"]]
        rows += [{**row, "checkpoint": rule, "number": number, "weight": 1 / len(rules)} for rule in rules]
    table = pd.DataFrame(rows)
    number, weight, root = table["number"].to_numpy(), table["weight"].to_numpy(), np.sqrt(table["weight"].to_numpy())
    y, x = (normal_scores(study.table[name].to_numpy(float)) for name in ("gap", measure))
    levels = level_codes(table[AXES])
    settings = np.column_stack([np.ones(len(table)), interactions(levels, 1), interactions(levels, 2)])
    design, folds = design_of(study)
    base = out_of_fold(design, design.means(y), folds)[learner][design.cell]
    assert (study.table.iloc[design.model]["gap"].to_numpy() == table["gap"]).all(), "rows in the same order"
    before, added = np.zeros(len(y)), np.zeros(len(y))
    np.add.at(before, number, weight * base)
    for one in range(24):
        out = study.block[number] == one
        left, scaled = ~out, root[~out]
        beside = np.column_stack([settings, x[number]])[left] * scaled[:, None]
        both = np.linalg.lstsq(beside, y[number][left] * scaled, rcond=1e-8)[0]
        alone = np.linalg.lstsq(settings[left] * scaled[:, None], x[number][left] * scaled, rcond=1e-8)[0]
        np.add.at(added, number[out], weight[out] * both[-1] * (x[number] - settings @ alone)[out])
    return (((y - before) ** 2).sum() - ((y - before - added) ** 2).sum()) / ((y - y.mean()) ** 2).sum()


@pytest.mark.parametrize("measure", ["m", "noise"])
@pytest.mark.parametrize("change", [pd.DataFrame.copy, with_both], ids=["whole", "both"])
def test_the_increment_equals_its_definition(table, measure, change):
    """Also: its slope is the coefficient beside unpenalised settings (Frisch, Waugh and Lovell)."""
    study = make_study(change(table), **PARTS, measures=[measure])
    found = {one.key["learner"]: one for one in increments(study)}
    for learner, one in found.items():
        assert one.estimate == pytest.approx(loop_increment(study, measure, learner))
        assert one.parts.sum() == pytest.approx(0, abs=1e-12)


def test_functions_of_one_or_two_settings_add_exactly_nothing(table):
    for one in increments(make_study(table, **PARTS, measures=["cell", "product"])):
        assert one.estimate == one.se == 0


def test_a_measure_that_differs_in_one_configuration_alone_is_not_fitted_to_rounding(table):
    """Without that configuration it is constant: nothing can be learnt, and a slope on rounding would be any number."""
    one = np.where(table.index // 4 == 0, table["m"], 0.7)
    study = make_study(table.assign(one=one), **PARTS, measures=["one"])
    design, folds = design_of(study)
    added, _ = corrections(design, study.table["gap"].to_numpy(), study.table[["one"]].to_numpy(), folds)
    assert (added[study.table["one"] != 0.7] == 0).all() and (added != 0).any()
    assert all(abs(found.estimate) < 0.05 for found in increments(study))


def test_units_other_measures_and_the_order_of_models_do_not_matter(table):
    def numbers(changed: pd.DataFrame, measures: list[str], measure: str) -> list:
        found = increments(make_study(changed, **PARTS, measures=measures))
        return [(one.estimate, one.se, one.slope, one.n) for one in found if one.key["measure"] == measure]

    for measure in ("m", "holes", "product"):
        wanted = numbers(table, MEASURES, measure)
        np.testing.assert_allclose(numbers(table, [measure], measure), wanted)
        shuffled = table.sample(frac=1, random_state=1).reset_index(drop=True)
        np.testing.assert_allclose(numbers(shuffled, [measure], measure), wanted, atol=1e-9)
        grown = table.assign(**{measure: np.exp(table[measure].to_numpy() / 3)}, gap=np.exp(table["gap"]))
        np.testing.assert_allclose(numbers(grown, [measure], measure), wanted, atol=1e-9)


def test_missing_values_add_nothing_to_their_models(table):
    study = make_study(table, **PARTS, measures=["holes"])
    design, folds = design_of(study)
    values = study.table[["holes"]].to_numpy()
    added, _ = corrections(design, study.table["gap"].to_numpy(), values, folds)
    assert (added[np.isnan(values)] == 0).all() and (added[~np.isnan(values)] != 0).all()


def test_an_increment_is_about_the_models_that_have_the_measure(table):
    """As if there were no others: among all models it would be diluted by those that it says nothing about."""
    holes = table.assign(m=table["m"].where(table["defense"] != "defense1"), few=table["m"].where(table.index < 4))
    found = increments(make_study(holes, **PARTS, measures=["noise", "m", "few"]))
    assert [one.key["measure"] for one in found] == ["noise", "m", "few"] * 2
    alone = increments(make_study(table[table["defense"] != "defense1"], **PARTS, measures=["m"]))
    for one, wanted in zip(found[1::3], alone, strict=True):
        assert (one.free, one.n) == (wanted.free, wanted.n)
        assert (one.estimate, one.se) == pytest.approx((wanted.estimate, wanted.se))
        np.testing.assert_allclose(np.sort(one.parts[one.parts != 0]), np.sort(wanted.parts), atol=1e-12)
        assert (one.parts != 0).sum() == one.configurations == 16
    assert all(np.isnan(one.estimate) and one.configurations == 1 for one in found[2::3])


def test_settings_that_outnumber_the_configurations_with_a_measure_do_not_make_it_a_proxy():
    """12 configurations of 64 fit any numbers by their settings: that says nothing about the measure."""
    _, ledger = make("genuine", 64, 0)
    chosen = np.random.default_rng(0).permutation(64)[:12]
    gap = ledger.configuration_gap
    found = ledger.table.assign(m=np.where(np.isin(np.arange(256) // 4, chosen), gap, np.nan))
    verdict, _ = claims(found, **PARTS, measures=["m"])
    assert verdict["verdict"].tolist() == ["unresolved"] and "too few" in verdict["reason"][0]
