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


def read_bins(listed: Sequence[str]) -> dict[str, int]:
    """['lr=4', 'wd=3'] -> {'lr': 4, 'wd': 3}. Raises ValueError for anything else."""
    bins: dict[str, int] = {}
    for one in listed:
        name, _, count = one.rpartition("=")
        if not name.strip() or name.strip() in bins or not count.strip().isdecimal() or int(count) < 2:
            raise ValueError(f"found {one!r}, wanted AXIS=CLASSES, each axis once, two classes or more, such as lr=4")
        bins[name.strip()] = int(count)
    return bins


def spelled(lows: np.ndarray, highs: np.ndarray) -> list[str]:
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
    axis, found = str(cells.name), parsed(cells.mask(cells == EMPTY, ""))
    if found.bad.any():
        raise ValueError(f"{path}: --bins: found {cells[found.bad].iloc[0]!r} in axis {axis!r}, wanted numbers")
    known = found.numbers.notna()
    values = found.numbers[known].to_numpy(float)
    shares = np.arange(1, count) / count
    edges = np.unique(np.quantile(values, shares, method="inverted_cdf")) if len(values) else values
    place = np.unique(np.searchsorted(edges, values), return_inverse=True)[1]
    classes = int(place.max(initial=-1)) + 1
    if classes < 2:
        raise ValueError(f"{path}: --bins: {count} classes of axis {axis!r} are one, wanted at least two")
    lows, highs = (np.array([end(values[place == one]) for one in range(classes)]) for end in (np.min, np.max))
    names = spelled(lows, highs)
    labels = cells.copy()
    labels[known] = np.array(names, dtype=object)[place]
    told = ", ".join(f"{name} ({many})" for name, many in zip(names, np.bincount(place), strict=True))
    asked = f" ({count} asked for: values repeat)" if classes < count else ""
    return labels, [f"axis {axis} in {classes} classes{asked}, models in each: {told}"]


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
    exact = [f"{name}=" + rows[name] for name in [*bins, *([seed_column] if seed_column else [])]]
    run = seed_column or "run"
    while run in rows.columns and run != seed_column:
        run += "_"
    classes = {}
    for name, count in bins.items():
        classes[name], told = cut(rows[name], count, path)
        notes += told
    notes.append("models in one class of every axis count as one configuration, what differs within it as chance")
    return rows.assign(**classes, **{run: pd.concat(exact, axis=1).agg(", ".join, axis=1)}), run, notes


def fine_axes(rows: pd.DataFrame, bins: Mapping[str, int], path: str | Path) -> tuple[pd.DataFrame | None, list[str]]:
    """The models with the axes in `bins` replaced by the finer classes used by increments, and a note; None without
    bins."""
    if not bins:
        return None, []
    most = min(MOST_FINE, len(rows) // (MODELS_A_CLASS * len(bins)))
    classes = {name: cut(rows[name], max(count, most), path)[0] for name, count in bins.items()}
    told = ", ".join(f"{name} {labels.nunique()}" for name, labels in classes.items())
    return rows.assign(**classes), [f"increments over the settings go by finer classes: {told}"]


def proposals(rows: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """A note for each axis with many distinct numbers."""
    notes = []
    for axis in axes:
        found = parsed(rows[axis].mask(rows[axis] == EMPTY, ""))
        if not found.bad.any() and not found.true_or_false and (many := found.numbers.nunique()) > MANY_VALUES:
            told = f"axis {axis} has {many} different numbers, so that few models share one"
            notes.append(f"{told}: `--bins {axis}={PROPOSED}` cuts it into {PROPOSED} classes")
    return notes
