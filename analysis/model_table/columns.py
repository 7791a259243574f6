"""Guesses the role of columns and rows that the user did not name: measures, ids, times, summaries."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from robustgap.analysis.model_table.cells import parsed
from robustgap.analysis.models.design import EMPTY

IDS = {"id", "ids", "uid", "uuid", "seed"}  # last words of column names
WHOLE_IDS = {"index", "idx", "row", "no", "nr", "number", "run", "job", "trial", "pid", "level 0"}
TIMES = {"time", "times", "timestamp", "datetime", "date", "seconds", "minutes", "hours", "runtime", "walltime"}
TIMES |= {"elapsed", "duration", "started", "finished", "ended", "created", "updated", "modified"}
FEWEST_PLACES = 8  # rows: from this many on, a column 0, 1, 2, ... counts as row numbers


def is_id_or_time(name: str, numbers: pd.Series) -> bool:
    """Whether a numeric column identifies rows or holds times rather than a property of a network: by its name
    (`Unnamed: 0`, run_id, train_time), or because it numbers the rows."""
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    words = " ".join(re.split(r"[^a-z0-9]+", words.lower())).strip()
    parts = words.split()
    if words in WHOLE_IDS or re.fullmatch(r"unnamed( \d+)*", words) or TIMES & set(parts) or IDS & set(parts[-1:]):
        return True
    steps, first = np.arange(len(numbers)), numbers.iloc[0]
    return len(numbers) >= FEWEST_PLACES and first in (0, 1) and bool((numbers == first + steps).all())


def default_measures(table: pd.DataFrame, used: Iterable[str]) -> tuple[list[str], str]:
    """Numeric columns without a role: those with only numbers and empty cells, or with numbers in most cells (a few
    words among numbers are an error to report; words with a few numbers among them are names). Ids, times and
    true/false columns are left out; the sentence says which columns were, and why."""
    chosen: list[str] = []
    kinds: dict[str, list[str]] = {"no numbers": [], "ids or times": [], "true or false": []}
    for name in table.columns.difference([*used, ""], sort=False):
        numbers = parsed(table[name])
        if numbers.true_or_false:
            kinds["true or false"].append(name)
        elif numbers.bad.sum() > numbers.numbers.notna().sum():
            kinds["no numbers"].append(name)
        elif is_id_or_time(name, numbers.numbers):
            kinds["ids or times"].append(name)
        else:
            chosen.append(name)
    left_out = [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
    hint = "; name them under --measures to use them" if kinds["ids or times"] or kinds["true or false"] else ""
    sentence = f"measures: {', '.join(chosen) or 'none'}" + (f" ({'; '.join(left_out)}{hint})" if left_out else "")
    return chosen, sentence


def summary_rows(table: pd.DataFrame) -> list[str]:
    """A warning for each column with rows called `mean`, `std` and the like, listed once: such a row summarises the
    others and is not a model."""
    words, notes = {"mean", "average", "avg", "median", "std", "sum", "total", "min", "max", "count"}, []
    for index in range(table.shape[1]):
        cells = table.iloc[:, index].str.strip().str.lower()
        rows = np.flatnonzero(cells.isin(words) & ~cells.duplicated(keep=False))
        if len(rows):
            listed = ", ".join(f"row {row + 1} ({table.iloc[row, index].strip()})" for row in rows)
            where = f"column {name}" if (name := str(table.columns[index])) else "the column without a name"
            notes.append(f"warning: {where}: {listed}: a summary of the others, not a model? If so, remove it")
    return notes


def average_row(rows: pd.DataFrame, axes: Sequence[str], outcome: str) -> list[str]:
    """A warning if the only row without any setting has the mean of all other rows' outcomes."""
    blank = np.flatnonzero((rows[list(axes)] == EMPTY).all(axis=1))
    values = rows[outcome].to_numpy(float)
    if (
        not axes
        or len(blank) != 1
        or not np.isclose(values[blank[0]], np.delete(values, blank).mean(), rtol=1e-6, atol=0)
    ):
        return []
    reason = "the outcome of the row without settings is the mean of all others"
    return [f"warning: {reason} ({values[blank[0]]:g}): not a model? If so, remove it"]


def alike(cells: pd.Series, name: str) -> list[str]:
    """A warning if two values of a column differ only in case or spaces: `at` and `AT`."""
    groups: dict[str, list[str]] = {}
    for cell in cells.unique():
        groups.setdefault(re.sub(r"\s+", " ", cell).casefold(), []).append(cell)
    return [
        f"warning: column {name}: {' and '.join(map(repr, same))} are taken as different values"
        for same in groups.values()
        if len(same) > 1
    ]
