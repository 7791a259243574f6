"""Checks that a table of models is usable, with a one-line error for each violation."""

import difflib
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import pandas as pd

from robustgap.analysis.models.checkpoints import expanded
from robustgap.analysis.models.design import codes, in_grid


def nearest(name: str, columns: Iterable[str]) -> str:
    """ "; did you mean 'batch'?" for 'Batchs', ignoring case; '' if no column name is close."""
    by_lower = {column.casefold(): column for column in columns}
    matches = difflib.get_close_matches(name.casefold(), by_lower, n=1, cutoff=0.5)
    quoted = " (in quotes, as it has a comma)" if matches and "," in matches[0] else ""
    return f"; did you mean {by_lower[matches[0]]!r}{quoted}?" if matches else ""


def check_named_once(named: Sequence[str], path: str | Path) -> None:
    """Raise ValueError if one column is given two roles."""
    if repeated := [name for index, name in enumerate(named) if name in named[:index]]:
        raise ValueError(f"{path}: column {repeated[0]!r} is named twice among axes, seed, outcome and measures")


def check_outcome(outcomes: pd.Series, path: str | Path) -> None:
    """Raise ValueError unless the known outcomes differ."""
    if outcomes.nunique() < 2:
        found = f"the one value {outcomes.iloc[0]:g}" if len(outcomes) else "no value"
        raise ValueError(f"{path}: outcome column {outcomes.name!r} has {found}, wanted at least two different ones")


def check_varies(rows: pd.DataFrame, axes: Sequence[str], path: str | Path) -> None:
    """Raise ValueError for an axis with one value."""
    for axis in axes:
        if rows[axis].nunique() < 2:
            raise ValueError(f"{path}: axis {axis!r} has the one value {rows[axis].iloc[0]!r}, wanted at least two")


def check_axes(rows: pd.DataFrame, axes: Sequence[str], seed_column: str | None, path: str | Path) -> None:
    """Raise ValueError for an axis with one value, or two models with equal axes and seed."""
    check_varies(rows, axes, path)
    rows = expanded(rows, axes)
    keys = [*axes, *([seed_column] if seed_column else [])]
    code = codes(rows, keys)
    _, first, count = np.unique(code, return_index=True, return_counts=True)
    if keys and count.max() > 1:
        row = rows.iloc[first[count > 1][0]]
        where = ", ".join(f"{key}={row[key]}" for key in keys)
        hint = "" if seed_column else "; is there a seed column to name with --seed-column?"
        raise ValueError(
            f"{path}: found {count[count > 1][0]} models with {where}, wanted one (every setting that "
            f"differs must be an axis){hint}"
        )


def compared(rows: pd.DataFrame, axis: str, fixed: Sequence[str]) -> int:
    """Number of models that have a partner with equal columns `fixed` and another value of the axis."""
    cell = codes(rows, fixed)
    pairs = np.unique(np.stack([cell, codes(rows, [axis])]), axis=1)
    return int((np.bincount(pairs[0])[cell] > 1).sum()) if len(rows) else 0


def own_seeds(rows: pd.DataFrame, axes: Sequence[str], seed_column: str | None) -> list[str]:
    """Axes whose values hardly share seeds: fixing the seed leaves less than half of the models that can be compared
    without it. This holds for all axes if each run has its own seed."""
    grid, separate = rows[in_grid(rows, axes)] if axes else rows, []
    for axis in axes if seed_column else []:
        others = [other for other in axes if other != axis]
        if 2 * compared(grid, axis, [*others, str(seed_column)]) < compared(grid, axis, others):
            separate.append(axis)
    return separate


def exact(cell: str) -> Decimal | None:
    """The number in a cell, exactly (so that long seeds stay distinct), or None: '1_0' and 'nan' are names."""
    try:
        number = Decimal("nan" if "_" in cell else cell)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def check_written_once(cells: pd.Series, name: str, role: str, path: str | Path) -> None:
    """Raise ValueError if two different texts are the same number. Values are compared as text: in a table merged from
    two, one written with 0 and one with 0.0, a setting would have two values, and a model could appear twice."""
    seen: dict[Decimal, str] = {}
    for cell in cells.unique():
        number = exact(cell)
        if number is not None and seen.setdefault(number, cell) != cell:
            spellings = f"{seen[number]!r} and {cell!r}"
            raise ValueError(f"{path}: found {spellings} in {role} column {name!r}, wanted one way of writing a number")
