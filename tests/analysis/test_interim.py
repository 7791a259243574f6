"""Ledger of what there is of a study, and what is missing and why; nothing of the study is touched."""

import json
from pathlib import Path

import pytest
from result_files import measured, write_measure

from robustgap.analysis.__main__ import main
from robustgap.analysis.interim import collect_so_far, missing_items, missing_sentences


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def log(results: Path, name: str, text: str) -> None:
    file = results / "logs" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def taken(results: Path, out: Path) -> tuple:
    """The ledger and the lines about what is missing."""
    plan = json.loads((results / "plan.json").read_text())
    ledger, there, damaged = collect_so_far(plan, results, out)
    return ledger, missing_sentences(missing_items(plan, results, there, damaged))


def test_what_is_whole_is_taken_and_what_is_missing_is_told(results: Path, tmp_path: Path):
    log(results, "train/0a.log", "epoch 1\nerror: runs/r4: no space left\n")
    log(
        results,
        "measures/rows/001.log",
        "Traceback (most recent call last):\n  ...\ntorch.OutOfMemoryError: of my GPU\n",
    )
    before = content(results)
    ledger, lines = taken(results, tmp_path / "out")
    assert lines == [
        "trainings: 1 of 4 missing: 1 × runs/r4: no space left (r4)",
        "measures (of a chunk each): 1 of 4 missing: 1 × torch.OutOfMemoryError: of my GPU (rows of 001)",
    ]
    assert (ledger.runs["status"] == "finished").sum() == 4
    assert content(results) == before


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("no log", "1 × not begun (r4)"),
        ("a log", "1 × no error in its log: it is running, or was interrupted (r4)"),
        ("a lock", "1 × in training, or interrupted during it (r4)"),
    ],
)
def test_a_training_that_is_missing_says_how_far_it_is(state: str, told: str, results: Path, tmp_path: Path):
    if state != "no log":
        log(results, "train/0a.log", "r4: epoch 3 of 30\n")
    if state == "a lock":
        (results / "runs" / "r4").mkdir()
        (results / "runs" / "r4" / "lock.1").touch()
    assert taken(results, tmp_path / "out")[1][0] == f"trainings: 1 of 4 missing: {told}"


def test_damaged_files_are_left_out_told_and_left_where_they_are(results: Path, tmp_path: Path):
    """One of each kind; a normal run would move them aside, or remove what is to be made again."""
    (results / "runs" / "r3" / "run.json").write_text("{")
    write_measure(results, "ce", "000", [measured("r1-last", "ce", "clean", "many")])
    write_measure(results, "rows", "000", [measured("nobody", "rows", "none", 1)])
    (results / "outcomes" / "001.parquet").write_bytes(b"PAR1")
    before = content(results)
    ledger, lines = taken(results, tmp_path / "out")
    training, outcome, measure = lines
    assert "1 × damaged: found no readable JSON" in training and "(r3)" in training
    assert "1 × damaged: found no readable parquet" in outcome and "(001)" in outcome
    assert "found 'many', wanted a number" in measure and "which the plan does not list" in measure
    assert "1 × wait for outcomes (rows of 001)" in measure and "run again" not in "".join(lines)
    assert set(ledger.runs.query("status == 'finished'")["run"]) == {"r1", "r2"}
    assert content(results) == before


def test_before_anything_is_judged_there_is_one_line_and_why(results: Path, capsys):
    for chunk in ("000", "001"):
        (results / "outcomes" / f"{chunk}.parquet").unlink()
    (results / "catalogue.json").unlink()
    assert main(["interim", str(results)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"error: {results}: no model has been evaluated yet, so there is nothing to report"
    assert told[2] == "outcomes (chunks of models): 2 of 2 missing: 1 × not begun (000); 1 × wait for trainings (001)"


def test_a_study_that_has_not_begun_is_one_line(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["interim", "digits"]) == 1
    wanted = "error: digits: found no plan.json in digits or results/digits: has the study started?\n"
    assert capsys.readouterr().err == wanted
