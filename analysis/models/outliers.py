"""Outlying models: outcomes far from a fit of main effects and two-way interactions of the settings.

    r_i    outcome of model i less its least-squares fit to a constant, the settings (the checkpoint rule among them)
           and their two-way interactions, less the median of these residuals
    bound  4 x 1.4826 x median |r_i|: 4 median absolute deviations, in units of a normal standard deviation

A model is outlying where |r_i| exceeds the bound. The fit is then repeated without the outlying models, and all models
are judged by it, until the set no longer changes (at most REPEATS times, and only while the others determine the fit):
a gross outlier pulls the fit so far that sound models with similar settings would stand out, or other outliers would be
masked. Models are judged, not configurations: a mean over seeds would hide one failed run and implicate its sound
neighbours. Settings are fitted by main effects alone where two-way interactions leave fewer than FEWEST_FREE degrees of
freedom, and no model is judged if those leave fewer as well. For independent normal outcomes (32 or 64 configurations,
one or two models each; 10,000 tables) 1 model in 1,800 to 4,300 is outlying, and 1.3 to 2.8 % of the tables have any.
F. R. Hampel, The influence curve and its role in robust estimation, JASA 1974.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from robustgap.analysis.models.checkpoints import expanded, row_weights
from robustgap.analysis.models.design import in_grid
from robustgap.analysis.ranks.influence import FEWEST_FREE, RANK, interactions, level_codes

DEVIATIONS = 4
REPEATS = 10
NORMAL = float(1 / stats.norm.isf(0.25))  # normal standard deviation over median absolute deviation
ROUNDING = 1e-9  # share of the outcome's range; smaller residuals are rounding errors of an exact fit


def settings_columns(table: pd.DataFrame, axes: Sequence[str], order: int) -> np.ndarray:
    """A constant, the settings and their interactions up to `order`, one row per model (n, columns); the row of a model
    that is both checkpoints is the mean of both rules' rows."""
    rule_rows = expanded(table, axes)
    levels = level_codes(rule_rows[list(axes)])
    blocks = [np.ones((len(rule_rows), 1)), *(interactions(levels, size) for size in range(1, order + 1))]
    rows = np.concatenate(blocks, axis=1) * row_weights(rule_rows)[:, None]
    columns = np.zeros((len(table), rows.shape[1]))
    np.add.at(columns, rule_rows.index.to_numpy(int), rows)
    return columns


def residuals(table: pd.DataFrame, axes: Sequence[str], outcome: str) -> np.ndarray:
    """r of each model (n,); NaN if it has no outcome, no axis applies to it, or the settings leave no degrees of
    freedom.

    table: one row per model, axes as text.
    """
    y = table[outcome].to_numpy(float)
    rows = ~np.isnan(y) & (in_grid(table, axes) if len(axes) else np.zeros(len(y), dtype=bool))
    residual = np.full(len(y), np.nan)
    for order in (2, 1):
        if not rows.any():
            break
        columns = spanning(settings_columns(table[rows], axes, order))
        if len(columns) - columns.shape[1] >= FEWEST_FREE:
            residual[rows] = about_others(columns, y[rows])
            break
    return residual


def spanning(columns: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the span of the columns."""
    left, size, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, size > RANK * size[0]]


def about_others(columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Residuals of y (n,) about their median, from a fit of the non-outlying models to the orthonormal columns (n,
    k)."""
    used = np.full(len(y), True)
    for _ in range(REPEATS):
        r = y - columns @ np.linalg.lstsq(columns[used], y[used], rcond=None)[0]
        r = np.where(np.abs(r) > ROUNDING * np.ptp(y), r, 0)
        r = r - np.median(r)
        inside = ~(np.abs(r) > residual_bound(r))
        if (inside == used).all() or spanning(columns[inside]).shape[1] < columns.shape[1]:
            break
        used = inside
    return np.asarray(r)


def residual_bound(residual: np.ndarray) -> float:
    """Largest |residual| of a model that is not outlying; NaN if no residual is known or half of them are 0."""
    sizes = np.abs(residual[~np.isnan(residual)])
    median = float(np.median(sizes)) if len(sizes) else 0.0
    return DEVIATIONS * NORMAL * median if median else np.nan
