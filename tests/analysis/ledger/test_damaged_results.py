"""Damaged results and ledgers are named in one line; what a job of the workflow made goes, so that it runs again."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from result_files import HEADER, measured, outcome_rows, write_measure

from robustgap.analysis.__main__ import main
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.ledger.collect import collect

WHOLE = "epoch,val_clean,val_robust,train_loss\n"


@pytest.mark.parametrize(
    "log", ["epoch,val_clean\n30,0.5\n", WHOLE + "1,0.5,0.4,1\n", WHOLE + "30,0.5,0.4,a\n", "", "a\n\x00"]
)
def test_a_training_log_that_is_not_whole_is_named(results, log):
    (results / "runs" / "r1" / "log.csv").write_text(log)
    with pytest.raises(ValueError, match=r"r1/log\.csv: found no val_clean, val_robust, train_loss of epoch 30"):
        collect(results, results / "ledger")


def spoil_csv(results: Path, column: str, value: str) -> None:
    row = measured("r1-last", "rows", "none", 2.0)
    row[HEADER.index(column)] = value
    write_measure(results, "rows", "000", [row])


FAULTS = {
    "text for a value": (lambda r: spoil_csv(r, "value", "big"), "rows/000.csv, line 2, column value: found 'big'"),
    "text for seconds": (lambda r: spoil_csv(r, "seconds", "2 s"), "column seconds: found '2 s', wanted a number"),
    "unknown model": (lambda r: spoil_csv(r, "model", "r9-last"), "column model: found 'r9-last'"),
    "wrong measure": (lambda r: spoil_csv(r, "measure", "ce"), "column measure: found 'ce', wanted 'rows'"),
    "unknown variant": (lambda r: spoil_csv(r, "variant", "both"), "column variant: found 'both', wanted one of"),
    "two rows": (
        lambda r: write_measure(r, "rows", "000", [measured("r1-last", "rows", "none", 1)] * 2),
        "line 3: found a second row for model r1-last",
    ),
    "short row": (lambda r: write_measure(r, "rows", "000", [["r1-last", "rows"]]), "found 2 cells, wanted 12"),
    "wrong header": (
        lambda r: (r / "measures/rows/000.csv").write_text("model,value\nr1-last,2\n"),
        "rows/000.csv: found columns model,value; wanted model,measure,variant",
    ),
    "empty file": (lambda r: (r / "measures/rows/000.csv").write_text(""), "found columns an empty file"),
    "truncated parquet": (
        lambda r: (r / "outcomes/000.parquet").write_bytes((r / "outcomes/000.parquet").read_bytes()[:200]),
        "outcomes/000.parquet: found no readable parquet",
    ),
    "outcomes without a column": (
        lambda r: pd.read_parquet(r / "outcomes/000.parquet").drop(columns="n").to_parquet(r / "outcomes/000.parquet"),
        "outcomes/000.parquet: wanted column n; found columns: model, split",
    ),
    "outcomes twice": (
        lambda r: pd.DataFrame(outcome_rows("r1-last") * 2).to_parquet(r / "outcomes/000.parquet"),
        "outcomes/000.parquet: found two rows for r1-last train clean",
    ),
    "outcomes of another chunk": (
        lambda r: pd.DataFrame(outcome_rows("r4-last")).to_parquet(r / "outcomes/000.parquet"),
        "outcomes/000.parquet: found model r4-last, which the plan does not list in this chunk",
    ),
    "truncated run.json": (lambda r: (r / "runs/r1/run.json").write_text('{"run": '), "runs/r1/run.json: found no"),
    "another run's record": (
        lambda r: (r / "runs/r1/run.json").write_text((r / "runs/r2/run.json").read_text()),
        "runs/r1/run.json: found the record of run r2, wanted r1",
    ),
    "no plan": (lambda r: (r / "plan.json").unlink(), "plan.json: no such file"),
    "no catalogue": (lambda r: (r / "catalogue.json").unlink(), "catalogue.json: no such file"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_file_is_named_in_one_line_and_nothing_is_written(results, capsys, name):
    spoil, message = FAULTS[name]
    spoil(results)
    assert main(["ledger", "--results", str(results), "--out", str(results / "ledger")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (results / "ledger").exists()


@pytest.mark.parametrize("file, content", [("run.json", b"\xff"), ("log.csv", b"epoch,va")])
def test_a_run_with_a_damaged_file_is_trained_again(file, content, results, capsys):
    """The manifest of its batch goes, and the outcomes of its chunk, which would hide that from Snakemake."""
    (results / "runs" / "r1" / file).write_bytes(content)
    (results / "runs" / "0a.json").write_text("{}")
    assert main(["ledger", "--results", str(results), "--out", str(results / "ledger")]) == 1
    error = capsys.readouterr().err
    assert f"{results}/runs/r1/{file}: " in error and error.endswith(": run again, and it is trained anew\n")
    assert not (results / "runs" / "0a.json").exists() and not (results / "outcomes" / "000.parquet").exists()
    assert (results / "outcomes" / "001.parquet").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_between_lines(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))


@pytest.mark.parametrize(
    "file, damage, told",
    [
        ("catalogue.json", cut, "found no readable JSON"),
        ("outcomes/000.parquet", cut, "found no readable parquet"),
        ("measures/ce/000.csv", cut, "truncated?"),
        ("measures/ce/000.csv", cut_between_lines, "found no row of r1-best, wanted one of each model with outcomes"),
    ],
)
def test_what_a_job_of_ours_made_is_moved_aside_when_damaged(file, damage, told, results, capsys):
    damage(results / file)
    assert main(["ledger", "--results", str(results), "--out", str(results / "ledger")]) == 1
    error = capsys.readouterr().err
    assert f"{results / file}" in error and told in error
    assert error.endswith("; moved it aside: run again, and it is made anew\n") and not (results / file).exists()


def test_a_table_that_a_hand_written_rule_made_is_left_for_its_author(results, capsys):
    file = results / "measures" / "rows" / "000.csv"
    cut(file)
    assert main(["ledger", "--results", str(results), "--out", str(results / "ledger")]) == 1
    assert "aside" not in capsys.readouterr().err and file.exists()


@pytest.mark.parametrize(
    "file", ["runs.parquet", "outcomes.parquet", "measures.parquet", "study.json", "catalogue.json"]
)
def test_a_damaged_ledger_is_named_and_moved_aside_where_it_is_a_studys_own(results, file, tmp_path):
    """With study.json, the one file that the workflow asks for."""
    folder, elsewhere = results / "ledger", tmp_path / "elsewhere" / "far" / "away"
    collect(results, folder)
    cut(folder / file)
    shutil.copytree(folder, elsewhere)
    with pytest.raises(ValueError, match=rf"{file}: .*; moved it aside: run again"):
        Ledger.load(folder)
    assert not (folder / file).exists() and not (folder / "study.json").exists()
    assert (folder / f"{file}.damaged").read_bytes() == (elsewhere / file).read_bytes()  # nothing is lost
    assert (folder / "study.json.damaged").exists()
    with pytest.raises(ValueError, match=f"{file}: (?!.*aside)"):
        Ledger.load(elsewhere)
    assert (elsewhere / file).exists() and (elsewhere / "study.json").exists()
    shutil.copytree(elsewhere, folder, dirs_exist_ok=True)
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        Ledger.load(folder)


def test_a_ledger_that_contradicts_itself_is_refused(results):
    folder = results / "ledger"
    collect(results, folder)
    outcomes, runs = pd.read_parquet(folder / "outcomes.parquet"), pd.read_parquet(folder / "runs.parquet")
    pd.concat([outcomes, outcomes.iloc[:1]]).to_parquet(folder / "outcomes.parquet")
    with pytest.raises(ValueError, match=r"outcomes\.parquet: found two rows for r1-best test clean"):
        Ledger.load(folder)
    outcomes.assign(model="r9-last").drop_duplicates(["split", "attack"]).to_parquet(folder / "outcomes.parquet")
    with pytest.raises(ValueError, match=r"outcomes\.parquet: found model r9-last"):
        Ledger.load(folder)
    runs.drop(columns="awp").to_parquet(folder / "runs.parquet")
    with pytest.raises(ValueError, match=r"runs\.parquet: wanted column awp"):
        Ledger.load(folder)
