"""Snakemake from a study file to its report, and what runs again when something changes.

Everything starts from one finished digits-tiny study; its group keeps these tests in one worker.
"""

import json
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml
from trees import ROOT, Tree

from robustgap.workflow.estimate import disk

pytestmark = [pytest.mark.study, pytest.mark.xdist_group("study")]

STUDY = "workflow/config/digits-tiny.yaml"
RESULTS = "results/digits-tiny"
# What stands after the measures: it runs again whenever a measure's table changes.
AFTER = Counter(["ledger", "analysis", "tables", "figures", "report"])


def table(tree: Tree, name: str) -> pd.DataFrame:
    return pd.read_parquet(tree.path / RESULTS / "ledger" / f"{name}.parquet")


def chunks(tree: Tree) -> int:
    return len(list((tree.path / RESULTS / "outcomes").glob("*.parquet")))


def test_a_study_runs_to_its_report(finished: Tree):
    assert finished.first is not None and finished.first.code == 0, finished.first.text
    n = chunks(finished)
    assert n == 2  # digits-tiny is laid out so that more than one chunk has models
    once = ["data", "catalogue", "all"]
    per_chunk = ["train", "outcomes", "outcome_fgsm", "compute_average_ce", "compute_path_norm", "compute_prob_margin"]
    assert finished.first.jobs == AFTER + Counter(once) + Counter({rule: n for rule in per_chunk})
    assert (finished.path / RESULTS / "report.html").stat().st_size > 1000
    runs = table(finished, "runs")
    assert len(runs) == 8 and set(runs["status"]) == {"finished"}
    measures = table(finished, "measures")
    assert set(measures["measure"]) == {"average_ce", "prob_margin", "path_norm"} and measures["value"].notna().all()


def test_every_job_leaves_a_log_and_a_benchmark(finished: Tree):
    results = finished.path / RESULTS
    logs = {file.relative_to(results / "logs").with_suffix("") for file in (results / "logs").rglob("*.log")}
    timed = {file.relative_to(results / "benchmarks").with_suffix("") for file in results.rglob("*.tsv")}
    assert finished.first is not None
    assert logs == timed and len(logs) == sum(finished.first.jobs.values()) - 1  # all but the target `all`


def test_a_study_takes_as_much_disk_as_its_plan_says(finished: Tree):
    """Within a factor of two, in the blocks that its files take."""
    results = finished.path / RESULTS
    taken = sum(file.stat().st_blocks * 512 for file in results.rglob("*") if file.is_file())
    told = disk.bytes_by_kind(json.loads((results / "plan.json").read_text()))
    assert taken / 2 <= sum(told.values()) - told["training"] <= taken * 2


def test_a_second_run_has_nothing_to_do(finished: Tree):
    again = finished.run("digits-tiny")
    assert again.code == 0 and "Nothing to be done" in again.text and not again.jobs


def test_the_targets_exist(finished: Tree):
    result = finished.plan("digits-tiny", "all", "ledger", "figures", "report", "measure_path_norm")
    assert result.code == 0 and not result.jobs
    zoo = finished.plan("robustbench", "robustbench")
    assert zoo.code == 0 and {"outcomes", "compute_average_ce"} <= set(zoo.jobs) and "ledger" not in zoo.jobs


def test_snakemakes_own_report_is_written(finished: Tree, tmp_path: Path):
    result = finished.run("digits-tiny", "--report", str(tmp_path / "report.zip"))
    assert result.code == 0, result.text
    assert (tmp_path / "report.zip").stat().st_size > 10_000


def test_a_new_measure_runs_alone(finished: Tree, tmp_path: Path):
    tree = finished.copy(tmp_path / "project")
    written = tree.command("python", "-m", "robustgap.measures", "new", "my_measure")
    assert written.code == 0, written.text
    tree.edit(STUDY, "[average_ce, ", "[my_measure, average_ce, ")
    result = tree.run("digits-tiny")
    assert result.code == 0, result.text
    assert result.jobs == Counter({"compute_my_measure": chunks(tree)}) + Counter(["catalogue", "all"]) + AFTER
    found = table(tree, "measures").query("measure == 'my_measure'")
    assert set(found["variant"]) == {"clean", "adversarial"} and len(found) == 16 and found["value"].notna().all()
    correlations = pd.read_csv(tree.path / RESULTS / "analysis" / "correlations.csv")
    assert {"my_measure", "my_measure.adv"} <= set(correlations["measure"])


def test_a_new_outcome_runs_alone(finished: Tree, tmp_path: Path):
    tree = finished.copy(tmp_path / "project")
    tree.edit(STUDY, "pgd10]", 'pgd10, "pgd10@Linf:1/20", deepfool, "fgsm@Linf:0"]')
    result = tree.run("digits-tiny")
    assert result.code == 0, result.text
    new = Counter({rule: chunks(tree) for rule in ("outcome_pgd10", "outcome_deepfool", "outcome_fgsm")})
    assert result.jobs == new + Counter(["all"]) + AFTER
    outcomes, before = table(tree, "outcomes"), table(finished, "outcomes")
    kept = outcomes[outcomes["outcome"].isin(before["outcome"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)
    assert set(outcomes["outcome"]) - set(before["outcome"]) == {"pgd10@Linf:1/20", "deepfool", "fgsm@Linf:0"}
    numbers = outcomes.set_index(["outcome", "model", "split"])[["accuracy", "loss"]]
    pd.testing.assert_frame_equal(numbers.loc["fgsm@Linf:0"], numbers.loc["clean"])


def test_a_measure_in_another_language_is_one_rule(finished: Tree, tmp_path: Path):
    tree = finished.copy(tmp_path / "project")
    shutil.copy(ROOT / "docs" / "robust_epochs.smk", tree.path)
    tree.edit(STUDY, "[average_ce, ", "[robust_epochs, average_ce, ")
    refused = tree.run("digits-tiny", "ledger")
    assert refused.code != 0 and "nothing makes 'robust_epochs'" in refused.text
    tree.edit(STUDY, "chunks: 3", "extra_rules: [robust_epochs.smk]\nchunks: 3")
    result = tree.run("digits-tiny", "ledger")
    assert result.code == 0, result.text
    assert result.jobs == Counter({"compute_robust_epochs": chunks(tree), "ledger": 1})
    found = table(tree, "measures").query("measure == 'robust_epochs'").set_index("model")["value"]
    assert len(found) == 8
    for model, value in found.items():
        log = pd.read_csv(tree.path / RESULTS / "runs" / str(model).rpartition("-")[0] / "log.csv")
        above = log.loc[log["val_robust"] > 0.2, "epoch"]
        assert value == above.iloc[0] if len(above) else pd.isna(value)
    tree.edit("robust_epochs.smk", 'code="awk1"', 'code="awk2"')
    again = tree.plan("digits-tiny", "ledger").jobs
    assert again == Counter({"compute_robust_epochs": chunks(tree), "ledger": 1})


def test_a_comment_reruns_nothing_and_arithmetic_just_its_measure(finished: Tree, tmp_path: Path):
    tree = finished.copy(tmp_path / "project")
    file = tree.path / "measures" / "average_ce.py"
    text = file.read_text()
    file.write_text(text + "\n# a comment\n")
    assert not tree.plan("digits-tiny").jobs
    (returned,) = [line for line in text.splitlines() if line.strip().startswith("return ")]
    file.write_text(text.replace(returned, f"{returned} * 2"))
    changed = Counter({"compute_average_ce": chunks(tree)}) + Counter(["catalogue", "all"]) + AFTER
    assert tree.plan("digits-tiny").jobs == changed


def test_one_job_for_all_measures_of_a_chunk_takes_what_is_known_from_the_cache(finished: Tree, tmp_path: Path):
    tree = finished.copy(tmp_path / "project")
    before = table(tree, "measures")
    file = tree.path / "measures" / "average_ce.py"
    file.write_text(file.read_text().replace("return context", "return 2 * context"))
    tree.edit(STUDY, "chunks: 3", "measure_jobs: chunk\nchunks: 3")
    result = tree.run("digits-tiny")
    assert result.code == 0, result.text
    assert result.jobs == Counter({"compute_measures": chunks(tree)}) + Counter(["catalogue", "all"]) + AFTER
    for log in (tree.path / RESULTS / "logs" / "measures" / "measures").glob("*.log"):
        assert all("(2 measures cached; " in line for line in log.read_text().splitlines())
    after = table(tree, "measures")
    doubled = before["measure"] == "average_ce"
    assert after["value"].tolist() == pytest.approx((before["value"] * (1 + doubled)).tolist(), rel=1e-6)
    assert after.loc[~doubled].equals(before.loc[~doubled])
    assert not tree.plan("digits-tiny").jobs


def test_a_new_seed_trains_only_what_is_new(finished: Tree, tmp_path: Path):
    tree = finished.copy(tmp_path / "project")
    runs = tree.path / RESULTS / "runs"
    old = {file: file.stat().st_mtime_ns for file in runs.glob("*/run.json")}
    tree.edit(STUDY, "seeds: [0]", "seeds: [0, 1]")
    tree.edit(STUDY, "defense: [Standard, AT]", "defense: [Standard]")
    result = tree.run("digits-tiny", "measure_path_norm")
    assert result.code == 0, result.text
    assert len(list(runs.glob("*/run.json"))) == 4 + 2
    assert {file: file.stat().st_mtime_ns for file in old} == old
    rows = [pd.read_csv(file) for file in (tree.path / RESULTS / "measures" / "path_norm").glob("*.csv")]
    models = set(json.loads((tree.path / RESULTS / "plan.json").read_text())["models"])
    assert len(models) == 8 and models <= set(pd.concat(rows)["model"])
    assert set(result.jobs) == {"train", "outcomes", "compute_path_norm", "measure_path_norm"}


def test_a_collapsed_run_is_listed_and_stops_nothing(project: Tree):
    study = yaml.safe_load((project.path / STUDY).read_text())
    study["axes"] = {"lr": [0.1, 1e6]}
    study["settings"] |= {"defense": "Standard", "batch_size": 64}
    study |= {"measures": ["path_norm"], "chunks": 1}
    (project.path / STUDY).write_text(yaml.safe_dump(study))
    result = project.run("digits-tiny", "ledger")
    assert result.code == 0, result.text
    runs = table(project, "runs").set_index("lr")
    assert set(runs.loc["1000000.0", "status"]) == {"collapsed"} and (runs.loc["1000000.0", "reason"] != "").all()
    assert set(runs.loc["0.1", "status"]) == {"finished"}
    assert set(table(project, "measures")["model"]) == set(runs.loc["0.1", "model"])


def test_a_wrong_study_is_one_line_and_writes_nothing(project: Tree):
    project.edit(STUDY, "batch_size:", "batch_sise:")
    before = sorted(project.path.iterdir())
    result = project.run("digits-tiny")
    assert result.code != 0
    assert result.text.splitlines()[-1] == f"{STUDY}: axes.batch_sise: unknown key, did you mean 'batch_size'?"
    assert "Traceback" not in result.text
    shutil.rmtree(project.path / ".snakemake", ignore_errors=True)
    assert sorted(project.path.iterdir()) == before
