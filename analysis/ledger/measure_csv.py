"""Reads measure values: one CSV per measure and chunk, possibly written by a user's rule in another language."""

import csv
import math
from pathlib import Path
from typing import Any

import pandas as pd

from robustgap.analysis.damage import set_aside_if_damaged
from robustgap.analysis.ledger import COLUMNS, VARIANTS

HEADER = COLUMNS["measures"]
NUMBERS = ("value", "se", "n_images", "seconds", "forwards")


def checked_number(cell: str, where: str) -> float:
    """A CSV cell as a number; empty is NaN. Raises ValueError, starting with `where`, for other text."""
    try:
        return float(cell) if cell.strip() else math.nan
    except ValueError as error:
        raise ValueError(f"{where}: found {cell!r}, wanted a number (or nothing, and a reason)") from error


def read_row(cells: list[str], measure: str, models: dict[str, Any], where: str) -> dict[str, Any]:
    """Parse and check one row of a measure file. Raises ValueError, starting with `where`, naming column, found,
    wanted."""
    if len(cells) != len(HEADER):
        raise ValueError(f"{where}: found {len(cells)} cells, wanted {len(HEADER)} (truncated?)")
    row: dict[str, Any] = dict(zip(HEADER, cells, strict=True))
    if row["model"] not in models:
        raise ValueError(f"{where}, column model: found {row['model']!r}, which the plan does not list in this chunk")
    if row["measure"] != measure:
        raise ValueError(f"{where}, column measure: found {row['measure']!r}, wanted {measure!r}")
    if row["variant"] not in VARIANTS:
        raise ValueError(f"{where}, column variant: found {row['variant']!r}, wanted one of {', '.join(VARIANTS)}")
    for name in NUMBERS:
        row[name] = checked_number(row[name], f"{where}, column {name}")
    if not math.isfinite(row["value"]):
        fallback = "no reason given" if math.isnan(row["value"]) else f"not finite: {row['value']}"
        row |= {"value": math.nan, "reason": row["reason"] or fallback}
    return row


def read_measure(path: Path, measure: str, models: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of a measure file for the models of its chunk. Raises ValueError naming file, line and column."""
    with path.open(encoding="utf-8", newline="") as file:
        try:
            lines = list(csv.reader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: found no readable CSV: {error}") from error
    if not lines or lines[0] != HEADER:
        found = ",".join(lines[0]) if lines else "an empty file"
        raise ValueError(f"{path}: found columns {found}; wanted {','.join(HEADER)}")
    rows, seen = [], set()
    for number, cells in enumerate(lines[1:], start=2):
        where = f"{path}, line {number}"
        row = read_row(cells, measure, models, where)
        key = (row["model"], row["variant"])
        if key in seen:
            raise ValueError(f"{where}: found a second row for model {key[0]}, variant {key[1]}, wanted one")
        seen.add(key)
        rows.append(row)
    return rows


def checked_complete(
    path: Path, rows: list[dict[str, Any]], models: dict[str, bool], results: Path
) -> list[dict[str, Any]]:
    """Return the rows. Raises ValueError naming the file if it lacks an expected model and is no older than its chunk's
    outcomes: jobs write rows for all evaluated models, so the file was cut off between two lines."""
    present = {row["model"] for row in rows}
    missing = [model for model, expected in models.items() if expected and model not in present]
    outcomes = results / "outcomes" / f"{path.stem}.parquet"
    if missing and path.stat().st_mtime_ns >= outcomes.stat().st_mtime_ns:
        raise ValueError(f"{path}: found no row of {missing[0]}, wanted one of each model with outcomes (truncated?)")
    return rows


def read_measures(
    results: Path, names: list[str], chunks: dict[str, dict[str, Any]], catalogue: dict[str, Any]
) -> pd.DataFrame:
    """The table `measures`: a row for each measure, variant and model in `chunks` ({chunk: {model: expected?}}).

    An expected model (one with outcomes) that has no row gets a row without value, whose reason says so. Variants of a
    measure: those of its catalogue entry, and those found. A damaged file of a catalogue measure is moved aside; one
    written by a user's rule stays for its author to inspect.
    """
    rows: list[dict[str, Any]] = []
    for name in names:
        measure_rows: list[dict[str, Any]] = []
        reasons: dict[str, str] = {}
        for chunk, models in chunks.items():
            path = results / "measures" / name / f"{chunk}.csv"
            if path.is_file() and name in catalogue:
                with set_aside_if_damaged(path):
                    measure_rows += checked_complete(path, read_measure(path, name, models), models, results)
            elif path.is_file():
                measure_rows += read_measure(path, name, models)
            reason = "no row in" if path.is_file() else "missing file"
            reasons |= {
                model: f"{reason} measures/{name}/{chunk}.csv" for model, expected in models.items() if expected
            }
        declared = catalogue.get(name, {}).get("variants", [])
        variants = list(dict.fromkeys([*declared, *(row["variant"] for row in measure_rows)])) or ["none"]
        present = {(row["model"], row["variant"]) for row in measure_rows}
        empty = dict.fromkeys(HEADER, "") | dict.fromkeys(NUMBERS, math.nan) | {"measure": name}
        measure_rows += [
            empty | {"model": model, "variant": variant, "reason": reason}
            for variant in variants
            for model, reason in reasons.items()
            if (model, variant) not in present
        ]
        rows += measure_rows
    table = pd.DataFrame(rows, columns=HEADER)
    return table.astype(dict.fromkeys(NUMBERS, float)).sort_values(["measure", "variant", "model"], ignore_index=True)
