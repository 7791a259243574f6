"""Flags: outlying models are found, and headlines stand beside those without flagged models."""

import itertools
import json

import ledger_cases
import ledgers
import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from robustgap.analysis.__main__ import main
from robustgap.analysis.ledger import BOTH, Ledger
from robustgap.analysis.models.flags import ALL, LEFT_OUT, OUTLYING, left_out, model_table
from robustgap.analysis.models.outliers import residual_bound, residuals, settings_columns
from robustgap.analysis.statistics import Statistics, StudyData, read_statistic
from robustgap.analysis.statistics_folder import write_statistics
from robustgap.analysis.tables import views
from robustgap.analysis.verdicts.unflagged import UNFLAGGED_COLUMNS, with_unflagged
from robustgap.analysis.words import FLAGS
from robustgap.training.overfitting import FLAG

AXES = {"a": "vwxy", "b": "01", "c": "01", "d": "01", "e": "01"}


def settings_of(seeds: int = 1) -> pd.DataFrame:
    return pd.DataFrame(itertools.product(*AXES.values(), map(str, range(seeds))), columns=[*AXES, "seed"])


def far(table: pd.DataFrame, axes=tuple(AXES)) -> np.ndarray:
    residual = residuals(table, axes, "gap")
    return np.flatnonzero(np.abs(residual) > residual_bound(residual))


def planted(seed: int) -> pd.DataFrame:
    """Main effects and two-way interactions, noise of 1, and one model 12 below what it should be."""
    rng, table = np.random.default_rng(seed), settings_of()
    columns = settings_columns(table, list(AXES), 2)
    table["gap"] = columns @ (5 * rng.standard_normal(columns.shape[1])) + rng.standard_normal(len(table))
    table.loc[17, "gap"] -= 12
    return table


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_outlier_is_found_whatever_the_settings_do(seed):
    table = planted(seed)
    assert far(table).tolist() == [17]
    for scale, shift in ((-3.0, 40.0), (1e-3, 1e3)):
        assert far(table.assign(gap=scale * table["gap"] + shift)).tolist() == [17]
    shuffled = table.sample(frac=1, random_state=0)
    assert shuffled.index[far(shuffled, tuple(AXES)[::-1])].tolist() == [17]


@pytest.mark.parametrize("gone", [-15.0, 40.0, 300.0])
def test_a_gross_outlier_names_no_sound_model_and_hides_none(gone):
    """Fitted along with the rest, one 300 off would draw the fit by some 100 where its settings are."""
    table = planted(2)
    table.loc[40, "gap"] += gone
    assert far(table).tolist() == [17, 40]


def test_residuals_are_those_of_least_squares_about_their_median():
    table = planted(0)
    levels = [pd.get_dummies(table[name], drop_first=True).to_numpy(float) for name in AXES]
    pairs = [left[:, [i]] * right[:, [j]] for left, right in itertools.combinations(levels, 2)
             for i in range(left.shape[1]) for j in range(right.shape[1])]  # fmt: skip
    columns = np.hstack([np.ones((64, 1)), *levels, *pairs])
    others = table.index != 17  # the one that is outlying
    left = table["gap"] - columns @ np.linalg.lstsq(columns[others], table["gap"][others], rcond=None)[0]
    found = residuals(table, list(AXES), "gap")
    np.testing.assert_allclose(found, left - left.median(), atol=1e-9)
    assert residual_bound(found) == pytest.approx(4 * 1.482602 * np.median(np.abs(left - left.median())), rel=1e-6)


def test_of_normal_outcomes_no_more_are_outlying_than_is_said():
    """1 model in 3,000, in 2 % of the tables (module docstring): of 300 tables of 64, 6 models expected."""
    rng, table = np.random.default_rng(0), settings_of()
    found = [len(far(table.assign(gap=rng.standard_normal(64)))) for _ in range(300)]
    assert sum(found) <= 18 and np.count_nonzero(found) <= 0.05 * 300


def test_nothing_is_judged_where_settings_leave_no_freedom():
    few = settings_of().head(20)  # main effects take 7 of 20; two-way interactions would leave too little
    few["gap"] = np.random.default_rng(0).standard_normal(20)
    assert not np.isnan(residuals(few, list(AXES), "gap")).any()
    assert np.isnan(residuals(few.head(9), list(AXES), "gap")).all() and not len(far(few.head(9)))
    exact = settings_of().assign(gap=lambda rows: 3.0 * (rows["b"] == "1") + (rows["a"] == "v"))
    assert not len(far(exact)) and np.isnan(residual_bound(residuals(exact, list(AXES), "gap")))
    assert np.isnan(residuals(exact, [], "gap")).all()
    foreign = pd.concat([planted(1), pd.DataFrame([dict.fromkeys(AXES, "NA") | {"gap": 1e3}])], ignore_index=True)
    assert far(foreign).tolist() == [17], "a model trained elsewhere has no settings to be judged by"


def test_a_model_that_is_both_checkpoints_is_expected_halfway():
    table = pd.DataFrame({"a": list("xxxyyy"), "checkpoint": ["last", "best", BOTH] * 2})
    columns = settings_columns(table, ["a", "checkpoint"], 2)
    np.testing.assert_allclose(columns[2], (columns[0] + columns[1]) / 2)
    np.testing.assert_allclose(columns[5], (columns[3] + columns[4]) / 2)


def flagged(path, model: str = "AT-32-true-none-s0", rise: float = 0.35) -> Ledger:
    """The digits' grid with one run whose gap is far too large, and two that are flagged in training."""
    ledger = ledgers.make(path, axes=ledger_cases.DIGITS, troubles=False)
    odd = ledger.outcomes["model"].str.startswith(model) & (ledger.outcomes["split"] != "test")
    odd &= ledger.outcomes["attack"] == "pgd10"
    runs = ledger.runs["run"].unique()
    told = {runs[20]: "diverged", runs[40]: f"{FLAG};diverged"}
    flags = ledger.runs["run"].map(told).fillna("")
    outcomes = ledger.outcomes.assign(accuracy=ledger.outcomes["accuracy"] + rise * odd)
    return ledger_cases.saved(ledger, outcomes=outcomes, runs=ledger.runs.assign(flags=flags))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flagged")
    ledger = flagged(folder / "ledger")
    write_statistics(Statistics(ledger), folder / "out")
    return ledger, folder / "out"


def test_outlying_models_are_listed_with_residual_and_bound(made):
    _, out = made
    models = pd.read_csv(out / "models.csv", keep_default_na=False).set_index("model")
    odd = models[models["flags"].str.contains(OUTLYING)]
    assert set(odd["run"]) == {"AT-32-true-none-s0"}
    assert (odd["residual_gap_pgd10"] > odd["bound_gap_pgd10"]).all()
    assert len(set(models["bound_gap_pgd10"])) == 1
    sound = models.drop(odd.index)
    assert (sound["residual_gap_pgd10"].abs() <= sound["bound_gap_pgd10"]).all()
    issues = pd.read_csv(out / "issues.csv").set_index("model")
    for model, row in odd.iterrows():
        told = issues.loc[[model]].query("issue == 'outlying'")["reason"].item()
        assert told.startswith(FLAGS[OUTLYING].reason)
        assert f"residual +{row['residual_gap_pgd10']:.1f} points, bound {row['bound_gap_pgd10']:.1f}" in told
    text = " ".join(json.loads((out / "findings.json").read_text())["sentences"])
    assert f"{len(odd)} {FLAGS[OUTLYING].models}" in text


def test_tau_is_also_given_without_each_flag_and_without_all(made):
    ledger, out = made
    table, found = model_table(ledger), read_statistic(out, "correlations")
    every = {flag: table["flags"].str.contains(flag).to_numpy() for flag in LEFT_OUT}
    every[ALL] = np.any([*every.values()], axis=0)
    assert {flag: rows.tolist() for flag, rows in left_out(table).items()} == {f: r.tolist() for f, r in every.items()}
    summary = read_statistic(out, "summary").set_index("measure")
    for flag, rows in every.items():
        part = found[(found["statistic"] == f"tau_without_{flag}") & (found["measure"] == "average_ce")]
        kept = table[~rows]
        assert part["n"].item() == len(kept) < len(table)
        tau = kendalltau(kept["average_ce"], kept["gap_pgd10"]).statistic
        assert part["estimate"].item() == pytest.approx(tau)
        assert summary.loc["average_ce", f"tau_without_{flag}"] == pytest.approx(tau)
        assert summary.loc["average_ce", f"tau_without_{flag}_n"] == len(kept)
    sentences = " ".join(json.loads((out / "findings.json").read_text())["sentences"])
    for flag, rows in every.items():
        assert f"Computed without the {rows.sum()} models {FLAGS[flag].models}, tau changes by at most 0." in sentences


def test_all_headlines_and_verdicts_stand_beside_those_of_the_other_models(made):
    ledger, out = made
    data = StudyData.of_ledger(ledger)
    kept = data.models[~left_out(data.models)[ALL]].reset_index(drop=True)
    pd.testing.assert_frame_equal(data.unflagged.models, kept)
    assert data.unflagged.unflagged is None
    claims = read_statistic(out, "claims").set_index("measure")
    own = data.unflagged.verdicts["claims"].set_index("measure")
    assert claims["verdict_without_flagged"].to_dict() == own["verdict"].to_dict()
    assert claims["axis_without_flagged"].to_dict() == own["axis"].to_dict()
    assert claims["n_without_flagged"].dropna().to_dict() == own["n"].dropna().to_dict()
    without = json.loads((out / "findings.json").read_text())["without_flagged"]
    assert without["sample"]["models"] == len(kept) and without["sentences"][0].startswith(f"{len(kept)} models of ")
    shown = views(Statistics(ledger, out))["verdicts"]
    marks = dict(zip(shown.frame["measure"], shown.frame["without"], strict=True))
    same = (claims["verdict"] + claims["axis"]) == (claims["verdict_without_flagged"] + claims["axis_without_flagged"])
    assert {name: mark == "the same" for name, mark in marks.items()} == same.to_dict()
    assert main(["claims", str(ledger.path), "--out", str(out / "again")]) == 0
    again = pd.read_csv(out / "again" / "claims.csv", keep_default_na=False)
    assert again[["measure", *UNFLAGGED_COLUMNS[:2]]].equals(claims.reset_index()[["measure", *UNFLAGGED_COLUMNS[:2]]])


def test_where_no_model_is_flagged_nothing_is_computed_again(tmp_path):
    ledger = ledgers.make(tmp_path, axes={"defense": ["AT", "TRADES"], "awp": [False, True]}, troubles=False)
    data = StudyData.of_ledger(ledger)
    assert left_out(data.models) == {} and data.unflagged is None and Statistics(ledger).unflagged is None
    verdict = pd.DataFrame({"measure": ["m"], "verdict": ["replicates"], "axis": [""], "n": [4]})
    assert with_unflagged(verdict, None)[UNFLAGGED_COLUMNS[:2]].to_numpy().tolist() == [["", ""]]
    changed = with_unflagged(verdict, verdict.assign(verdict="unresolved", n=3))
    assert changed[UNFLAGGED_COLUMNS].to_numpy().tolist() == [["unresolved", "", 3]]
