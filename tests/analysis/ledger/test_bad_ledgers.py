"""Damaged ledgers are told in one line by every command that reads them; poor ones have statistics that say so."""

import json
from pathlib import Path

import ledgers
import numpy as np
import pandas as pd
import pytest
from ledger_cases import CASES

from robustgap.analysis.__main__ import main
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics_folder import write_statistics

COMMANDS = ("statistics", "figures", "report")


def arguments(command: str, folder: Path) -> list[str]:
    """The command line for the ledger in FOLDER/ledger."""
    more = {"report": ["--figures", str(folder), "--statistics", str(folder)]}
    return [command, str(folder / "ledger"), *more.get(command, []), "--out", str(folder / "out")]


def rewrite(folder: Path, name: str, change) -> None:
    path = folder / "ledger" / f"{name}.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def text_in(column: str):
    """A change that puts a word into row 4 of a column of numbers."""
    return lambda table: table.assign(**{column: table[column].astype(str).where(np.arange(len(table)) != 3, "good")})


def truncate(folder: Path, file: str) -> None:
    path = folder / "ledger" / file
    path.write_bytes(path.read_bytes()[:100])


DAMAGE = {
    "truncated parquet": (lambda folder: truncate(folder, "outcomes.parquet"), "outcomes.parquet: found no readable"),
    "truncated study": (lambda folder: truncate(folder, "study.json"), "study.json: found no readable JSON"),
    "no such file": (
        lambda folder: (folder / "ledger" / "measures.parquet").unlink(),
        "measures.parquet: no such",
    ),
    "no outcome column": (
        lambda folder: rewrite(folder, "outcomes", lambda t: t.drop(columns="accuracy")),
        "outcomes.parquet: wanted column accuracy",
    ),
    "no axis column": (
        lambda folder: rewrite(folder, "runs", lambda t: t.drop(columns="awp")),
        "runs.parquet: wanted column awp",
    ),
    "the same model twice": (
        lambda folder: rewrite(folder, "runs", lambda t: pd.concat([t, t.iloc[:1]])),
        "runs.parquet: found two rows for Standard-32-false-s0-last, wanted one",
    ),
    "the same measure twice": (
        lambda folder: rewrite(folder, "measures", lambda t: pd.concat([t, t.iloc[:1]])),
        "measures.parquet: found two rows for",
    ),
    "text accuracy": (
        lambda folder: rewrite(folder, "outcomes", text_in("accuracy")),
        "outcomes.parquet, row 4: found 'good' in column 'accuracy', wanted a number",
    ),
    "text value": (
        lambda folder: rewrite(folder, "measures", text_in("value")),
        "measures.parquet, row 4: found 'good' in column 'value', wanted a number",
    ),
    "0 rows": (lambda folder: rewrite(folder, "runs", lambda t: t.iloc[:0]), "which runs.parquet does not list"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_ledger_is_told_in_one_line_and_nothing_is_written(tmp_path, capsys, name, command):
    damage, message = DAMAGE[name]
    ledgers.make(tmp_path / "ledger", troubles=False)
    damage(tmp_path)
    assert main(arguments(command, tmp_path)) == 1
    told = capsys.readouterr().err
    assert message in told and told.startswith("error: ") and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_ledger_is_told_in_one_line(tmp_path, capsys, command):
    assert main(arguments(command, tmp_path)) == 1
    told = capsys.readouterr().err
    assert str(tmp_path / "ledger") in told and told.count("\n") == 1


POOR = {
    "constant outcome": ("outcomes", lambda table: table.assign(accuracy=0.5)),
    "no outcome of the study": ("outcomes", lambda table: table[table["attack"] != "pgd10"]),
    "no accuracies": ("outcomes", lambda table: table.assign(accuracy=None)),
    "0 outcomes": ("outcomes", lambda table: table.iloc[:0]),
    "an axis with one value": ("runs", lambda table: table.assign(status=status_of(table["batch_size"]))),
    "an all-missing measure": (
        "measures",
        lambda table: table.assign(value=table["value"].mask(table["measure"] == "average_ce")),
    ),
    "0 measures": ("measures", lambda table: table.iloc[:0]),
}
WORDS = {
    "constant outcome": "Tau is undefined (constant, or no values) for",
    "no outcome of the study": "No model has a PGD-10 generalization gap; nothing can be said about measures.",
    "no accuracies": "No model has a PGD-10 generalization gap; nothing can be said about measures.",
    "0 outcomes": "0 models",
    "an axis with one value": "32 models of 8 configurations are analysed",
    "an all-missing measure": "Tau is undefined (constant, or no values) for average_ce (clean)",
    "0 measures": "analysed",
}


def status_of(batch_size: pd.Series) -> np.ndarray:
    return np.where(batch_size == "32", "finished", "failed")


@pytest.mark.parametrize("name", POOR)
def test_a_poor_ledger_has_statistics_that_say_so(tmp_path, name):
    ledgers.make(tmp_path / "ledger", troubles=False)
    rewrite(tmp_path, *POOR[name])
    ledger = Ledger.load(tmp_path / "ledger")
    paths = write_statistics(Statistics(ledger), tmp_path / "out")
    told = " ".join(json.loads(paths[-1].read_text())["sentences"])
    assert WORDS[name] in told and "nan" not in told


def test_columns_of_every_table_are_the_same_whatever_the_study_holds(tmp_path):
    """A figure or a report can count on them, also where there is nothing to say."""
    columns = []
    for case in ("usual", "robustbench", "nothing_trained"):
        write_statistics(Statistics(CASES[case](tmp_path / case / "ledger")), tmp_path / case / "out")
        files = sorted((tmp_path / case / "out").glob("*.csv"))
        tables = {path.name: list(pd.read_csv(path, nrows=0).columns) for path in files if path.stem != "models"}
        columns.append(tables)
    assert columns[0] == columns[1] == columns[2]
