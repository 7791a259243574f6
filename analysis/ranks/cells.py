"""Tau-b within many small groups of models at once: the cells of a factorial design."""

import numpy as np

from robustgap.analysis.ranks.bootstrap import weighted_tau

MANY_MODELS = 300  # larger cells are not compared pair by pair, but in O(n log n) for each measure
PAIRS_AT_ONCE = 2_000_000  # numbers held at a time while comparing models within cells


def cell_taus(cell: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Tau-b within each cell, for all measures at once; NaN where undefined.

    cell (n,) cell indices 0, 1, ...; outcome y (n,); measures x (n, measures), NaN where missing -> (cells, measures).
    Cells of equal size are compared together; pairs are on the last axis but one.
    """
    size = np.bincount(cell)
    order, start = np.argsort(cell, kind="stable"), np.cumsum(size) - size
    taus = np.full((len(size), x.shape[1]), np.nan)
    for many in np.unique(size[size > 1]):
        alike = np.flatnonzero(size == many)
        if many > MANY_MODELS:
            for one in alike:
                rows = order[start[one] + np.arange(many)]
                taus[one] = large_cell(y[rows], x[rows])
            continue
        left, right = np.triu_indices(many, 1)
        step = max(1, PAIRS_AT_ONCE // (len(left) * max(1, x.shape[1])))
        for part in np.split(alike, range(step, len(alike), step)):
            rows = order[start[part, None] + np.arange(many)]
            taus[part] = tau_b(pair_signs(y[rows][..., None], left, right), pair_signs(x[rows], left, right), axis=1)
    return taus


def large_cell(y: np.ndarray, x: np.ndarray) -> list[float]:
    """Tau-b of y (n,) with each column of x (n, measures), over the rows that have both."""
    known = ~(np.isnan(x) | np.isnan(y)[:, None])
    ones = [np.ones((1, int(kept.sum()))) for kept in known.T]
    columns = zip(x.T, known.T, ones, strict=True)
    return [weighted_tau(one[kept], y[kept], np.arange(kept.sum()), w)[0, 0] for one, kept, w in columns]


def pair_signs(values: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """sign(values_left - values_right) along axis 1; NaN if either is missing."""
    a, b = values[:, left], values[:, right]
    return np.where(np.isnan(a) | np.isnan(b), np.nan, (a > b) * 1.0 - (a < b))


def tau_b(sy: np.ndarray, sx: np.ndarray, axis: int) -> np.ndarray:
    """Tau-b from the signs of pair differences, over the pairs where both are known; NaN if one is constant."""
    known = ~np.isnan(sy * sx)
    sy, sx = np.where(known, sy, 0), np.where(known, sx, 0)
    product = np.abs(sy).sum(axis=axis) * np.abs(sx).sum(axis=axis)
    return np.where(product > 0, (sy * sx).sum(axis=axis) / np.sqrt(np.maximum(product, 1)), np.nan)
