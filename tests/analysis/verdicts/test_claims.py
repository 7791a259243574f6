"""The rule of verdicts on statements made by hand, its sentences, and `python -m robustgap.analysis claims`."""

import json

import ledger_cases
import numpy as np
import pandas as pd
import pytest

from benchmarks.known_answers import AXES, make, make_family
from robustgap.analysis.__main__ import main
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.ranks.influence import t_interval
from robustgap.analysis.verdicts.claims import RESULT, claims, judge, read_signs, verdicts
from robustgap.analysis.verdicts.max_t import critical
from robustgap.analysis.verdicts.statements import RESULT as STATEMENT
from robustgap.analysis.verdicts.statements import Bases, pis, statements

NAN = float("nan")


def tau(estimate: float, low: float, high: float) -> dict:
    return {"statistic": "tau", "estimate": estimate, "family_low": low, "family_high": high, "configurations": 24}


def pi(axis: str, value: str, estimate: float, low: float, high: float) -> dict:
    return {**tau(estimate, low, high), "statistic": "pi", "axis": axis, "value": value}


def grown(estimate: float, low: float, high: float, slope: int = 1) -> list[dict]:
    row = {"statistic": "increment", "estimate": estimate, "family_low": low, "family_high": high, "slope": slope}
    return [{**row, "learner": "ridge"}, {**row, "learner": "trees"}]


CLEAR, ABOVE, NOTHING, VAGUE = tau(0.5, 0.3, 0.7), grown(0.05, 0.01, 0.09), grown(0, -0.01, 0.009), grown(0, -0.1, 0.1)


@pytest.mark.parametrize(
    ("rows", "sign", "verdict"),
    [
        ([CLEAR, *ABOVE], 1, "replicates"),
        ([CLEAR, *ABOVE], None, "replicates"),
        ([CLEAR, *ABOVE], -1, "unresolved"),
        ([tau(-0.5, -0.7, -0.3), *grown(0.05, 0.01, 0.09, -1)], -1, "replicates"),
        ([CLEAR, *grown(0.05, 0.01, 0.09, -1)], 1, "unresolved"),
        ([CLEAR, ABOVE[0], VAGUE[1]], 1, "unresolved"),
        ([CLEAR, *NOTHING], 1, "proxy of the settings"),
        ([CLEAR, *NOTHING], -1, "proxy of the settings"),
        ([CLEAR, NOTHING[0], VAGUE[1]], 1, "unresolved"),
        ([CLEAR, ABOVE[0], NOTHING[1]], 1, "unresolved"),
        ([CLEAR, *grown(NAN, NAN, NAN)], 1, "unresolved"),
        ([tau(0.1, -0.1, 0.3), *ABOVE], 1, "unresolved"),
        ([tau(0.1, -0.1, 0.3), *NOTHING], 1, "unresolved"),
        ([tau(NAN, NAN, NAN), *NOTHING], 1, "unresolved"),
        ([tau(0.5, NAN, NAN), *ABOVE], 1, "unresolved"),
        ([CLEAR, *ABOVE, pi("a", "x", 0.4, 0.1, 0.7), pi("a", "y", -0.4, -0.7, -0.1)], 1, "sign depends"),
        ([CLEAR, *ABOVE, pi("a", "x", 0.4, 0.1, 0.7), pi("a", "y", -0.4, -0.7, 0.1)], 1, "replicates"),
        ([CLEAR, *ABOVE, pi("a", "x", 0.4, 0.1, 0.7), pi("b", "y", -0.4, -0.7, -0.1)], 1, "replicates"),
    ],
)
def test_the_rule(rows, sign, verdict):
    found, axis, reason = judge(rows, sign)
    assert found == verdict
    assert axis == ("a" if verdict == "sign depends" else "")
    assert reason[0].isupper() and reason.endswith(".") and "\n" not in reason


def test_sentences_carry_the_numbers_of_the_verdict():
    _, _, reason = judge([CLEAR, *ABOVE], None)
    assert reason == (
        "Tau is +0.50 [+0.30, +0.70] (no sign was declared: two-sided), and the increment in R2 over the settings is"
        " +0.050 [+0.010, +0.090] by ridge regression and +0.050 [+0.010, +0.090] by boosted trees."
    )
    rows = [CLEAR, pi("a", "x", 0.4, 0.1, 0.7), pi("a", "y", -0.4, -0.7, -0.1)]
    rows += [pi("b", "u", 0.9, 0.8, 1), pi("b", "v", -0.9, -1, -0.8)]
    assert judge(rows, 1)[1:] == ("b", "Pi is +0.90 [+0.80, +1.00] at b = u but −0.90 [−1.00, −0.80] at b = v.")


@pytest.mark.parametrize(
    ("increments", "told"),
    [
        (VAGUE, "0.000 [−0.100, +0.100] by boosted trees: neither clearly above 0 nor clearly below 0.01."),
        (
            [ABOVE[0], VAGUE[1]],
            "is +0.050 [+0.010, +0.090] by ridge regression, clearly above 0, but +0.000 [−0.100, +0.100] by boosted "
            "trees, neither clearly above 0 nor clearly below 0.01.",
        ),
        (
            [VAGUE[0], ABOVE[1]],
            "is +0.050 [+0.010, +0.090] by boosted trees, clearly above 0, but +0.000 [−0.100, +0.100] by ridge "
            "regression, neither clearly above 0 nor clearly below 0.01.",
        ),
        (
            [ABOVE[0], NOTHING[1]],
            "clearly above 0, but +0.000 [−0.010, +0.009] by boosted trees, clearly below 0.01, so not clearly above "
            "0.",
        ),
        (
            [NOTHING[0], VAGUE[1]],
            "by ridge regression, clearly below 0.01, so not clearly above 0 and +0.000 [−0.100, +0.100] by boosted "
            "trees, neither clearly above 0 nor clearly below 0.01.",
        ),
    ],
)
def test_only_the_part_that_failed_is_said_to_have_failed(increments, told):
    verdict, _, reason = judge([CLEAR, *increments], 1)
    assert verdict == "unresolved" and reason.endswith(told)


@pytest.fixture(scope="module")
def family() -> tuple[pd.DataFrame, list[str]]:
    table = make_family(64, 1).table.assign(constant=1.0, missing=np.nan)
    return table, ["genuine", "axis_proxy", "interaction_proxy", "sign_flip", "null_0", "constant", "missing"]


def test_statements_are_tidy_and_verdicts_follow_from_them(family):
    table, measures = family
    signs = dict.fromkeys(measures, 1)
    verdict, found = claims(table, axes=AXES, outcome="gap", measures=measures, signs=signs, se="se_gap")
    assert list(found.columns) == STATEMENT and list(verdict.columns) == RESULT
    pd.testing.assert_frame_equal(verdict, verdicts(found, signs))
    assert verdict["measure"].tolist() == measures
    counts = found.groupby("statistic")["measure"].count() / len(measures)
    assert counts.to_dict() == {"tau": 1, "tau_expected": 1, "pi": 4 + 4 + 2 + 2 + 2, "increment": 2}
    known = found[found["low"].notna()]
    assert (known["family_low"] <= known["low"]).all() and (known["family_high"] >= known["high"]).all()
    assert (known["low"] <= known["estimate"]).all() and (known["estimate"] <= known["high"]).all()
    empty = found[found["measure"].isin(["constant", "missing"])]
    assert empty[["estimate", "low", "family_p", "fdr_q"]].isna().all(axis=None) and (empty["undefined"] == 1).all()
    assert dict(zip(measures, verdict["verdict"], strict=True)) == {
        "genuine": "replicates",
        "axis_proxy": "proxy of the settings",
        "interaction_proxy": "proxy of the settings",
        "sign_flip": "sign depends",
        **dict.fromkeys(["null_0", "constant", "missing"], "unresolved"),
    }


def test_more_measures_widen_family_intervals_only(family):
    table, measures = family
    one = statements(make_study(table, axes=AXES, outcome="gap", measures=["genuine"])).set_index(STATEMENT[1:5])
    all_ = statements(make_study(table, axes=AXES, outcome="gap", measures=measures))
    many = all_[all_["measure"] == "genuine"].set_index(STATEMENT[1:5]).loc[one.index]
    np.testing.assert_allclose(many[["estimate", "low", "high"]], one[["estimate", "low", "high"]])
    wider = (many["family_high"] - many["family_low"]) - (one["family_high"] - one["family_low"])
    assert (wider.dropna() >= -1e-12).all() and wider["tau"].max() > 0


def test_intervals_of_pi_spend_their_5_percent_on_one_side(family):
    table, measures = family
    study = make_study(table, axes=AXES, outcome="gap", measures=measures)
    made = pis(study, Bases(study.levels))
    one_sided, two_sided = (critical(np.stack([one.parts for one in made], axis=1), two_sided=two) for two in (0, 1))
    assert one_sided < two_sided
    found = statements(study)
    rows = found[(found["statistic"] == "pi") & (found["measure"] == "genuine")]
    wanted = [
        t_interval(one.estimate, one.se, one.free, one_sided)[0] for one in made if one.key["measure"] == "genuine"
    ]
    np.testing.assert_allclose(rows["family_low"], wanted)


def test_models_trained_elsewhere_are_left_out(family):
    table, _ = family
    foreign = pd.DataFrame({**dict.fromkeys([*AXES, "seed"], "NA"), "gap": [5.0, 90], "genuine": [1e6, -1e6]})
    options = {"axes": AXES, "outcome": "gap", "measures": ["genuine"]}
    both = [claims(rows, **options)[0] for rows in (table, pd.concat([table, foreign], ignore_index=True))]
    pd.testing.assert_frame_equal(*both)


def run(path, out, *more: str) -> int:
    given = ["--axes", ",".join(AXES), "--seed-column", "seed", "--outcome", "gap", "--measures", "m"]
    return main(["claims", str(path), *given, "--out", str(out), *more])


@pytest.fixture
def path(tmp_path):
    _, ledger = make("interaction_proxy", 24, 1)
    ledger.table.to_csv(tmp_path / "a.csv", index=False)
    return tmp_path / "a.csv"


def test_a_table_gives_its_verdicts_and_says_how(path, tmp_path, capsys):
    assert run(path, tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "no declared sign, so tested two-sided: m" in told and "tau_expected" in told and "96 models" in told
    verdict = pd.read_csv(tmp_path / "out" / "claims.csv", keep_default_na=False)
    assert verdict["kind"].tolist() == ["measure", "control", "control"]
    assert verdict["verdict"][0] == "proxy of the settings" and set(verdict["tau_expected"]) == {""}
    assert "Check passed: a random number" in told and "fdr_q bounds the share of wrong ones" in told
    assert (tmp_path / "out" / "statements.csv").is_file()
    signs = tmp_path / "signs.json"
    signs.write_text('{"m": 1}')
    assert run(path, tmp_path / "out", "--signs", str(signs), "--se-column", "se_gap") == 0
    assert "two-sided" not in capsys.readouterr().out
    verdict = pd.read_csv(tmp_path / "out" / "claims.csv")
    assert verdict["sign"][0] == 1 and verdict["tau_expected"].notna().all()


def test_signs_come_from_a_plain_file_or_a_catalogue(tmp_path):
    path = tmp_path / "signs.json"
    path.write_text('{"a": 1, "b.adv": -1, "c": null}')
    assert read_signs(path) == {"a": 1, "b.adv": -1, "c": None}
    entry = {"family": "x", "expects": {"clean": 1, "adversarial": -1}}
    path.write_text(json.dumps({"a": entry, "b": {"expects": {}}, "c": {"expects": {"none": None}}}))
    assert read_signs(path) == {"a": 1, "a.adv": -1, "c": None}


@pytest.mark.parametrize(
    ("signs", "message"),
    [
        ("{", "signs.json"),
        ('{"m": 2}', "found sign 2 of 'm', wanted 1, -1 or null"),
        ('{"m": "+"}', 'found sign "+"'),
        ('{"m": {"expects": [1]}}', "found [1] as what 'm' expects"),
    ],
)
def test_bad_signs_are_one_line(path, tmp_path, capsys, signs, message):
    (tmp_path / "signs.json").write_text(signs)
    assert run(path, tmp_path / "out", "--signs", str(tmp_path / "signs.json")) == 1
    told = capsys.readouterr().err.strip()
    assert message in told and "\n" not in told


@pytest.mark.parametrize(("errors", "message"), [(-1, "has -1, wanted"), ("", "has no value"), ("x", "found 'x'")])
def test_bad_standard_errors_are_one_line(tmp_path, capsys, errors, message):
    make("null", 24, 0)[1].table.assign(se_gap=errors).to_csv(tmp_path / "a.csv", index=False)
    assert run(tmp_path / "a.csv", tmp_path / "out", "--se-column", "se_gap") == 1
    told = capsys.readouterr().err.strip()
    assert message in told and "standard error column 'se_gap'" in told and "\n" not in told


def test_a_table_needs_axes_and_outcome(path, tmp_path, capsys):
    assert main(["claims", str(path), "--outcome", "gap", "--out", str(tmp_path)]) == 1
    assert "wanted --axes and --outcome" in capsys.readouterr().err


def test_a_ledger_knows_its_axes_outcome_and_signs(tmp_path, capsys):
    folder = "analysis/published/digits"
    assert main(["claims", folder, "--measures", "path_norm,num_params", "--out", str(tmp_path)]) == 0
    ledger, verdict = Ledger.load(folder), pd.read_csv(tmp_path / "claims.csv")
    assert set(verdict["kind"]) == {"measure", "baseline", "control"}
    verdict = verdict[verdict["kind"] == "measure"]
    assert verdict["measure"].tolist() == ["path_norm", "num_params"]
    assert verdict["sign"].fillna(0).tolist() == [ledger.expects(name) or 0 for name in verdict["measure"]]
    assert "227 models" in capsys.readouterr().out
    assert main(["claims", folder, "--measures", "nothing", "--out", str(tmp_path)]) == 1
    assert "wanted column nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--measures", "architecture"], "row 1: found 'mlp' in column 'architecture', wanted a number"),
        (["--outcome", "gap_pgd1"], "--outcome: found 'gap_pgd1', wanted one of gap_clean"),
        (["--outcome", "test:pgd1"], "the nearest is pgd10_test"),
        (["--outcome", "pgd10_train", "--state", "pgd10_train"], "--state: found 'pgd10_train', which is the outcome"),
        (["--axes", "data", "--measures", "path_norm"], "axis 'data' has the one value 'digits', wanted at least two"),
    ],
)
def test_what_a_ledger_cannot_give_is_one_line(tmp_path, capsys, more, message):
    assert main(["claims", "analysis/published/digits", *more, "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err.strip()
    assert message in told and "\n" not in told and not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", ["robustbench", "nothing_trained"])
def test_a_ledger_without_a_grid_is_one_line(tmp_path, capsys, case):
    ledger = ledger_cases.CASES[case](tmp_path / "ledger")
    assert main(["claims", str(ledger.path), "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err.strip()
    assert str(ledger.path) in told and "wanted at least two models of the grid with different ones" in told
    assert "\n" not in told
