"""Bins numeric settings into classes: in a random search each model has its own value, and no two models share one.

A class is named by its smallest and largest value, such as '0.0012 to 0.0093'. Cells and pairs of configurations are
then formed from classes. Models in the same class on every axis count as one configuration, as if they differed only in
the seed: this never makes intervals narrower.

The prediction from settings needs a finer resolution than four classes: a measure that merely copies the learning rate
differs within a class, and would appear to add information to the settings. Increments therefore use finer classes,
those of `fine_axes`: of 144 such measures in simulated searches, 31 replicated with four classes and 1 with the finer
ones, as did all 72 measures that did add information (benchmarks/random_search.md).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from robustgap.analysis.model_table.cells import parsed
from robustgap.analysis.models.design import EMPTY

MANY_VALUES = 10  # numeric axes with more values than this are proposed for binning
PROPOSED = 4  # classes
MOST_FINE = 20  # classes used by increments
MODELS_A_CLASS = 5  # lower limit there, per binned axis: with fewer, settings can fit any numbers


def read_bins(items: Sequence[str]) -> dict[str, int]:
    """['lr=4', 'wd=3'] -> {'lr': 4, 'wd': 3}. Raises ValueError for anything else."""
    bins: dict[str, int] = {}
    for item in items:
        name, _, count = item.rpartition("=")
        if not name.strip() or name.strip() in bins or not count.strip().isdecimal() or int(count) < 2:
            raise ValueError(f"found {item!r}, wanted AXIS=CLASSES, each axis once, two classes or more, such as lr=4")
        bins[name.strip()] = int(count)
    return bins


def class_names(lows: np.ndarray, highs: np.ndarray) -> list[str]:
    """Names of classes from their smallest and largest values, with the fewest digits (at least 3) that keep them
    distinct."""
    ends = np.unique([lows, highs])
    digits = next((d for d in range(3, 17) if len({f"{end:.{d}g}" for end in ends}) == len(ends)), 17)
    texts = [(f"{low:.{digits}g}", f"{high:.{digits}g}") for low, high in zip(lows, highs, strict=True)]
    return [low if low == high else f"{low} to {high}" for low, high in texts]


def cut(cells: pd.Series, count: int, path: str | Path) -> tuple[pd.Series, list[str]]:
    """An axis (text) binned at quantiles over the models into `count` classes, fewer if values repeat, and notes. Cells
    without a number ('NA', '(empty)') keep their text.

    Raises ValueError for other text, or if all values fall into one class.
    """
    axis, parsed_cells = str(cells.name), parsed(cells.mask(cells == EMPTY, ""))
    if parsed_cells.bad.any():
        raise ValueError(f"{path}: --bins: found {cells[parsed_cells.bad].iloc[0]!r} in axis {axis!r}, wanted numbers")
    has_number = parsed_cells.numbers.notna()
    values = parsed_cells.numbers[has_number].to_numpy(float)
    shares = np.arange(1, count) / count
    edges = np.unique(np.quantile(values, shares, method="inverted_cdf")) if len(values) else values
    class_of = np.unique(np.searchsorted(edges, values), return_inverse=True)[1]
    classes = int(class_of.max(initial=-1)) + 1
    if classes < 2:
        raise ValueError(f"{path}: --bins: {count} classes of axis {axis!r} are one, wanted at least two")
    lows, highs = (np.array([end(values[class_of == index]) for index in range(classes)]) for end in (np.min, np.max))
    names = class_names(lows, highs)
    labels = cells.copy()
    labels[has_number] = np.array(names, dtype=object)[class_of]
    sizes = ", ".join(f"{name} ({size})" for name, size in zip(names, np.bincount(class_of), strict=True))
    fewer = f" ({count} asked for: values repeat)" if classes < count else ""
    return labels, [f"axis {axis} in {classes} classes{fewer}, models in each: {sizes}"]


def cut_axes(
    rows: pd.DataFrame, axes: Sequence[str], bins: Mapping[str, int], seed_column: str | None, path: str | Path
) -> tuple[pd.DataFrame, str | None, list[str]]:
    """The models with the axes in `bins` replaced by classes, the column that separates runs in equal classes, and
    notes.

    That column replaces the seed column: its text joins the seed and the exact values.
    """
    for name in bins:
        if name not in axes:
            raise ValueError(f"{path}: --bins: found {name!r}, wanted one of the axes: {', '.join(axes)}")
    if not bins:
        return rows, seed_column, []
    notes: list[str] = []
    values = [f"{name}=" + rows[name] for name in [*bins, *([seed_column] if seed_column else [])]]
    run_column = seed_column or "run"
    while run_column in rows.columns and run_column != seed_column:
        run_column += "_"
    classes = {}
    for name, count in bins.items():
        classes[name], axis_notes = cut(rows[name], count, path)
        notes += axis_notes
    notes.append("models in equal classes of all axes count as one configuration, differences between them as chance")
    return rows.assign(**classes, **{run_column: pd.concat(values, axis=1).agg(", ".join, axis=1)}), run_column, notes


def fine_axes(rows: pd.DataFrame, bins: Mapping[str, int], path: str | Path) -> tuple[pd.DataFrame | None, list[str]]:
    """The models with the axes in `bins` replaced by the finer classes used by increments, and a note; None without
    bins."""
    if not bins:
        return None, []
    most = min(MOST_FINE, len(rows) // (MODELS_A_CLASS * len(bins)))
    classes = {name: cut(rows[name], max(count, most), path)[0] for name, count in bins.items()}
    counts = ", ".join(f"{name} {labels.nunique()}" for name, labels in classes.items())
    return rows.assign(**classes), [f"increments over the settings use finer classes: {counts}"]


def proposals(rows: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """A note for each axis with many distinct numbers."""
    notes = []
    for axis in axes:
        cells = parsed(rows[axis].mask(rows[axis] == EMPTY, ""))
        if not cells.bad.any() and not cells.true_or_false and (count := cells.numbers.nunique()) > MANY_VALUES:
            reason = f"axis {axis} has {count} different numbers, so that few models share one"
            notes.append(f"{reason}: `--bins {axis}={PROPOSED}` cuts it into {PROPOSED} classes")
    return notes
