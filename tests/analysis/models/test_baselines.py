"""Baselines and controls stand beside the measures: they hang on nothing accidental and move no measure's number."""

from dataclasses import replace

import ledger_cases
import ledgers
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from benchmarks.known_answers import AXES, make, make_family
from robustgap.analysis.findings.beside import check_sentences
from robustgap.analysis.models.baselines import (
    BASELINE,
    CLEAN,
    CONTROL,
    FITTED,
    LOSS,
    RANDOM,
    ROBUST,
    Beside,
    beside_ledger,
    beside_table,
    controls,
    free_name,
)
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics_folder import write_statistics
from robustgap.analysis.verdicts.judged import judged

ASKED = {"axes": AXES, "outcome": "gap"}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """96 models, the last checkpoint of some being their best."""
    table = make_family(24, 0).table
    same = (np.arange(len(table)) % 8 == 1) & (table["checkpoint"] == "best").to_numpy()
    assert same.any()
    table.loc[same, "gap"] = table["gap"].shift()[same]
    return table


def test_the_random_number_is_that_of_the_rank_and_identical_checkpoints_share_one(table):
    found = controls(table, **ASKED)[RANDOM]
    groups = pd.Series(found).groupby(table["gap"])
    assert (groups.min() == groups.max()).all()
    values = groups.first().to_numpy()
    assert sorted(values) == list(range(len(values))) and len(values) < len(table)
    assert (np.diff(values) < 0).any() and (np.diff(values) > 0).any()


def renamed(table: pd.DataFrame) -> pd.DataFrame:
    turned = {axis: {value: f"{9 - place}x" for place, value in enumerate(sorted(set(table[axis])))} for axis in AXES}
    return table.assign(**{axis: table[axis].map(names) for axis, names in turned.items()})


CHANGES = {
    "rows": (lambda t: t.sample(frac=1, random_state=3), AXES),
    "axes": (lambda t: t[t.columns[::-1]], AXES[::-1]),
    "names": (renamed, AXES),
    "exp of the outcome": (lambda t: t.assign(gap=np.exp(1.5 * t["gap"])), AXES),
    "one outcome far out": (lambda t: t.assign(gap=t["gap"].where(t["gap"] < t["gap"].max(), 1e4)), AXES),
}


@pytest.mark.parametrize("name", CHANGES)
def test_controls_hang_on_nothing_accidental(table, name):
    change, axes = CHANGES[name]
    wanted = pd.DataFrame(controls(table, **ASKED), index=table.index)
    changed = change(table)
    found = pd.DataFrame(controls(changed, axes, "gap"), index=changed.index).loc[table.index]
    np.testing.assert_array_equal(found, wanted)


def test_the_fit_of_the_settings_is_the_sum_of_means_in_a_balanced_design():
    table = make("null", 24, 0)[1].table
    score = pd.Series(controls(table.assign(gap=table["gap"].rank()), **ASKED)[FITTED])
    normal = pd.Series(norm.ppf((table["gap"].rank() - 0.5) / len(table)))
    wanted = normal.mean() + sum(normal.groupby(table[axis]).transform("mean") - normal.mean() for axis in AXES)
    np.testing.assert_allclose(score, wanted, atol=1e-8)
    cells = score.groupby([table[axis] for axis in AXES])
    assert (cells.min() == cells.max()).all(), "a function of the settings"


def test_outcomes_that_most_models_share_have_no_random_number(table):
    """It would go with them: two values of the outcome would have two random numbers."""
    coin = table.assign(gap=(table["gap"] > 0) * 1.0)
    assert np.isnan(controls(coin, **ASKED)[RANDOM]).all()
    missing = controls(table.assign(gap=table["gap"].where(table.index > 5)), **ASKED)
    assert all(np.isnan(values[:6]).all() and not np.isnan(values[6:]).any() for values in missing.values())


def test_names_do_not_collide_with_those_of_measures(table):
    assert free_name("a", {"a", "a_"}) == "a__"
    taken = table.assign(**{RANDOM: table["genuine"]})
    beside = beside_table(taken, AXES, "gap", [RANDOM])
    assert set(beside.kinds) == {f"{RANDOM}_", FITTED}
    found = judged(beside, **ASKED, measures=[RANDOM])["claims"].set_index("measure")
    assert found["kind"].to_dict() == {RANDOM: "measure", f"{RANDOM}_": CONTROL, FITTED: CONTROL}
    assert found.loc[RANDOM, "tau"] > 0.3 > abs(found.loc[f"{RANDOM}_", "tau"])


def test_no_number_of_a_measure_depends_on_what_stands_beside_it(table):
    measures = ["genuine", "axis_proxy", "null_0"]
    full = beside_table(table.assign(loss=-(table["gap"] ** 3)), AXES, "gap", measures, ["loss", "genuine"])
    assert full.kinds == {"loss": BASELINE, RANDOM: CONTROL, FITTED: CONTROL}, "genuine is judged as a measure"
    with_all = judged(full, **ASKED, measures=measures, se="se_gap")
    alone = judged(Beside(table, {}), **ASKED, measures=measures, se="se_gap")
    for name, found in with_all.items():
        own = found[found["kind"] == "measure"].reset_index(drop=True)
        pd.testing.assert_frame_equal(own, alone[name], check_dtype=False, rtol=0, atol=0)
    verdict = with_all["claims"].set_index("measure")
    assert verdict.loc["loss", ["kind", "tau"]].tolist() == [BASELINE, -1]
    one = verdict.loc["loss"]
    assert one["tau_family_low"] == one["tau_low"], "a family of its own"
    assert "hold for all measures" in verdict.loc["null_0", "reason"] and "of this row alone" in one["reason"]


@pytest.mark.parametrize("number", range(3))
def test_controls_have_the_verdicts_that_they_must_have(number):
    table = make_family(64, number).table
    found = judged(beside_table(table, AXES, "gap", ["null_0"]), **ASKED, measures=["null_0"])["claims"]
    told = check_sentences(found)
    assert len(told) == 2 and all(sentence.startswith("Check passed: ") for sentence in told)
    assert found.set_index("measure").loc[FITTED, "verdict"] in ("proxy of the settings", "unresolved")
    wrong = check_sentences(found.assign(verdict="replicates"))
    assert all(sentence.startswith("Check failed: ") and "is replicates (expected: " in sentence for sentence in wrong)


def test_a_ledger_gives_its_training_accuracies_and_its_loss_where_it_has_one(tmp_path):
    ledger = ledgers.make(tmp_path / "ledger")
    table = ledger.models()
    without = beside_ledger(ledger, table, ledger.axes, ledger.outcome)
    assert without.absent == [LOSS] and list(without.kinds)[:2] == [ROBUST, CLEAN]
    np.testing.assert_array_equal(without.table[ROBUST], table["pgd10_train"])
    logged = ledger_cases.saved(ledger, runs=ledger.runs.assign(train_loss=np.arange(len(ledger.runs)) / 7))
    found = beside_ledger(logged, logged.models(), logged.axes, logged.outcome)
    assert found.absent == [] and found.kinds[LOSS] == BASELINE
    np.testing.assert_array_equal(found.table[LOSS], logged.models()["train_loss"])
    clean = beside_ledger(logged, logged.models(), logged.axes, "gap_clean")
    assert list(clean.kinds) == [CLEAN, LOSS, RANDOM, FITTED], "clean accuracy is that of the outcome: once is enough"


def test_every_table_of_a_ledger_has_the_rows_beside_the_measures(tmp_path):
    ledger = ledgers.make(tmp_path / "ledger")
    logged = replace(ledger, runs=ledger.runs.assign(train_loss=np.arange(len(ledger.runs)) / 7))
    write_statistics(Statistics(logged), tmp_path)
    wanted = {ROBUST: BASELINE, CLEAN: BASELINE, LOSS: BASELINE, RANDOM: CONTROL, FITTED: CONTROL}
    names = ["correlations", "summary", "claims", "statements", "partial", "simpson", "information", "sign_errors"]
    for name in [*names, "selection"]:
        found = pd.read_csv(tmp_path / f"{name}.csv").drop_duplicates("measure").set_index("measure")["kind"]
        assert found[found != "measure"].to_dict() == wanted, name
    pairs = pd.read_csv(tmp_path / "comparisons.csv")
    assert set(pairs["other"]) & set(wanted) == {ROBUST, CLEAN, LOSS}, "controls are compared with nothing"
    told = (tmp_path / "findings.json").read_text()
    assert "training loss" in told and "is no baseline here" not in told
