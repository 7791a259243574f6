"""The statistics of a study: each file of this folder without a leading underscore is one, named after its CSV.

A file has a function that computes tidy rows from a table of models, and ends with its entry `STATISTIC`, from which
everything else follows: NAME.csv and its place in the workflow's rule, the description in the report and its archive,
tables for readers and the section of the report that shows them.
"""

import csv
import io
import pkgutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from robustgap.analysis.damage import set_aside_if_damaged
from robustgap.analysis.files import read_json, require_columns, with_numbers
from robustgap.analysis.labels import count, measure_label
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.ledger_digest import ledger_digest
from robustgap.analysis.models.baselines import KINDS, MEASURE
from robustgap.analysis.models.flags import model_table
from robustgap.analysis.plugins import import_plugin
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.view import View

__all__ = ["Statistic", "Statistics", "StudyData", "entry", "read_statistic", "read_text", "statistic_names"]

REQUESTED = "correlations"  # the table whose file other jobs of a study depend on
FINDINGS = "findings"  # the file that is no table; of a ledger, it holds the digest of that ledger under DIGEST
DIGEST = "ledger_sha256"
YES_NO = {"True": True, "False": False, "": False}


@dataclass(frozen=True)
class Statistic:
    """The entry of a statistic.

    asks: what it asks, for readers. place: position in reading order. compute: from the models, and from the tables of
    the statistics `after`, to rows. text, yes_no: columns of text and of true or false; all others are numbers.
    columns: those that the file must have. needs: fields of StudyData without which the statistic is left out. views:
    functions that make the tables shown to readers; section: of the report, that shows them ('': the last one).
    in_folder: whether the table is read from a folder of statistics where one is given; else it is always computed.
    """

    asks: str
    place: int
    compute: Callable[..., pd.DataFrame]
    text: Collection[str]
    yes_no: Collection[str] = ()
    columns: Collection[str] = ("measure",)
    needs: Collection[str] = ()
    after: Collection[str] = ()
    views: Collection[Callable[["Statistics"], View]] = ()
    section: str = ""
    in_folder: bool = True


def entry(name: str) -> Statistic:
    """The entry of one statistic. Raises LookupError if its file has none, and ValueError if it is not Python."""
    statistic = getattr(import_plugin(f"{__name__}.{name}"), "STATISTIC", None)
    if not isinstance(statistic, Statistic):
        raise LookupError(f"analysis/statistics/{name}.py: found no entry, wanted STATISTIC = Statistic(...)")
    return statistic


def statistic_names() -> list[str]:
    """Names of all statistics, in reading order."""
    names = [file.name for file in pkgutil.iter_modules(__path__) if not file.name.startswith("_")]
    return sorted(names, key=lambda name: (entry(name).place, name))


def read_text(path: Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """A CSV with every cell as text. Raises FileNotFoundError naming it, or ValueError if its last line is truncated,
    it is not UTF-8, a row has too few or too many cells, or a column is missing; a damaged file of a study is then
    moved aside, so that the workflow makes it again."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with set_aside_if_damaged(path, path.with_name(f"{REQUESTED}.csv")):
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            raise ValueError(f"{path}: found no end of the last line (truncated?)")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: found bytes that are not UTF-8, wanted a CSV: {error}") from error
        names, *rows = map(len, csv.reader(io.StringIO(text, newline="")))  # pandas fills up a row that is too short
        for number, cells in enumerate(rows, start=1):
            if cells != names:
                raise ValueError(f"{path}, row {number}: found {count(cells, 'cell')}, wanted {names}")
        table = pd.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False)
        require_columns(table, columns, path)
    return table


def read_statistic(folder: Path, name: str) -> pd.DataFrame:
    """The table NAME.csv of a statistics folder: text stays text ('NA' is a value of an axis, not a missing number),
    yes_no columns become booleans, all others numbers. Raises what `read_text` raises, and ValueError naming file, row
    and column of a cell that is neither empty nor a number (or True or False); a damaged file of a study is then moved
    aside, too."""
    statistic, path = entry(name), folder / f"{name}.csv"
    table = read_text(path, statistic.columns)
    numbers = [column for column in table if column not in {*statistic.text, *statistic.yes_no}]
    with set_aside_if_damaged(path, path.with_name(f"{REQUESTED}.csv")):
        table = with_numbers(
            table.assign(**{column: table[column].replace("", None) for column in numbers}), numbers, path
        )
        for column in table.columns.intersection(list(statistic.yes_no)):
            if (bad := ~table[column].isin(list(YES_NO)).to_numpy()).any():
                row = int(bad.argmax())
                found = f"{path}, row {row + 1}: found {table[column].iloc[row]!r} in column {column!r}"
                raise ValueError(f"{found}, wanted True or False")
            table[column] = table[column].map(YES_NO).astype(bool)
    return table


class Statistics:
    """The statistics of a ledger (or of a user's table), each computed or read on first use, then cached.

    folder: what `python -m robustgap.analysis statistics` wrote for this ledger; None computes the tables. Raises
    FileNotFoundError if the folder lacks the correlations or the findings, and ValueError if it is that of another
    ledger.
    """

    def __init__(self, source: Ledger | StudyData, folder: str | Path | None = None) -> None:
        self.source, self.folder = source, None if folder is None else Path(folder)
        self._tables: dict[str, pd.DataFrame] = {}
        if self.folder is not None:
            measures = set(self.table(REQUESTED)["measure"])
            if missing := [measure for measure in self.ledger.columns if measure not in measures]:
                problem = f"{self.folder / REQUESTED}.csv: found no rows for measure {missing[0]}"
                raise ValueError(f"{problem}, wanted one for each of the ledger's measures")
            self._check_digest(self.folder / f"{FINDINGS}.json")

    def _check_digest(self, findings: Path) -> None:
        """Raise ValueError unless the folder of these findings was computed from this ledger."""
        with set_aside_if_damaged(findings, findings.with_name(f"{REQUESTED}.csv")):
            found = read_json(findings, [DIGEST])[DIGEST]
        if found != (wanted := ledger_digest(self.ledger)):
            other = f"{findings}: found statistics of another ledger ({DIGEST} {str(found)[:12]})"
            raise ValueError(f"{other}, wanted those of {self.ledger.path} ({wanted[:12]})")

    @cached_property
    def data(self) -> StudyData:
        """What the statistics are computed from."""
        return self.source if isinstance(self.source, StudyData) else StudyData.of_ledger(self.source)

    @property
    def ledger(self) -> Ledger:
        """The ledger. Raises LookupError for a user's table."""
        ledger = self.source.ledger if isinstance(self.source, StudyData) else self.source
        if ledger is None:
            raise LookupError("found a table of models, wanted a ledger")
        return ledger

    @property
    def names(self) -> list[str]:
        """Names of the statistics that the source allows, in reading order."""
        return [name for name in statistic_names() if all(getattr(self.data, need) for need in entry(name).needs)]

    def table(self, name: str) -> pd.DataFrame:
        """One statistic by name. Raises LookupError for an unknown name, and what `read_statistic` raises."""
        if name not in self._tables:
            if name not in statistic_names():
                raise LookupError(f"statistics: found {name!r}, wanted one of {', '.join(statistic_names())}")
            statistic = entry(name)
            if self.folder is not None and statistic.in_folder:
                self._tables[name] = read_statistic(self.folder, name)
            else:
                self._tables[name] = statistic.compute(self.data, *map(self.table, statistic.after))
        return self._tables[name]

    @cached_property
    def unflagged(self) -> "Statistics | None":
        """The statistics without flagged models; None if there are none, or no others."""
        return Statistics(self.data.unflagged) if self.data.unflagged else None

    @cached_property
    def models(self) -> pd.DataFrame:
        """The models, with accuracies on the training images of the study's outcome."""
        return model_table(self.ledger, "train_rest") if self.ledger.explained.rest else self.data.models

    @cached_property
    def kinds(self) -> dict[str, str]:
        """{row: measure, baseline or control}, measures in the study's order first."""
        summary = self.table("summary")
        return dict(zip(summary["measure"], summary["kind"], strict=True))

    @cached_property
    def reading_order(self) -> dict[str, int]:
        """{row: position}: measures by |tau|, strongest first, then baselines, then controls."""
        summary = self.table("summary")
        strongest = summary["tau"].abs().sort_values(ascending=False, kind="stable").index
        rows = summary.loc[strongest].sort_values("kind", key=lambda kinds: kinds.map(KINDS.index), kind="stable")
        return {name: position for position, name in enumerate(rows["measure"])}

    def label(self, name: str) -> str:
        """Label of a row: 'training loss (baseline)'."""
        kind = self.kinds.get(name, MEASURE)
        return measure_label(name, self.ledger.columns) if kind == MEASURE else f"{name} ({kind})"

    def labelled(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows in reading order, with their labels in the column `label` and their kinds in `kind`."""
        if rows.empty:
            return rows.assign(label="", kind="")
        position = rows["measure"].map(self.reading_order).fillna(-1)  # selectors without a measure come first
        rows = rows.iloc[np.argsort(position, kind="stable")].reset_index(drop=True)
        rows = rows.assign(kind=[self.kinds.get(name, MEASURE) for name in rows["measure"]])
        rows.insert(1, "label", [self.label(name) for name in rows["measure"]])
        return rows
