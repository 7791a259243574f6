"""The tables that a reader is shown: each made from the tidy tables of the statistics folder, one row per thing told.

A view is written as CSV (its numbers), as LaTeX (analysis.latex) and as a sortable table of the report.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.files import write_csv, write_text
from analysis.labels import measure_label, minus
from analysis.ledger import Ledger
from analysis.statistic_files import read_statistic

ENDS = ["estimate", "low", "high"]


@dataclass(frozen=True)
class Column:
    """A column as shown: `name` in the frame, and how its cells are written.

    form: 'text'; or a format such as '.2f' ('+.2f': with its sign). interval: NAME_low and NAME_high stand beside it.
    """

    name: str
    heading: str
    form: str = "text"
    interval: bool = False


@dataclass(frozen=True)
class View:
    """A table ready to be shown: heading, two sentences on what to look for, columns, and the numbers."""

    name: str
    heading: str
    look: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame


def number(value: float, form: str) -> str:
    """A number as it is shown: true minus sign, 'n/a' where undefined."""
    if pd.isna(value):
        return "n/a"
    told = format(value, form)
    return minus(told if told.strip("+-0.") else told.lstrip("+-"))  # what rounds to 0 has no sign


def cell(row: dict, column: Column) -> tuple[str, str | float]:
    """(what is shown, what it is sorted by) in one cell."""
    value = row[column.name]
    if column.form == "text":
        return str(value), str(value)
    told, key = number(value, column.form), float("nan") if pd.isna(value) else float(value)
    if column.interval and not pd.isna(row[f"{column.name}_low"]):
        low, high = (minus(format(round(row[f"{column.name}_{end}"], 9) + 0.0, column.form)) for end in ENDS[1:])
        told = f"{told} [{low}, {high}]"
    return told, key


def spread(rows: pd.DataFrame, keys: list[str], names: pd.Series) -> pd.DataFrame:
    """Tidy rows side by side: one row for each value of `keys`, for each name columns NAME, NAME_low, NAME_high, and
    the largest n of them."""
    if rows.empty:
        return pd.DataFrame(columns=keys)
    wide = rows.assign(_name=names).pivot_table(index=keys, columns="_name", values=ENDS, sort=False, dropna=False)
    wide = wide.dropna(axis=0, how="all") if len(keys) > 1 else wide
    wide.columns = [name if end == "estimate" else f"{name}_{end}" for end, name in wide.columns]
    return wide.reset_index().merge(rows.groupby(keys, sort=False)["n"].max().reset_index(), on=keys, how="left")


class Source:
    """The statistics of one ledger, and how its measures are named and ordered (strongest tau first)."""

    def __init__(self, ledger: Ledger, folder: Path):
        self.ledger, self.folder = ledger, folder
        summary = self.read("summary")
        strength = summary["tau"].abs().sort_values(ascending=False, kind="stable").index
        self.order = {name: place for place, name in enumerate(summary.loc[strength, "measure"])}

    def read(self, name: str) -> pd.DataFrame:
        return read_statistic(self.folder, name)

    def named(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Rows in the order of the measures, with their labels in the column `label`."""
        if frame.empty:
            return frame.assign(label="")
        place = frame["measure"].map(self.order).fillna(-1)  # ways of picking without a measure come first
        frame = frame.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)
        frame.insert(1, "label", [measure_label(name, self.ledger.columns) for name in frame["measure"]])
        return frame


MEASURE = Column("label", "measure")
COUNT = Column("n", "n", ".0f")


def complete(view: View) -> View:
    """The view with a column of undefined numbers for everything that its statistics lack; says what brackets hold."""
    frame = view.frame.copy()
    for column in view.columns:
        for name in [column.name, *(f"{column.name}_{end}" for end in ("low", "high") if column.interval)]:
            if name not in frame:
                frame[name] = "" if column.form == "text" else np.nan
    look = view.look
    if "In brackets" not in look and any(column.interval for column in view.columns):
        look += " In brackets: 95 % intervals."
    return View(view.name, view.heading, look, view.columns, frame)


def shown(view: View) -> pd.DataFrame:
    """The columns that a view shows, with their intervals, as numbers."""
    ends = {True: ("", "_low", "_high"), False: ("",)}
    return view.frame[[f"{column.name}{end}" for column in view.columns for end in ends[column.interval]]]


def views(ledger: Ledger, folder: str | Path) -> dict[str, View]:
    """All views of a ledger by name, from its folder of statistics. Raises FileNotFoundError for a missing table."""
    from analysis import association_views as one  # they import this module
    from analysis import prediction_views as two

    makers: list[Callable[[Source], View]] = [one.verdicts, one.tau, two.ceilings, two.noise, one.simpson, one.partial]
    makers += [one.information, one.thresholds, one.sign_errors, two.ladder, two.increments, two.left_out]
    makers += [two.selection, two.reliability]
    source = Source(ledger, Path(folder))
    return {view.name: complete(view) for view in (make(source) for make in makers)}


def write_views(ledger: Ledger, folder: str | Path, out: str | Path) -> list[Path]:
    """Write every view into folder `out` as NAME.csv (its numbers) and NAME.tex; returns the files."""
    from analysis.latex import to_latex

    written = []
    for view in views(ledger, folder).values():
        written += [Path(out) / f"{view.name}.csv", Path(out) / f"{view.name}.tex"]
        write_csv(shown(view), written[-2])
        write_text(to_latex(view, ledger.name), written[-1])
    return written
