"""Tables shown to readers ("views"), made from the tidy tables of the statistics folder.

A view is written as CSV (numbers), as LaTeX (analysis.tables.latex) and as a sortable table in the report.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.labels import minus

SIGN_TEXT = {1.0: "+", -1.0: "−"}
ENDS = ["estimate", "low", "high"]
SINGLE, FAMILY = "single", "family-wise"
BRACKETS = {
    SINGLE: "single: 95 % intervals of one number each, not corrected for how many are looked at",
    FAMILY: "family-wise: intervals that hold for all measures together with 95 % probability (of a baseline or a "
    "control: for that row alone)",
}


@dataclass(frozen=True)
class Column:
    """A displayed column: `name` in the frame, and the format of its cells.

    form: 'text', or a format such as '.2f' ('+.2f': with sign). interval: show NAME_low and NAME_high beside it, or
    with family NAME_family_low and NAME_family_high; the heading says which of the two is in the brackets.
    """

    name: str
    heading: str
    form: str = "text"
    interval: bool = False
    family: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        """Column names of the ends of its interval; empty without an interval."""
        kind = "family_" if self.family else ""
        return tuple(f"{self.name}_{kind}{end}" for end in ENDS[1:]) if self.interval else ()

    @property
    def title(self) -> str:
        """The displayed heading."""
        kind = f" [{FAMILY if self.family else SINGLE}]" if self.interval else ""
        return f"{self.heading}{kind}"


@dataclass(frozen=True)
class View:
    """A table ready for display: heading, two sentences on what to look for, columns, and the numbers."""

    name: str
    heading: str
    look: str
    columns: tuple[Column, ...]
    frame: pd.DataFrame
    section: str = ""  # of the report, that shows it


def number_text(value: float, form: str) -> str:
    """A number as displayed: true minus sign, 'n/a' if undefined."""
    if pd.isna(value):
        return "n/a"
    text = format(value, form)
    return minus(text if text.strip("+-0.") else text.lstrip("+-"))  # a number that rounds to 0 has no sign


def cell(row: dict[str, Any], column: Column) -> tuple[str, str | float]:
    """(displayed text, sort key) of one cell."""
    value = row[column.name]
    if column.form == "text":
        return str(value), str(value)
    text, key = number_text(value, column.form), float("nan") if pd.isna(value) else float(value)
    if column.interval and not pd.isna(row[column.ends[0]]):
        low, high = (minus(format(round(row[end], 9) + 0.0, column.form)) for end in column.ends)
        text = f"{text} [{low}, {high}]"
    return text, key


def pivoted(rows: pd.DataFrame, keys: list[str], names: pd.Series) -> pd.DataFrame:
    """Pivot tidy rows: one row per value of `keys`; for each name the columns NAME, NAME_low, NAME_high, and the
    largest n of them."""
    if rows.empty:
        return pd.DataFrame(columns=keys)
    wide = rows.assign(_name=names).pivot_table(index=keys, columns="_name", values=ENDS, sort=False, dropna=False)
    wide = wide.dropna(axis=0, how="all") if len(keys) > 1 else wide
    wide.columns = [name if end == "estimate" else f"{name}_{end}" for end, name in wide.columns]
    return wide.reset_index().merge(rows.groupby(keys, sort=False)["n"].max().reset_index(), on=keys, how="left")


LABEL = Column("label", "measure")
COUNT = Column("n", "n", ".0f")


def completed(view: View) -> View:
    """The view with missing columns added as undefined numbers, and its text completed with what brackets hold."""
    frame = view.frame.copy()
    for column in view.columns:
        for name in (column.name, *column.ends):
            if name not in frame:
                frame[name] = "" if column.form == "text" else np.nan
    kinds = [SINGLE, FAMILY]
    used = {kinds[column.family] for column in view.columns if column.interval}
    brackets = "; ".join(BRACKETS[kind] for kind in kinds if kind in used)
    look = f"{view.look} In brackets: {brackets}." if brackets else view.look
    return replace(view, look=look, frame=frame)


def shown(view: View) -> pd.DataFrame:
    """The columns that a view displays, with their intervals, as numbers; and whether a row is a measure, if some are
    not."""
    kind = ["kind"] if "kind" in view.frame else []
    return view.frame[[*kind, *(name for column in view.columns for name in (column.name, *column.ends))]]
