"""Tau-b within many small groups of models at once: the cells of a factorial design."""

import numpy as np

from robustgap.analysis.ranks.bootstrap import weighted_tau

MANY_MODELS = 300  # larger cells are processed in O(n log n) per measure, not pair by pair
PAIRS_AT_ONCE = 2_000_000  # numbers held at a time while comparing models within cells


def cell_taus(cell: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Tau-b within each cell, for all measures at once; NaN where undefined.

    cell (n,) cell indices 0, 1, ...; outcome y (n,); measures x (n, measures), NaN where missing -> (cells, measures).
    Cells of equal size are processed together; the second last axis runs over pairs.
    """
    size = np.bincount(cell)
    order, start = np.argsort(cell, kind="stable"), np.cumsum(size) - size
    taus = np.full((len(size), x.shape[1]), np.nan)
    for models in np.unique(size[size > 1]):
        same_size = np.flatnonzero(size == models)
        if models > MANY_MODELS:
            for index in same_size:
                rows = order[start[index] + np.arange(models)]
                taus[index] = large_cell(y[rows], x[rows])
            continue
        left, right = np.triu_indices(models, 1)
        step = max(1, PAIRS_AT_ONCE // (len(left) * max(1, x.shape[1])))
        for batch in np.split(same_size, range(step, len(same_size), step)):
            rows = order[start[batch, None] + np.arange(models)]
            taus[batch] = tau_b(pair_signs(y[rows][..., None], left, right), pair_signs(x[rows], left, right), axis=1)
    return taus


def large_cell(y: np.ndarray, x: np.ndarray) -> list[float]:
    """Tau-b of y (n,) with each column of x (n, measures), over the rows that have both."""
    taus = []
    for measure in x.T:
        rows = np.flatnonzero(~(np.isnan(measure) | np.isnan(y)))
        taus.append(weighted_tau(measure[rows], y[rows], np.arange(len(rows)), np.ones((1, len(rows))))[0, 0])
    return taus


def pair_signs(values: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """sign(values_left - values_right) along axis 1; NaN if either is missing."""
    a, b = values[:, left], values[:, right]
    return np.where(np.isnan(a) | np.isnan(b), np.nan, (a > b) * 1.0 - (a < b))


def tau_b(sy: np.ndarray, sx: np.ndarray, axis: int) -> np.ndarray:
    """Tau-b from the signs of pair differences, over the pairs where both are known; NaN if one is constant."""
    defined = ~np.isnan(sy * sx)
    sy, sx = np.where(defined, sy, 0), np.where(defined, sx, 0)
    product = np.abs(sy).sum(axis=axis) * np.abs(sx).sum(axis=axis)
    return np.where(product > 0, (sy * sx).sum(axis=axis) / np.sqrt(np.maximum(product, 1)), np.nan)
