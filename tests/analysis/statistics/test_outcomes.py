"""Several outcomes at once: tau, agreement and changes by brute force, and planted changes of the answer."""

from dataclasses import replace

import ledgers
import numpy as np
import outcome_ledgers
import pandas as pd
import pytest
from outcome_ledgers import Given
from scipy.stats import kendalltau

from benchmarks.known_answers import AXES, make_family
from robustgap.analysis.findings.outcomes import outcome_sentences
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics._outcomes import alike, asked
from robustgap.analysis.statistics.outcomes_change import CHANGES, MARGIN, RESULT, SAME, UNDECIDED, changes, verdict

OTHER = "pgd10@L2:1/2"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Statistics:
    """64 models: pgd10, and another norm that two of them lack, whose gap orders them otherwise."""
    rng = np.random.default_rng(2)
    test, lift, other = rng.uniform(0.2, 0.5, 64), rng.uniform(0.05, 0.4, 64), rng.uniform(0.05, 0.4, 64)
    given = [
        Given("pgd10", test + lift, test, loss=2 - test),
        Given(OTHER, test + other, test, loss=1.9 - test, models=np.arange(64) > 1, eps=0.5),
    ]
    ledger = outcome_ledgers.make(tmp_path_factory.mktemp("outcomes") / "ledger", *given)
    return Statistics(ledger)


def known(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    return table[table[list(names)].notna().all(axis=1)]


def test_every_outcome_is_asked_about_in_order(made):
    names = list(asked(made.data))
    ids = ["clean", "fgsm", "pgd10", OTHER]
    wanted = [form.format(one) for form in ("gap_{}", "{}_train", "{}_test") for one in ids]
    wanted += [f"loss_{one}_{split}" for split in ("train", "test") for one in ids[2:]]
    assert names == wanted
    assert alike(made.ledger.explained, asked(made.data)) == ["gap_clean", "gap_fgsm", f"gap_{OTHER}"]
    rest = outcome_ledgers.asked(made.ledger, "gap_pgd10_rest")
    assert next(iter(asked(Statistics(rest).data))) == "gap_pgd10_rest", "the study's own comes first"
    assert alike(made.ledger.explain("pgd10_test"), asked(made.data)) == [f"{one}_test" for one in (*ids[:2], OTHER)]


def test_tau_is_that_of_the_models_with_both_and_that_of_correlations(made):
    rows, table = made.table("outcomes_tau"), made.data.models
    taus = rows[rows["statistic"] == "tau"]
    assert len(taus) == 16 * len(made.ledger.columns)
    for row in taus[taus["undefined"] == 0].to_dict("records"):
        part = known(table, row["measure"], row["outcome"])
        assert row["estimate"] == pytest.approx(kendalltau(part[row["measure"]], part[row["outcome"]]).statistic)
        assert row["n"] == len(part) and row["family_low"] <= row["estimate"] <= row["family_high"]
    own = taus[taus["outcome"] == "gap_pgd10"].set_index("measure")[["estimate", "low", "high", "n"]]
    wanted = made.table("correlations").query("statistic == 'tau' and kind == 'measure'").set_index("measure")
    pd.testing.assert_frame_equal(own, wanted[list(own)], check_dtype=False)
    family = made.table("statements").query("statistic == 'tau' and kind == 'measure'").set_index("measure")
    ends = taus[taus["outcome"] == "gap_pgd10"].set_index("measure")[["family_low", "family_high"]]
    pd.testing.assert_frame_equal(ends, family[list(ends)], check_dtype=False)
    ceilings = rows[rows["measure"] == ""].set_index(["outcome", "statistic"])["estimate"]
    noise = made.table("noise").query("measure == 'gap_pgd10' and statistic == 'ceiling'").set_index("component")
    for name, value in noise["estimate"].items():
        assert ceilings["gap_pgd10", f"{name}_ceiling"] == pytest.approx(value)
    assert np.isnan(ceilings["loss_pgd10_test", "run_ceiling"]) and ceilings["pgd10_test", "run_ceiling"] > 0.5


def test_agreement_is_tau_between_every_two(made):
    rows, table = made.table("outcomes_agreement"), made.data.models
    assert len(rows) == 16 * 15 / 2 and not rows.duplicated(["outcome", "other"]).any()
    for row in rows.to_dict("records"):
        part = known(table, row["outcome"], row["other"])
        assert row["n"] == len(part) == 64 - 2 * (OTHER in row["outcome"] + row["other"])
        tau = kendalltau(part[row["outcome"]], part[row["other"]]).statistic
        assert row["estimate"] == pytest.approx(tau, nan_ok=True)
        assert row["undefined"] == np.isnan(tau) or row["low"] <= row["estimate"] <= row["high"]
    assert 0 < rows["undefined"].sum() < 50, "clean test accuracy is the same for all models"


def test_changes_are_differences_on_the_same_models(made):
    rows, table = made.table("outcomes_change"), made.data.models
    assert list(rows.columns) == RESULT and len(rows) == 15 * len(made.ledger.columns)
    for row in rows.to_dict("records"):
        part = known(table, row["measure"], row["outcome"], "gap_pgd10")
        first, second = (
            kendalltau(part[row["measure"]], part[name]).statistic for name in ("gap_pgd10", row["outcome"])
        )
        assert row["tau"] == pytest.approx(first, nan_ok=True)
        assert row["tau_other"] == pytest.approx(second, nan_ok=True)
        assert row["estimate"] == pytest.approx(first - second, nan_ok=True) and row["n"] == len(part)
        assert row["undefined"] == np.isnan(first - second)
        assert row["undefined"] or row["family_low"] <= row["estimate"] <= row["family_high"]
        assert row["verdict"] == verdict(row["family_low"], row["family_high"])


def test_verdicts_of_intervals():
    cases = {(0.02, 0.3): CHANGES, (-0.3, -0.02): CHANGES, (-0.09, 0.1): SAME, (0.01, 0.05): SAME}
    cases |= {(-0.2, 0.05): UNDECIDED, (np.nan, np.nan): UNDECIDED}
    assert {ends: verdict(*ends) for ends in cases} == cases


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """64 configurations; `other` is another outcome, `twin` the gap on another scale; `genuine` follows the gap alone,
    `loyal` follows `other` alone, `null_0` neither."""
    table, rng = make_family(64, 0).table, np.random.default_rng(3)
    other = rng.permutation(table["gap"].to_numpy())
    noise = rng.standard_normal((2, len(table)))
    table = table.assign(other=other, twin=np.exp(table["gap"]), loyal=other + 0.5 * noise[0])
    return table.assign(copy=table["genuine"] + 1e-3 * noise[1])


MEASURES = ["genuine", "copy", "loyal", "null_0"]


def found(
    table: pd.DataFrame, measures=tuple(MEASURES), others=("other", "twin"), axes=tuple(AXES), draws=50
) -> pd.DataFrame:
    study = make_study(table, axes=list(axes), outcome="gap", measures=list(measures))
    return changes(study, list(others), draws=draws).set_index(["measure", "outcome"])


def test_a_planted_change_is_found_and_a_duplicate_is_none(table):
    rows = found(table)
    assert rows.loc[("genuine", "other"), "verdict"] == rows.loc[("loyal", "other"), "verdict"] == CHANGES
    assert rows.loc[("genuine", "other"), "family_low"] > 0 > rows.loc[("loyal", "other"), "family_high"]
    assert rows.loc[("null_0", "other"), "verdict"] != CHANGES
    duplicate = rows.xs("twin", level="outcome")
    assert (duplicate["estimate"] == 0).all() and (duplicate["verdict"] == SAME).all()
    assert (duplicate["family_high"] < MARGIN).all() and (duplicate["family_p"] == 1).all()


def test_neither_order_nor_names_nor_monotone_changes_matter(table):
    rows, rng = found(table), np.random.default_rng(0)
    shuffled = table.iloc[rng.permutation(len(table))].assign(
        other=lambda t: t["other"] ** 3, gap=lambda t: 5 * t["gap"]
    )
    again = found(shuffled, MEASURES[::-1], ("twin", "other"), AXES[::-1])
    numbers = ["tau", "tau_other", "estimate", "family_low", "family_high", "family_p", "verdict"]
    pd.testing.assert_frame_equal(again.loc[rows.index, numbers], rows[numbers])


def test_more_statements_widen_the_simultaneous_interval_alone(table):
    rows, alone = found(table), found(table, ["genuine"], ["other"])
    one, same = rows.loc[("genuine", "other")], alone.loc[("genuine", "other")]
    assert one["low"] == same["low"] and one["estimate"] == same["estimate"]
    assert one["family_low"] < same["family_low"]


def test_false_changes_are_as_rare_as_promised():
    """Measures, the gap and two other outcomes that have nothing to do with each other: no tau differs from another."""
    wrong = 0
    for number in range(60):
        table, rng = make_family(24, number).table, np.random.default_rng(number)
        noisy = table.assign(**{f"again_{k}": rng.permutation(len(table)) for k in range(2)})
        null = noisy.assign(gap=rng.permutation(len(table)), m=rng.standard_normal(len(table)))
        rows = found(null, ["m", "null_0"], ["again_0", "again_1"], draws=0)
        wrong += (rows["verdict"] == CHANGES).any()
    assert wrong <= 9, "at most 5 % are expected: more than 9 of 60 has a probability below 0.2 %"


def test_sentences_tell_changes_models_that_lack_an_outcome_and_what_accuracy_shows(made):
    told = outcome_sentences(made)
    assert "PGD-10 at L2 1/2 (2 of 64 models)" in told[0]
    assert any(one.startswith("Agreement with the PGD-10 generalization gap") for one in told)
    taus = made.table("outcomes_tau").query("statistic == 'tau'")
    (kim,) = [one for one in told if one.startswith("Kim et al. (NeurIPS 2023)")]
    total = 0
    for split, images in (("train", "training"), ("test", "test")):
        rows = taus[taus["outcome"] == f"pgd10_{split}"]
        clear = int(((rows["family_low"] > 0) | (rows["family_high"] < 0)).sum())
        total += clear
        assert f"{clear} of {len(rows)} measure columns on {images} images" in kim
    assert ("That does not hold here" in kim) == (total > 0)
    change = made.table("outcomes_change").query(f"outcome == 'gap_{OTHER}' and undefined == 0")
    (line,) = [one for one in told if "to the PGD-10 at L2 1/2 generalization gap" in one]
    count = int((change["verdict"] == CHANGES).sum())
    assert (f"changes for {count} of" if count else "changes for no measure column") in line
    assert not any("Losses" in one for one in told)


def test_a_ledger_with_one_outcome_or_none_is_told_without_errors(tmp_path):
    ledger = ledgers.make(tmp_path / "ledger", axes={"batch_size": [32, 128]}, troubles=False)
    for outcomes in (ledger.outcomes[ledger.outcomes["outcome"] == "pgd10"], ledger.outcomes.iloc[:0]):
        statistics = Statistics(Ledger(**{**vars_of(ledger), "outcomes": outcomes}))
        assert list(statistics.table("outcomes_tau").columns)
        assert statistics.table("outcomes_agreement")["estimate"].dropna().between(-1, 1).all()
        assert outcome_sentences(statistics)


def vars_of(ledger: Ledger) -> dict:
    return {name: getattr(ledger, name) for name in ("runs", "outcomes", "measures", "catalogue", "study", "path")}


def test_the_order_of_models_and_outcomes_in_a_ledger_does_not_matter(made):
    ledger = made.ledger
    outcomes = ledger.outcomes.sample(frac=1, random_state=1)
    again = Statistics(replace(ledger, outcomes=outcomes, runs=ledger.runs.sample(frac=1, random_state=2)))
    for name, key in (
        ("outcomes_tau", ["measure", "outcome", "statistic"]),
        ("outcomes_change", ["measure", "outcome"]),
    ):
        one, other = (source.table(name).set_index(key).sort_index() for source in (made, again))
        pd.testing.assert_frame_equal(one, other)
