"""`python -m robustgap.analysis statistics`: tables that agree with the ledger, sentences that claim what intervals
bear out."""

import json
import subprocess
import sys
from dataclasses import replace

import ledger_cases
import ledgers
import numpy as np
import pandas as pd
import pytest

from robustgap.analysis.__main__ import main
from robustgap.analysis.commands import PUBLISHED, find_ledger
from robustgap.analysis.findings.sentences import listed, sentences
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.models.flags import model_table
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics.correlations import RESULT
from robustgap.analysis.statistics.summary import sign_support
from robustgap.analysis.statistics_folder import write_statistics
from robustgap.workflow.jobs import statistic_names


def read(out, name: str) -> pd.DataFrame:
    return pd.read_csv(out / f"{name}.csv", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(ledger, output folder) of the usual synthetic study."""
    folder = tmp_path_factory.mktemp("study")
    ledger = ledgers.make(folder / "ledger")
    assert main(["statistics", str(folder / "ledger"), "--out", str(folder / "out")]) == 0
    return ledger, folder / "out"


def test_the_workflow_declares_what_is_written(made):
    """Names are those of files, which the Snakefile lists without importing them."""
    written = {path.name for path in made[1].iterdir()}
    assert written == {"findings.json", *(f"{name}.csv" for name in statistic_names())}
    rule = (PUBLISHED.parents[1] / "workflow" / "rules" / "analysis.smk").read_text()
    declared = rule.split("log:")[0].split("output:")[1]
    assert "findings.json" in declared and "for name in statistic_names()" in declared


def test_correlations_hold_the_variants_of_tau(made):
    ledger, out = made
    found = read(out, "correlations")
    assert list(found.columns.drop("kind")) == RESULT
    variants = {"tau_rest", "tau_without_robust_floor", "tau_without_flagged"}
    assert set(found["statistic"]) == {"tau", "tau_a", "spearman", "psi", "pi"} | variants
    taus = found[found["measure"] == "average_ce"].set_index("statistic")
    floor = (ledger.models()["flags"].str.contains("robust_floor")).sum()
    assert int(taus.loc["tau", "n"]) - int(taus.loc["tau_without_robust_floor", "n"]) == floor > 0
    assert taus.loc["tau_rest", "estimate"] == taus.loc["tau", "estimate"], "same gaps, same tau"


def test_summary_counts_missing_values_and_compares_signs(made):
    ledger, out = made
    summary = read(out, "summary").set_index("measure")
    assert list(summary.index[summary["kind"] == "measure"]) == ledger.columns
    standard = (ledger.models()["defense"] == "Standard").sum()
    assert summary.loc["boundary_thickness", "missing"] == str(standard)
    assert summary.loc["boundary_thickness", "reasons"] == f"{standard} x no segment reached the other class"
    assert summary.loc["average_ce", ["expected", "agrees"]].tolist() == ["-1", "yes"]
    assert summary.loc["num_params", ["tau", "agrees"]].tolist() == ["", "unresolved"]


def test_signs_agree_only_where_the_interval_excludes_zero():
    assert sign_support(None, 0.1, 0.2) == ""
    assert sign_support(1, 0.1, 0.2) == sign_support(-1, -0.2, -0.1) == "yes" and sign_support(-1, 0.1, 0.2) == "no"
    assert sign_support(1, -0.1, 0.2) == sign_support(1, np.nan, np.nan) == "unresolved"


def test_issues_list_every_failed_collapsed_or_flagged_model(made):
    ledger, out = made
    issues = read(out, "issues")
    runs = ledger.runs.set_index("model")
    for status in ("failed", "collapsed"):
        assert set(issues.loc[issues["issue"] == status, "model"]) == set(runs.index[runs["status"] == status])
    assert set(issues.loc[issues["issue"] == "best_is_last", "run"]) == {"Standard-32-true-s0"}
    floor = ledger.outcomes.loc[ledger.outcomes["flags"] != "", "model"]
    assert set(issues.loc[issues["issue"] == "robust_floor", "model"]) == set(floor) - {"Standard-32-true-s0-best"}
    assert (issues["reason"] != "").all() and issues["settings"].str.contains("defense=").all()
    assert issues["issue"].drop_duplicates().tolist()[:2] == ["failed", "collapsed"]


def test_models_table_is_the_wide_table(made):
    ledger, out = made
    assert read(out, "models").shape == model_table(ledger).shape
    assert set(ledger.models()) < set(read(out, "models"))


def test_findings_are_numbers_that_the_sentences_repeat(made):
    ledger, out = made
    findings = json.loads((out / "findings.json").read_text())
    told = findings.pop("sentences")
    assert told == sentences(findings)
    assert findings["sample"]["models"] == len(ledger.models())
    text = " ".join(told)
    assert "59 models of 15 configurations are analysed, of 63 planned." in text
    assert "not corrected for the number of measures" in text


def test_a_sign_depends_on_an_axis_only_where_enough_configurations_say_so(made, tmp_path):
    """boundary_thickness is built to rise with the gap under TRADES and to fall elsewhere."""
    ledger, out = made
    found = read(out, "correlations")
    pi = found[(found["statistic"] == "pi") & (found["measure"] == "boundary_thickness")].set_index("value")
    assert float(pi.loc["TRADES", "low"]) > 0 > float(pi.loc["AT", "high"])
    assert findings_of(ledger, tmp_path / "few")["sign_changes"] == [], "from 4 configurations of each defense"
    many = findings_of(ledgers.make(tmp_path / "ledger", axes=ledger_cases.DIGITS), tmp_path / "many")
    assert [(change["measure"], change["axis"]) for change in many["sign_changes"]] == [
        ("boundary_thickness", "defense")
    ]
    told = "boundary_thickness: the sign of its relation with the gap depends on defense. Pi is +"
    assert told in " ".join(many["sentences"])


def test_sentences_name_measures_and_write_numbers_as_figures_do(made):
    told = " ".join(json.loads((made[1] / "findings.json").read_text())["sentences"])
    assert "average_ce (adversarial) −0." in told and "average_ce (clean)" in told
    assert ".adv" not in told and " -" not in told and "[-" not in told


def test_sentences_tell_what_noise_is_and_whether_shared_images_are_known(made, tmp_path):
    ledger, out = made
    told = " ".join(json.loads((out / "findings.json").read_text())["sentences"])
    assert "main effects of the settings" in told and "Noise bounds tau: the largest to be expected is +0." in told
    assert "image noise of different models was taken to be independent" in told
    rng, table, rows = np.random.default_rng(0), ledger.models(), []
    for split in ("train", "test"):
        hard = rng.random(200)
        for model, accuracy in zip(table["model"], table[f"pgd10_{split}"] / 100, strict=True):
            bits = np.packbits(hard + 0.2 * rng.random(200) < accuracy)
            rows.append({"model": model, "split": split, "attack": "pgd10", "n": 200, "bits": bits.tobytes()})
    saved = ledger_cases.saved(replace(ledger, path=tmp_path / "ledger"))
    pd.DataFrame(rows).assign(index_sha="0").to_parquet(saved.path / "bits.parquet")
    found = findings_of(saved, tmp_path / "out")
    assert main(["claims", str(saved.path), "--out", str(tmp_path / "alone")]) == 0
    for name in ("claims", "statements"):
        assert read(tmp_path / "alone", name).equals(read(tmp_path / "out", name)), "one ledger, one verdict"
    assert found["noise"]["shared_images"] and not any("independent" in words for words in found["sentences"])


def pure_noise(folder) -> Ledger:
    """A ledger whose measures have nothing to do with the gap."""
    ledger = ledgers.make(folder, troubles=False)
    value = np.random.default_rng(7).standard_normal(len(ledger.measures))
    return ledger_cases.saved(ledger, measures=ledger.measures.assign(value=value))


def settings_proxy(folder) -> Ledger:
    """A ledger whose only measure is a function of the defense alone."""
    ledger = ledgers.make(folder, axes=ledger_cases.DIGITS, troubles=False)
    measures = ledger.measures[ledger.measures["measure"] == "average_ce"]
    defense = ledger.runs.set_index("model")["defense"].map(ledgers.EFFECT)
    return ledger_cases.saved(ledger, measures=measures.assign(value=measures["model"].map(defense)))


def findings_of(ledger: Ledger, out) -> dict:
    write_statistics(Statistics(ledger), out)
    return json.loads((out / "findings.json").read_text())


def test_noise_is_not_called_a_finding(tmp_path):
    found = findings_of(pure_noise(tmp_path / "ledger"), tmp_path)
    assert found["strongest"] == [] and found["sign_changes"] == []
    assert any(
        sentence.startswith("No measure's tau has a single 95% interval that excludes 0")
        for sentence in found["sentences"]
    )


def test_a_proxy_of_the_settings_is_told_as_perhaps_one(tmp_path):
    found = findings_of(settings_proxy(tmp_path / "ledger"), tmp_path)
    strong = found["strongest"][0]
    assert strong["estimate"] > 0.4 and strong["psi"]["same"] == ["defense"]
    assert set(strong["psi"]["unresolved"]) == {"batch_size", "awp", "augmentation", "checkpoint"}


def test_few_cells_that_agree_are_not_called_a_finding(made):
    """Four blocks of cells agree by chance once in eight times, and their bootstrap has no width."""
    _, out = made
    found = read(out, "correlations")
    psi = found[(found["statistic"] == "psi") & (found["axis"] == "defense") & (found["given_axis"] == "")]
    assert float(psi.set_index("measure").loc["average_ce", "high"]) < 0
    for one in json.loads((out / "findings.json").read_text())["strongest"]:
        assert "defense" in one["psi"]["unresolved"]


@pytest.mark.parametrize("name", ledger_cases.CASES)
def test_odd_studies_have_statistics_too(tmp_path, name):
    found = findings_of(ledger_cases.CASES[name](tmp_path / "ledger"), tmp_path)
    assert found["sentences"] and all(told.endswith(".") for told in found["sentences"])
    assert not any("nan" in told or "None" in told for told in found["sentences"])


def test_lists_of_words():
    assert [listed(list("abcdefg"[:n])) for n in (0, 1, 2, 3)] == ["", "a", "a and b", "a, b and c"]
    assert listed(list("abcdefg"), most=3) == "a, b and 5 others"


def test_a_study_that_asks_for_an_unknown_outcome_is_refused(tmp_path):
    ledger = ledgers.make(tmp_path)
    study = {**ledger.study, "study": {**ledger.study["study"], "analysis": {"outcome": "gap_pgd20"}}}
    with pytest.raises(ValueError, match=r"study\.json: analysis\.outcome: found 'gap_pgd20', wanted one of gap_clean"):
        ledger_cases.saved(ledger, study=study)


def test_a_ledger_is_found_by_folder_or_by_study_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ledgers.make("results/mine/ledger")
    assert find_ledger("mine") == find_ledger("results/mine/ledger")
    shipped = tmp_path / "published"
    monkeypatch.setattr("robustgap.analysis.commands.PUBLISHED", shipped)
    ledgers.make(shipped / "mine")
    ledgers.make(shipped / "other")
    assert find_ledger("mine").parts[0] == "results", "what was run here comes before what is shipped"
    assert find_ledger("other") == shipped / "other"
    assert main(["figures", "none"]) == 1
    assert "none: found no ledger" in capsys.readouterr().err
    assert PUBLISHED.parent.name == "analysis"


def test_everything_but_figures_works_without_torch_or_matplotlib(made):
    """Statistics start quickly, and on a machine with neither training nor drawing packages."""
    ledger, out = made
    code = (
        "import sys; from robustgap.analysis.__main__ import main;"
        f"assert main(['statistics', {str(ledger.path)!r}, '--out', {str(out)!r}]) == 0;"
        "assert not {'torch', 'matplotlib', 'seaborn', 'training', 'measures'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PUBLISHED.parents[1])
