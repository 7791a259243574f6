"""Anybody's table with one row per model: read, checked column by column, ready for analysis.association."""

import csv
import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.files import read_parquet
from analysis.ledger import NA, text
from analysis.table_checks import check_axes, check_named_once, check_written_once

MISSING = (
    "",
    "na",
    "n/a",
    "nan",
    "none",
    "null",
    "-",
)  # cells of a numeric column that hold no number, in small letters


@dataclass(frozen=True)
class ModelTable:
    """A checked table: numbers are floats (NaN where missing or infinite), axes and seed are text.

    notes: what a reader must know about how the table was understood, a sentence each.
    """

    rows: pd.DataFrame
    axes: list[str]
    outcome: str
    measures: list[str]
    seed_column: str | None
    notes: list[str]


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file, every cell as text; blank lines and columns without a name (a written row index) are left out.

    Raises ValueError for a row that has not one cell for each column: a file cut short, or cells in wrong columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [cells for cells in csv.reader(file, skipinitialspace=True, strict=True) if cells not in ([], [""])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: found no readable CSV: {' '.join(str(error).split())}") from error
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    for place, cells in enumerate(rows, start=1):
        if len(cells) != len(header):
            wanted = f"{len(header)}, one for each column"
            raise ValueError(f"{path}, row {place}: found {len(cells)} cells, wanted {wanted}")
    table = pd.DataFrame(rows, columns=[name.strip() for name in header], dtype=str)
    return table.loc[:, table.columns != ""]


def read_any(path: str | Path) -> pd.DataFrame:
    """A CSV or parquet file, every cell as text ('' where a parquet cell is missing).

    Raises FileNotFoundError, or ValueError when the file is not readable, has no rows, or two columns of one name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if path.suffix in (".parquet", ".pq"):
        found = read_parquet(path)
        columns = [found.iloc[:, place] for place in range(found.shape[1])]
        cells = [one.map(text).where(one.notna(), "") for one in columns]
        table = pd.concat(cells, axis=1).set_axis(found.columns.map(str), axis=1) if cells else pd.DataFrame()
    else:
        table = read_csv(path)
    if table.empty:
        raise ValueError(f"{path}: found 0 rows, wanted one per model")
    if len(twice := table.columns[table.columns.duplicated()]):
        raise ValueError(f"{path}: found two columns {twice[0]!r}, wanted one")
    return table


def column(table: pd.DataFrame, name: str, role: str, path: str | Path) -> pd.Series:
    """A column by name. Raises LookupError naming the role it was wanted for and the nearest column."""
    if name not in table.columns:
        near = difflib.get_close_matches(name, table.columns, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise LookupError(f"{path}: wanted {role} column {name!r}{hint} (found: {', '.join(table.columns)})")
    return table[name]


def parsed(cells: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Cells as numbers (NaN where they are none), and which cells are text instead of a number or nothing."""
    blank = cells.str.strip().str.lower().isin(MISSING)
    numbers = pd.to_numeric(cells.where(~blank), errors="coerce").astype(float)
    return numbers, numbers.isna() & ~blank


def numeric(table: pd.DataFrame, name: str, role: str, path: str | Path) -> pd.Series:
    """A numeric column, infinite values as missing. Raises ValueError naming the first cell that is text."""
    numbers, bad = parsed(column(table, name, role, path))
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"{path}, row {place + 1}: found {table[name].iloc[place]!r} in {role} column {name!r}, wanted a number"
        )
    return numbers.where(numbers.abs() < math.inf)


def standard_errors(table: pd.DataFrame, name: str, path: str | Path) -> pd.Series:
    """The column of the outcome's standard errors. Raises ValueError where one is below 0, or all are missing."""
    errors = numeric(table, name, "standard error", path)
    if errors.isna().all() or (errors < 0).any():
        found = "no value" if errors.isna().all() else f"{errors.min():g}"
        raise ValueError(f"{path}: standard error column {name!r} has {found}, wanted numbers of 0 or more")
    return errors


def default_measures(table: pd.DataFrame, used: Iterable[str]) -> list[str]:
    """Columns without a role that hold numbers: nothing but numbers and empty cells, or numbers in most cells (a few
    words among numbers are a fault to be told, words with a few numbers among them are names)."""
    chosen = []
    for name in table.columns.difference(list(used), sort=False):
        numbers, bad = parsed(table[name])
        if bad.sum() <= numbers.notna().sum():
            chosen.append(name)
    return chosen


def keyed_rows(table: pd.DataFrame, roles: dict[str, str], path: str | Path) -> tuple[pd.DataFrame, list[str]]:
    """The columns that tell models apart ({name: role}), as text with NA for empty cells, and notes on those."""
    rows = pd.DataFrame({name: column(table, name, role, path).str.strip() for name, role in roles.items()})
    for name, role in roles.items():
        check_written_once(rows[name], name, role, path)
    empty = (rows == "").sum()
    notes = [
        f"column {name}: {count} empty cells are taken as the value {NA}" for name, count in empty.items() if count
    ]
    return rows.replace("", NA), notes


def read_models(
    path: str | Path,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str] | None = None,
    seed_column: str | None = None,
    se: str | None = None,
    beside: Sequence[str] = (),
    state: Sequence[str] = (),
) -> ModelTable:
    """Read and check a table with one row per model; without `measures`, all numeric columns without another role.

    se: column of the outcome's standard error; beside: other numeric columns that are no measures; state: such that may
    be measures too. All are kept in `rows`.
    A model without outcome is left out; an empty cell of an axis is the value NA; a measure that is nowhere defined
    stays, and all its statistics are undefined: each is said in `notes`. Raises FileNotFoundError, LookupError (a
    column that is not there) or ValueError (a constant outcome, an axis with one value, two models with equal axes
    and seed, a setting written in two ways, text in a numeric column, no rows), each one line naming file, column,
    found and wanted.
    """
    table = read_any(path)
    roles = dict.fromkeys(axes, "axis") | ({seed_column: "seed"} if seed_column else {})
    used = [outcome, *([se] if se else []), *beside]
    named = [*axes, *([seed_column] if seed_column else []), *used, *(measures or [])]
    check_named_once(named, path)
    keys, notes = keyed_rows(table, roles, path)
    outcomes = numeric(table, outcome, "outcome", path)
    others = {se: standard_errors(table, se, path)} if se else {}
    others |= {name: numeric(table, name, "named", path) for name in [*beside, *state]}
    if measures is None:
        measures = default_measures(table, [*keys, *used])
        words = ", ".join(table.columns.difference([*keys, *used, *measures], sort=False))
        notes.append(f"measures: {', '.join(measures) or 'none'}" + (f" (no numbers: {words})" if words else ""))
    if not measures:
        raise ValueError(f"{path}: found no numeric column to be a measure, wanted at least one")
    numbers = {name: numeric(table, name, "measure", path) for name in measures}
    empty = [name for name, values in numbers.items() if values.isna().all()]
    notes += [f"measure {name}: no value at all; its statistics are undefined" for name in empty]
    known = outcomes.notna()
    if not known.all():
        notes.append(f"outcome {outcome}: {(~known).sum()} of {len(known)} models have none and are left out")
    if outcomes.nunique() < 2:
        found = f"the one value {outcomes[known].iloc[0]:g}" if known.any() else "no value"
        raise ValueError(f"{path}: outcome column {outcome!r} has {found}, wanted at least two different ones")
    rows = pd.concat([keys, pd.DataFrame({outcome: outcomes, **others, **numbers})], axis=1)[known].reset_index(
        drop=True
    )
    check_axes(rows, axes, seed_column, path)
    return ModelTable(rows, list(axes), outcome, list(measures), seed_column, notes)
