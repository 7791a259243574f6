"""Parses the cells of a table as numbers: which count as missing, and which other formats are accepted.

missing     blank cells, words for nothing (NA, None, #N/A, <NA>, ...), spreadsheet errors (#DIV/0!) and
            infinite values; the last two are reported
62.5%       a column of percentages only: 62.5
1,234.5     thousands separators, in a column where no comma can be a decimal separator
true        a column of only true and false: 1 and 0, but not a measure unless requested
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

NOTHING = ("<na>", "#n/a", "#na")  # never the name of a setting
MISSING = ("", "na", "n/a", "nan", "none", "null", "nil", "missing", "-", "--", ".", "?", *NOTHING)  # in lower case
FAULTS = ("#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!", "#error!", "#spill!", "#calc!", "#getting_data")
THOUSANDS = r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?"
SURELY_THOUSANDS = r"[+-]?\d{1,3}(,\d{3}){2,}|.*\..*"  # among those: 1,234 alone could have a decimal comma


@dataclass(frozen=True)
class Numbers:
    """Cells as numbers (NaN: missing, or not a number), which of them are text, and notes for the reader."""

    numbers: pd.Series
    bad: pd.Series
    notes: list[str]
    true_or_false: bool = False


def counting(number: int, what: str) -> str:
    """'1 cell counts', '3 cells count'."""
    return f"{number} {what}{'s' if number > 1 else ''} count{'' if number > 1 else 's'}"


def parsed(cells: pd.Series) -> Numbers:
    """Parse text cells as numbers, by the rules above."""
    cells = cells.str.strip().str.replace("−", "-")
    lower, notes = cells.str.lower(), []
    faulty = lower.isin(FAULTS)
    blank = lower.isin(MISSING) | faulty
    if faulty.any():
        notes.append(f"{counting(int(faulty.sum()), 'cell')} as missing ({cells[faulty].iloc[0]})")
    filled = cells[~blank]
    if len(filled) and lower[~blank].isin(("true", "false")).all():
        values = (lower == "true").astype(float).where(~blank)
        return Numbers(values, blank & False, [*notes, "true is taken as 1, false as 0"], true_or_false=True)
    if len(filled) and filled.str.endswith("%").all():
        filled = filled.str.removesuffix("%").str.rstrip()
        notes.append("percentages are taken as numbers in percent (62.5% is 62.5)")
    commas = filled[filled.str.contains(",", regex=False)]
    if len(commas) and commas.str.fullmatch(THOUSANDS).all() and commas.str.fullmatch(SURELY_THOUSANDS).any():
        filled = filled.str.replace(",", "")
        notes.append("commas are taken as thousands separators")
    values = pd.to_numeric(filled, errors="coerce").astype(float).reindex(cells.index)
    bad, infinite = values.isna() & ~blank, values.abs() == math.inf
    if infinite.any():
        notes.append(f"{counting(int(infinite.sum()), 'infinite value')} as missing")
    return Numbers(values.where(~infinite), bad, notes)


def hint(cell: str) -> str:
    """Advice for a cell that is not a number, if the cause is known."""
    if cell.strip().endswith("%"):
        return " (% in some cells only)"
    if re.fullmatch(r"[+-]?\d[\d.,' ]*", cell.strip()):
        return " (decimals with a point, no thousands separators: 1234.5)"
    return ""


def numeric(cells: pd.Series, name: str, role: str, path: str | Path) -> tuple[pd.Series, list[str]]:
    """A numeric column, NaN where missing, and notes about it. Raises ValueError naming the first text cell."""
    result = parsed(cells)
    if result.bad.any():
        row = int(np.flatnonzero(result.bad)[0])
        message = f"{path}, row {row + 1}: found {cells.iloc[row]!r} in {role} column {name!r}, wanted a number"
        raise ValueError(message + hint(cells.iloc[row]))
    return result.numbers, [f"column {name}: {note}" for note in result.notes]
