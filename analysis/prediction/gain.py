"""Out-of-fold gain of a measure: how much it improves the prediction of the outcome from the settings.

The prediction uses the part of a measure that the settings do not explain. Outcome and measure are normal scores of
their ranks over all models, y and z, so units and monotone changes of either do not matter, as for tau. In each fold,
from the models of the other folds:

    g(settings)     predicts y, by ridge regression or by boosted trees (analysis.prediction.settings_regression)
    r = z - l(settings)   l: least squares on main effects and two-way interactions; r = 0 where the measure is missing,
                    and everywhere where settings reproduce it exactly
    b               slope of y, with the settings removed in the same way, on r
    prediction      g(settings) + b r;   increment = (sum e_g^2 - sum (e_g - b r)^2) / sum (y - mean y)^2, in R2

By the theorem of Frisch, Waugh and Lovell, b is the coefficient of the measure in a regression with unpenalised
settings. Added as a plain column instead, even a function of the settings would lower the error of any learner with
shrinkage: it holds in one column what dozens of penalised columns must learn (docs/claims.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from robustgap.analysis.prediction.settings_regression import Design, training_weights

EXACT_FIT = 1e-9  # share of the variance of scores; smaller residuals are rounding
ROUNDING = 1e-11  # share of the size of values; smaller residuals are rounding
DEPENDENT = 1e-10  # eigenvalues of inner products below this share of the largest count as 0
RANK = 1e-10  # eigenvalues of X'WX below this share of the largest count as 0


@dataclass(frozen=True)
class Residuals:
    """Residuals of measures and of the outcome after removing the settings, fitted to the models outside each fold.

    measures (folds, rows, measures), outcome (folds, rows); weight (folds, rows): weight of each row of the design in
    that fit, 0 in its own fold; fold (rows,): 0, 1, ...
    """

    measures: np.ndarray
    outcome: np.ndarray
    weight: np.ndarray
    fold: np.ndarray

    def of_own_fold(self, values: np.ndarray) -> np.ndarray:
        """The value of each row in its own fold: (folds, rows, ...) -> (rows, ...)."""
        return np.asarray(values[self.fold, np.arange(len(self.fold))])


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Normal scores of midranks: the normal quantile of (number below + half the number of equal ones) / number of all;
    NaN stays NaN. (n,) -> (n,)."""
    known = ~np.isnan(values)
    scores = np.full(len(values), np.nan)
    _, rank, count = np.unique(values[known], return_inverse=True, return_counts=True)
    if len(count):
        scores[known] = stats.norm.ppf((np.cumsum(count) - count / 2) / count.sum())[rank]
    return scores


def fits(columns: np.ndarray, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Least squares of values (m, k) on columns (m, p), for each row of weights (fits, m): (fits, m, k). Minimum-norm
    solution if columns are linearly dependent."""
    eigenvalues, eigenvectors = np.linalg.eigh((weight[:, None] * columns.T) @ columns)
    inverse = np.where(eigenvalues > RANK * eigenvalues[:, -1:], 1 / np.where(eigenvalues > 0, eigenvalues, 1), 0)
    products = (weight[:, None] * columns.T) @ values
    return np.asarray(columns @ (eigenvectors @ (inverse[:, :, None] * (eigenvectors.transpose(0, 2, 1) @ products))))


def settings_fit(design: Design, values: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Least-squares fit of values (rows, k) to the settings (with a constant), using the cells `outside` (fits, m)
    bool: (fits, rows, k). NaN: missing, used in no fit."""
    columns = np.column_stack([np.ones(len(design.weight)), design.linear])
    fit = np.empty((len(outside), *values.shape))
    known = ~np.isnan(values)
    patterns, pattern = np.unique(known, axis=1, return_inverse=True)  # columns known for the same rows share one fit
    for index, rows in enumerate(patterns.T):
        chosen = np.flatnonzero(pattern.reshape(-1) == index)
        weight = np.bincount(design.cell[rows], design.share[rows], len(design.weight))
        sums = [
            np.bincount(design.cell[rows], design.share[rows] * values[rows, column], len(design.weight))
            for column in chosen
        ]
        means = np.stack(sums, axis=1) / np.where(weight > 0, weight, 1)[:, None]
        fit[:, :, chosen] = fits(columns, means, np.where(outside, weight, 0))[:, design.cell]
    return fit


def fit_residuals(design: Design, values: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """values (rows, k) minus their fit to the settings, using the cells `outside` (fits, m): (fits, rows, k).

    0 where a value is missing, and in columns that the settings fit exactly in those cells, since a slope on rounding
    errors would be arbitrary. This includes columns constant over those cells, which have no variance to compare with.
    """
    known = ~np.isnan(values)
    residuals = np.where(known, values - settings_fit(design, values, outside), 0)
    weight = np.where(outside[:, design.cell], design.share, 0)[..., None] * known
    total = weight.sum(axis=1)
    filled = np.where(known, values, 0)
    mean = (weight * filled).sum(axis=1) / np.where(total > 0, total, 1)
    centred, squares = ((weight * squared**2).sum(axis=1) for squared in (filled - mean[:, None], filled))
    rounding = np.maximum(EXACT_FIT * centred, ROUNDING**2 * squares)
    return np.where(((weight * residuals**2).sum(axis=1) > rounding)[:, None], residuals, 0)


def same_in_cells(cell: np.ndarray, measures: np.ndarray) -> np.ndarray:
    """Whether all rows of a cell (rows,) with a known measure have the same value of it: (rows, k) -> (k,)."""
    order = np.argsort(cell, kind="stable")
    start = np.flatnonzero(np.diff(cell[order], prepend=-1))
    least, most = (end.reduceat(measures[order], start, axis=0) for end in (np.fmin, np.fmax))
    return np.asarray(((least == most) | np.isnan(least)).all(axis=0))


def function_of_settings(design: Design, measures: np.ndarray) -> np.ndarray:
    """Which measures (rows, k) are exactly a function of the settings' columns: bool (k,).

    Tested on values, since the ranks of a sum of functions of settings need not be such a sum. Any difference within a
    cell rules it out, so neither a unit nor a monotone change (1 and 2 under one defense, 1e5 + 1 and 1e5 + 2 under
    another) can make a measure pass for a function of the settings; the fit allows only for rounding, relative to the
    largest value.
    """
    exact = same_in_cells(design.cell, measures)
    largest = np.nanmax(np.abs(measures[:, exact]), axis=0, initial=0)
    scaled = measures[:, exact] / np.where(largest > 0, largest, 1)  # squares of raw values could overflow or underflow
    residuals = scaled - settings_fit(design, scaled, np.full((1, len(design.weight)), True))[0]
    exact[exact] = np.nanmax(np.abs(residuals), axis=0, initial=0) <= ROUNDING
    return exact


def settings_residuals(design: Design, y: np.ndarray, measures: np.ndarray, fold: np.ndarray) -> Residuals:
    """The part of each measure and of the outcome that the settings do not explain, in every fold.

    y (n,): the outcome, or its scores; measures (n, k): raw values, NaN: missing; fold (m,): of each cell, 0, 1, ...
    """
    outside = training_weights(design, fold) > 0
    columns = np.column_stack([*(normal_scores(column) for column in measures.T), y])
    residuals = fit_residuals(design, columns[design.model], outside)
    kept = np.where(function_of_settings(design, measures[design.model]), 0, residuals[..., :-1])
    weight = np.where(outside[:, design.cell], design.share, 0)
    return Residuals(kept, residuals[..., -1], weight, fold[design.cell])


def corrections(
    design: Design, y: np.ndarray, measures: np.ndarray, folds: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What each single measure adds to the prediction of each model, (n, measures), and its mean slope, (measures,):
    means over the fold assignments `folds`. y (n,), measures (n, measures): as in `settings_residuals`."""
    added, slopes = np.zeros(measures.shape), np.zeros(measures.shape[1])
    for fold in folds:
        residuals = settings_residuals(design, y, measures, fold)
        weighted = residuals.weight[..., None] * residuals.measures
        square = (weighted * residuals.measures).sum(axis=1)
        product = np.einsum("frk,fr->fk", weighted, residuals.outcome)
        slope = np.where(square > 0, product / np.where(square > 0, square, 1), 0)
        added += design.of_models(slope[residuals.fold] * residuals.of_own_fold(residuals.measures)) / len(folds)
        slopes += slope.mean(axis=0) / len(folds)
    return added, slopes


def added_by(design: Design, residuals: Residuals, chosen: np.ndarray) -> np.ndarray:
    """What the columns of `residuals.measures` chosen in each fold (folds, k) add together to the prediction of each
    model (n,): least squares outside the fold."""
    columns = np.take_along_axis(residuals.measures, chosen[:, None], 2)
    weighted = (residuals.weight[..., None] * columns).transpose(0, 2, 1)
    inverse = np.linalg.pinv(weighted @ columns, rcond=DEPENDENT, hermitian=True)
    slopes = (inverse @ (weighted @ residuals.outcome[..., None]))[..., 0]
    return design.of_models((residuals.of_own_fold(columns) * slopes[residuals.fold]).sum(axis=1))


def state_corrections(
    design: Design, y: np.ndarray, state: np.ndarray, measures: np.ndarray, folds: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What the training state (n, s) adds to the prediction of each model, (n,), and what each measure adds on top of
    it, (n, measures): means over the fold assignments. A measure already in the state adds exactly 0."""
    state_columns = state.shape[1]
    by_state, added = np.zeros(len(y)), np.zeros(measures.shape)
    for fold in folds:
        residuals = settings_residuals(design, y, np.column_stack([state, measures]), fold)
        fold_count = len(residuals.outcome)
        state_only = added_by(design, residuals, np.tile(np.arange(state_columns), (fold_count, 1)))
        by_state += state_only / len(folds)
        for k in range(measures.shape[1]):
            if (measures[:, [k]] == state).all(axis=0).any():
                continue
            joint = added_by(design, residuals, np.tile([*range(state_columns), state_columns + k], (fold_count, 1)))
            added[:, k] += (joint - state_only) / len(folds)
    return by_state, added


def gains(error: np.ndarray, added: np.ndarray, y: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Contribution of each configuration to the increment in R2: (blocks, measures); the increment is the sum over
    blocks.

    error (n,): of the prediction without measures; added (n, measures): `corrections`; block (n,).
    """
    squares = error[:, None] ** 2 - (error[:, None] - added) ** 2
    total = ((y - y.mean()) ** 2).sum()
    parts = np.zeros((int(block.max()) + 1, added.shape[1]))
    np.add.at(parts, block, squares)
    return np.asarray(parts / total)


def sum_error(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, standard error and centred parts of sums over configurations: parts (blocks, k).

    se^2 = n / (n - 1) sum (d - mean d)^2: configurations are what another study would draw again. NaN for a single one.
    """
    n, centred = len(parts), parts - parts.mean(axis=0)
    ratio = n / (n - 1) if n > 1 else np.nan
    return parts.sum(axis=0), np.sqrt(ratio * (centred**2).sum(axis=0)), centred
