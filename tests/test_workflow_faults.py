"""Damaged files and failing measures in a finished study: named, made again, and nothing else with them."""

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


def test_damaged_files_are_named_and_made_again(finished: Tree, tmp_path: Path):
    """A truncated table stops the ledger, which removes it; a damaged checkpoint stops the outcomes, which remove the
    manifest of its training. Running again mends both, with the numbers as they were."""
    tree = finished.copy(tmp_path / "project")
    results = tree.path / RESULTS
    before = pd.read_parquet(results / "ledger" / "outcomes.parquet")
    table = sorted((results / "outcomes").glob("*.parquet"))[0]
    halve(table)
    (results / "ledger" / "study.json").unlink()
    stopped = tree.run("digits-tiny", "ledger")
    assert stopped.code != 0 and not table.exists()
    named = f"{table.relative_to(tree.path)}: found no readable parquet"
    assert named in stopped.text and "removed it: run again" in stopped.text

    weights = sorted((results / "runs").glob("*/best.safetensors"))[0]
    whole = weights.read_bytes()
    halve(weights)
    for cache in (results / "outcomes" / "models").glob("*"):
        cache.unlink()
    table = [path for path in (results / "outcomes").glob("*.parquet")]
    for path in table:
        path.unlink()
    stopped = tree.run("digits-tiny", "ledger")
    assert stopped.code != 0 and "Error in rule outcomes" in stopped.text
    assert f"{weights.relative_to(tree.path)}: SHA-256 found" in stopped.text
    assert "run again, and it is trained anew" in stopped.text

    mended = tree.run("digits-tiny", "ledger")
    assert mended.code == 0, mended.text
    assert weights.read_bytes() == whole and mended.jobs["train"] == 1
    after = pd.read_parquet(results / "ledger" / "outcomes.parquet")
    assert after.drop(columns="seconds", errors="ignore").equals(before.drop(columns="seconds", errors="ignore"))


def test_a_measure_that_fails_is_listed_and_stops_nothing(finished: Tree, tmp_path: Path):
    tree = finished.copy(tmp_path / "project")
    assert tree.command("python", "-m", "measures", "new", "my_measure").code == 0
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
