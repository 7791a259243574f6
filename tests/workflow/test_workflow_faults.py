"""Damaged files and failing measures in a finished study: named, made again, and nothing else with them."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from trees import Tree

pytestmark = [pytest.mark.study, pytest.mark.xdist_group("study")]

STUDY = "workflow/config/digits-tiny.yaml"
RESULTS = "results/digits-tiny"
LAST = Counter(["ledger", "analysis", "tables", "figures", "report", "all"])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def forget(results: Path, measure: str, model: str, chunk: str) -> None:
    """Let one measure of one model be computed again."""
    (results / "measures" / measure / f"{chunk}.csv").unlink()
    (cache,) = (results / "measures" / measure / "cache").glob(f"{model}.*.json")
    cache.unlink()


def test_damaged_files_are_named_and_made_again(finished: Tree, tmp_path: Path):
    """The ledger meets a truncated table. Then in one chunk three measures meet kept outcomes, weights and a log, in
    the other the outcomes meet a run.json that is no text. All are named with what to do, nothing else is stopped, and
    running again makes these and no others, with the numbers as they were."""
    tree = finished.copy(tmp_path / "project")
    results = tree.path / RESULTS
    plan = json.loads((results / "plan.json").read_text())
    before = [pd.read_parquet(results / "ledger" / f"{name}.parquet") for name in ("outcomes", "measures")]
    runs = sorted(plan["runs"], key=lambda run: plan["runs"][run]["chunk"])
    first, last = plan["runs"][runs[0]], plan["runs"][runs[-1]]
    assert first["chunk"] != last["chunk"]
    (kept,) = (results / "outcomes" / "models").glob(f"{runs[0]}-last.*")
    weights, log = results / "runs" / runs[0] / "best.safetensors", results / "runs" / runs[1] / "log.csv"
    table, record = results / "outcomes" / f"{last['chunk']}.parquet", results / "runs" / runs[-1] / "run.json"
    (results / "ledger" / "study.json").unlink()
    halve(table)
    stopped = tree.run("digits-tiny", "ledger")
    assert stopped.code != 0 and not table.exists()
    named = f"{table.relative_to(tree.path)}: found no readable parquet"
    assert named in stopped.text and "moved it aside: run again" in stopped.text
    assert "report of what is finished: python -m robustgap.analysis interim digits-tiny" in stopped.text
    interim = tree.run("digits-tiny", "interim")
    assert interim.code == 0, interim.text
    page = (results / "interim" / "report.html").read_text()
    assert "outcomes (chunks of models): 1 of 4 missing: 1 × no error in its log" in page
    assert page.index('id="interim"') < page.index('id="verdicts"')
    judged = pd.read_parquet(results / "interim" / "ledger" / "runs.parquet")["status"] == "finished"
    assert judged.sum() == sum(entry["chunk"] == first["chunk"] for entry in plan["models"].values())
    assert not (results / "report.html.damaged").exists() and not (results / "ledger" / "study.json").exists()

    for path in (kept, weights):
        halve(path)
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:4]))
    record.write_bytes(b"\xff" + record.read_bytes())
    forget(results, "average_ce", f"{runs[0]}-last", first["chunk"])
    forget(results, "prob_margin", f"{runs[0]}-best", first["chunk"])
    forget(results, "path_norm", f"{runs[1]}-last", first["chunk"])
    whole = results / "runs" / runs[2] / "run.json"
    written = whole.stat().st_mtime_ns

    stopped = tree.run("digits-tiny", "ledger")
    assert stopped.code != 0
    for path, found, done in (
        (kept, "not a complete safetensors file", "made"),
        (weights, "SHA-256 found", "trained"),
        (log, "found 3 epochs, wanted 6", "trained"),
        (record, "not valid JSON", "trained"),
    ):
        (line,) = {line for line in stopped.text.splitlines() if f"error: {path.relative_to(tree.path)}: " in line}
        assert found in line and line.endswith(f": run again, and it is {done} anew")

    mended = tree.run("digits-tiny", "ledger")
    assert mended.code == 0, mended.text
    assert mended.jobs["train"] == mended.jobs["outcomes"] == 2
    assert whole.stat().st_mtime_ns == written
    told = "".join(path.read_text() for path in sorted((results / "logs" / "train").glob("*.log")))
    assert told.count("trains on") == 3
    for name, old in zip(("outcomes", "measures"), before, strict=True):
        new = pd.read_parquet(results / "ledger" / f"{name}.parquet")
        assert new.drop(columns="seconds", errors="ignore").equals(old.drop(columns="seconds", errors="ignore"))


def test_damaged_tables_are_named_and_made_again(finished: Tree, tmp_path: Path):
    """One after the other: what figures, statistics and ledger read. Each is met because what it makes is gone."""
    tree = finished.copy(tmp_path / "project")
    results = tree.path / RESULTS
    before = pd.read_parquet(results / "ledger" / "measures.parquet")
    for file, asked in (
        ("analysis/increments.csv", "figures/increments.svg"),
        ("ledger/measures.parquet", "analysis/correlations.csv"),
        ("catalogue.json", "ledger/study.json"),
        ("measures/average_ce/000.csv", "ledger/study.json"),
    ):
        halve(results / file)
        for gone in (asked, "report.html"):
            (results / gone).unlink(missing_ok=True)
        stopped = tree.run("digits-tiny")
        assert stopped.code != 0 and f"error: {RESULTS}/{file}" in stopped.text, stopped.text
        assert "moved it aside: run again" in stopped.text and not (results / file).exists()
    mended = tree.run("digits-tiny")
    assert mended.code == 0 and mended.jobs == LAST + Counter(["compute_average_ce"]), mended.text
    pd.testing.assert_frame_equal(pd.read_parquet(results / "ledger" / "measures.parquet"), before)


def test_a_measure_that_fails_is_listed_and_stops_nothing(finished: Tree, tmp_path: Path):
    tree = finished.copy(tmp_path / "project")
    assert tree.command("python", "-m", "robustgap.measures", "new", "my_measure").code == 0
    file = tree.path / "measures" / "my_measure.py"
    body = file.read_text()
    (returned,) = [line for line in body.splitlines() if line.strip().startswith("return ")]
    file.write_text(body.replace(returned, "    raise ZeroDivisionError('of my making')"))
    tree.edit(STUDY, "[average_ce, ", "[my_measure, average_ce, ")
    result = tree.run("digits-tiny")
    assert result.code == 0, result.text
    assert result.jobs == Counter({"compute_my_measure": 2, "catalogue": 1}) + LAST
    rows = pd.read_parquet(tree.path / RESULTS / "ledger" / "measures.parquet").query("measure == 'my_measure'")
    assert len(rows) == 16 and rows["value"].isna().all()
    assert rows["reason"].str.contains("ZeroDivisionError: of my making").all()
    assert "ZeroDivisionError: of my making" in (tree.path / RESULTS / "report.html").read_text()
