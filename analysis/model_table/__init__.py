"""Reads a user's table with one row per model and checks it column by column for analysis.statistics.correlations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from robustgap.analysis.model_table.bins import cut_axes, fine_axes, proposals
from robustgap.analysis.model_table.cells import NOTHING, numeric
from robustgap.analysis.model_table.checks import (
    check_axes,
    check_named_once,
    check_outcome,
    check_written_once,
    nearest,
    own_seeds,
)
from robustgap.analysis.model_table.columns import alike, average_row, default_measures, summary_rows
from robustgap.analysis.model_table.files import read_any
from robustgap.analysis.models.design import EMPTY


@dataclass(frozen=True)
class ModelTable:
    """A checked table: numbers are floats (NaN where missing or infinite), axes and seed are text.

    notes: sentences telling the reader how the table was read. columns: all columns of the file. own_seeds: axes whose
    cells do not fix the seed. fine: `rows` with the finer settings used by increments, if different.
    """

    rows: pd.DataFrame
    axes: list[str]
    outcome: str
    measures: list[str]
    seed_column: str | None
    notes: list[str]
    columns: Sequence[str] = ()
    own_seeds: Sequence[str] = ()
    fine: pd.DataFrame | None = None


def column(table: pd.DataFrame, name: str, role: str, path: str | Path) -> pd.Series:
    """A column by name. Raises LookupError naming the intended role and the closest column name."""
    if name not in table.columns:
        names = ", ".join(f'"{other}"' if "," in other else other for other in table.columns if other)
        raise LookupError(f"{path}: wanted {role} column {name!r}{nearest(name, table.columns)} (found: {names})")
    return table[name]


class Reader:
    """Numeric columns of a table by name and role; notes about each are kept once."""

    def __init__(self, table: pd.DataFrame, path: str | Path):
        self.table, self.path, self.notes = table, path, list[str]()

    def __call__(self, name: str, role: str, least: float = -np.inf) -> pd.Series:
        """The column as numbers. Raises LookupError (no such column) or ValueError (text, or a value below `least`)."""
        cells = column(self.table, name, role, self.path)
        values, notes = numeric(cells, name, role, self.path)
        if (low := (values < least).to_numpy()).any():
            row = int(low.argmax())
            cell = f"{self.path}, row {row + 1}: {role} column {name!r} has {cells.iloc[row]}"
            raise ValueError(f"{cell}, wanted numbers of {least:g} or more")
        self.notes += [note for note in notes if note not in self.notes]
        return values


def sizes(read: Reader, name: str, role: str, least: float) -> pd.Series:
    """A numeric column with values of at least `least`. Raises ValueError if one is smaller, or all are missing."""
    if (values := read(name, role, least)).isna().all():
        raise ValueError(f"{read.path}: {role} column {name!r} has no value, wanted numbers of {least:g} or more")
    return values


def key_columns(table: pd.DataFrame, roles: dict[str, str], path: str | Path) -> tuple[pd.DataFrame, list[str]]:
    """The columns that identify models ({name: role}) as text, with EMPTY for empty cells, and notes about these."""
    rows = pd.DataFrame({name: column(table, name, role, path).str.strip() for name, role in roles.items()})
    empty, notes = rows.apply(lambda cells: cells.str.lower().isin(["", *NOTHING])), []
    rows = rows.mask(empty, EMPTY)
    for name, role in roles.items():
        check_written_once(rows[name], name, role, path)
        if count := int(empty[name].sum()):
            cells_are = f"{count} empty cells are" if count > 1 else "1 empty cell is"
            notes.append(f"column {name}: {cells_are} taken as the value {EMPTY}")
        notes += alike(rows[name], name)
    return rows, notes


def seed_notes(axes: Sequence[str]) -> list[str]:
    """Notes about the axes in `own_seeds`, if any."""
    reason = "runs that differ in it have seeds of their own, so that its cells do not fix the seed"
    return [f"psi of {', '.join(axes)}: {reason}"] if axes else []


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
    counts: Sequence[str] = (),
    bins: Mapping[str, int] | None = None,
) -> ModelTable:
    """Read and check a table with one row per model; without `measures`, all numeric columns without another role.

    se: column of the outcome's standard error; beside: other numeric columns that are not measures; counts: columns
    with numbers of images; state: further columns, which may be measures as well. All are kept in `rows`. bins: numeric
    axes to cut at quantiles, with the number of classes (analysis.model_table.bins). Models without an outcome are left
    out; an empty cell of an axis is the value EMPTY; a measure without any value stays, with undefined statistics.
    `notes` reports each of these. Raises FileNotFoundError, LookupError (a missing column) or ValueError (a constant
    outcome, an axis with one value, two models with equal axes and seed, a setting written in two ways, text in a
    numeric column, a count of 0 or less, no rows), each one line naming file, column, found and wanted.
    """
    table, notes, renamed = read_any(path)
    notes += summary_rows(table)
    roles = dict.fromkeys(axes, "axis") | ({seed_column: "seed"} if seed_column else {})
    used = [outcome, *([se] if se else []), *beside, *counts]
    named = [*axes, *([seed_column] if seed_column else []), *used, *(measures or [])]
    check_named_once(named, path)
    keys, key_notes = key_columns(table, roles, path)
    read = Reader(table, path)
    outcomes = read(outcome, "outcome")
    others = {se: sizes(read, se, "standard error", 0)} if se else {}
    others |= {name: read(name, "named") for name in [*beside, *state]}
    others |= {name: sizes(read, name, "count", 1) for name in counts}
    if measures is None:
        duplicates = [new for new, name in renamed.items() if name in [*keys, *used]]
        measures, note = default_measures(table, [*keys, *used, *duplicates])
        key_notes.append(note)
    if not measures:
        raise ValueError(f"{path}: found no numeric column to be a measure, wanted at least one")
    numbers = {name: read(name, "measure") for name in measures}
    notes += key_notes + read.notes
    empty = [name for name, values in numbers.items() if values.isna().all()]
    notes += [f"measure {name}: no value at all; its statistics are undefined" for name in empty]
    has_outcome = outcomes.notna()
    if not has_outcome.all():
        notes.append(
            f"outcome {outcome}: {(~has_outcome).sum()} of {len(has_outcome)} models have none and are left out"
        )
    check_outcome(outcomes[has_outcome], path)
    rows = pd.concat([keys, pd.DataFrame({outcome: outcomes, **others, **numbers})], axis=1)[has_outcome]
    rows = rows.reset_index(drop=True)
    check_axes(rows, axes, seed_column, path)
    notes += average_row(rows, axes, outcome)
    exact, bins = rows, bins or {}
    rows, run_column, key_notes = cut_axes(exact, axes, bins, seed_column, path)
    fine, fine_notes = fine_axes(exact, bins, path)
    own_seed_axes = own_seeds(rows, axes, run_column)
    notes += key_notes + fine_notes + proposals(rows, axes)
    notes += seed_notes([axis for axis in own_seed_axes if axis not in bins]) if seed_column else []
    return ModelTable(
        rows, list(axes), outcome, list(measures), run_column, notes, list(table.columns), own_seed_axes, fine
    )
