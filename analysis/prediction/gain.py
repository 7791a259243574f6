"""How much better the outcome is predicted out of fold with a measure than from the settings alone.

A measure is given to the prediction as what the settings do not already say of it. Outcome and measure are normal
scores of their ranks over all models, y and z, so that neither a unit nor a monotone change of either matters, as for
tau. In each fold, from the models of the other folds:

    g(settings)     predicts y, by ridge regression or by boosted trees (analysis.prediction.settings_regression)
    r = z - l(settings)   l: least squares on main effects and two-way interactions; r = 0 where the measure is missing,
                    and everywhere where settings reproduce it exactly
    b               slope of y, freed of the settings in the same way, on r
    prediction      g(settings) + b r;   increment = (sum e_g^2 - sum (e_g - b r)^2) / sum (y - mean y)^2, in R2

By the theorem of Frisch, Waugh and Lovell, b is the coefficient that the measure has beside unpenalised settings. Were
the measure added as a plain column instead, a function of the settings would lower the error of any learner that
shrinks: it says in one number what dozens of penalised columns must learn (docs/claims.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from robustgap.analysis.prediction.settings_regression import Design, training_weights

EXACT = 1e-9  # share of the variance of scores below which what is left of them is rounding
ROUNDING = 1e-11  # share of the size of values below which what is left of them is rounding
DEPENDENT = 1e-10  # eigenvalues of inner products below this share of the largest are 0
RANK = 1e-10  # eigenvalues of X'WX below this share of the largest are 0


@dataclass(frozen=True)
class Beyond:
    """What settings leave of measures and of the outcome, as the models outside each fold see it.

    measures (folds, rows, measures), outcome (folds, rows); weight (folds, rows): how much each row of the design
    counts there, 0 in its own fold; fold (rows,): 0, 1, ...
    """

    measures: np.ndarray
    outcome: np.ndarray
    weight: np.ndarray
    fold: np.ndarray

    def own(self, values: np.ndarray) -> np.ndarray:
        """values (folds, rows, ...) of each row in its own fold: (rows, ...)."""
        return values[self.fold, np.arange(len(self.fold))]


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Normal scores of midranks: the normal quantile of (number below + half the number of equal ones) / number of all;
    NaN stays NaN. (n,) -> (n,)."""
    known = ~np.isnan(values)
    scores = np.full(len(values), np.nan)
    _, place, count = np.unique(values[known], return_inverse=True, return_counts=True)
    if len(count):
        scores[known] = stats.norm.ppf((np.cumsum(count) - count / 2) / count.sum())[place]
    return scores


def fits(columns: np.ndarray, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Least squares of values (m, k) on columns (m, p), for each row of weights (fits, m): (fits, m, k), the shortest
    solution where columns depend on each other."""
    size, turn = np.linalg.eigh((weight[:, None] * columns.T) @ columns)
    inverse = np.where(size > RANK * size[:, -1:], 1 / np.where(size > 0, size, 1), 0)
    towards = (weight[:, None] * columns.T) @ values
    return columns @ (turn @ (inverse[:, :, None] * (turn.transpose(0, 2, 1) @ towards)))


def fitted(design: Design, values: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Least-squares fit of values (rows, k) to the settings (with a constant), by the cells `outside` (fits, m) bool:
    (fits, rows, k). NaN: missing, in no fit."""
    columns = np.column_stack([np.ones(len(design.weight)), design.linear])
    made = np.empty((len(outside), *values.shape))
    known = ~np.isnan(values)
    patterns, place = np.unique(known, axis=1, return_inverse=True)  # columns known for the same rows: one fit for all
    for number, rows in enumerate(patterns.T):
        chosen = np.flatnonzero(place.reshape(-1) == number)
        weight = np.bincount(design.cell[rows], design.share[rows], len(design.weight))
        sums = [
            np.bincount(design.cell[rows], design.share[rows] * values[rows, column], len(design.weight))
            for column in chosen
        ]
        means = np.stack(sums, axis=1) / np.where(weight > 0, weight, 1)[:, None]
        made[:, :, chosen] = fits(columns, means, np.where(outside, weight, 0))[:, design.cell]
    return made


def residuals(design: Design, values: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """values (rows, k) less their fit to the settings by the cells `outside` (fits, m): (fits, rows, k).

    0 where a value is missing, and in columns whose fit to those cells is exact: also where values are the same in all
    of those cells, and have no variance that what is left could be a share of. A slope on rounding would be any number.
    """
    known = ~np.isnan(values)
    left = np.where(known, values - fitted(design, values, outside), 0)
    weight = np.where(outside[:, design.cell], design.share, 0)[..., None] * known
    total = weight.sum(axis=1)
    kept = np.where(known, values, 0)
    mean = (weight * kept).sum(axis=1) / np.where(total > 0, total, 1)
    centred, squares = ((weight * part**2).sum(axis=1) for part in (kept - mean[:, None], kept))
    rounding = np.maximum(EXACT * centred, ROUNDING**2 * squares)
    return np.where(((weight * left**2).sum(axis=1) > rounding)[:, None], left, 0)


def same_in_cells(cell: np.ndarray, measures: np.ndarray) -> np.ndarray:
    """Whether all rows of a cell (rows,) that have a measure have the same value of it: (rows, k) -> (k,)."""
    order = np.argsort(cell, kind="stable")
    start = np.flatnonzero(np.diff(cell[order], prepend=-1))
    least, most = (end.reduceat(measures[order], start, axis=0) for end in (np.fmin, np.fmax))
    return ((least == most) | np.isnan(least)).all(axis=0)


def reproduced(design: Design, measures: np.ndarray) -> np.ndarray:
    """Which measures (rows, k) are exactly a function of the settings' columns: bool (k,).

    Values are asked here, as a sum of functions of settings is none of its ranks. Any difference within a cell of
    settings says no, so that neither the unit nor a monotone change (values of 1 and 2 under one defense, of 1e5 + 1
    and 1e5 + 2 under another) makes a function of settings of what is none; the fit allows for rounding alone, which is
    relative to the largest value.
    """
    found = same_in_cells(design.cell, measures)
    largest = np.nanmax(np.abs(measures[:, found]), axis=0, initial=0)
    scaled = measures[:, found] / np.where(largest > 0, largest, 1)  # squares of raw values could overflow, or vanish
    left = scaled - fitted(design, scaled, np.full((1, len(design.weight)), True))[0]
    found[found] = np.nanmax(np.abs(left), axis=0, initial=0) <= ROUNDING
    return found


def beyond_settings(design: Design, y: np.ndarray, measures: np.ndarray, fold: np.ndarray) -> Beyond:
    """What settings leave of each measure and of the outcome, in every fold.

    y (n,): the outcome, or its scores; measures (n, k): raw values, NaN: missing; fold (m,): of each cell, 0, 1, ...
    """
    outside = training_weights(design, fold) > 0
    columns = np.column_stack([*(normal_scores(column) for column in measures.T), y])
    left = residuals(design, columns[design.model], outside)
    kept = np.where(reproduced(design, measures[design.model]), 0, left[..., :-1])
    weight = np.where(outside[:, design.cell], design.share, 0)
    return Beyond(kept, left[..., -1], weight, fold[design.cell])


def corrections(
    design: Design, y: np.ndarray, measures: np.ndarray, folds: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What each measure alone adds to the prediction of each model, (n, measures), and its mean slope, (measures,):
    means over the deals `folds`. y (n,), measures (n, measures): as in `beyond_settings`."""
    added, slopes = np.zeros(measures.shape), np.zeros(measures.shape[1])
    for fold in folds:
        beyond = beyond_settings(design, y, measures, fold)
        weighted = beyond.weight[..., None] * beyond.measures
        square = (weighted * beyond.measures).sum(axis=1)
        along = np.einsum("frk,fr->fk", weighted, beyond.outcome)
        slope = np.where(square > 0, along / np.where(square > 0, square, 1), 0)
        added += design.of_models(slope[beyond.fold] * beyond.own(beyond.measures)) / len(folds)
        slopes += slope.mean(axis=0) / len(folds)
    return added, slopes


def added_by(design: Design, beyond: Beyond, chosen: np.ndarray) -> np.ndarray:
    """What the columns of `beyond.measures` chosen in each fold (folds, k) together add to the prediction of each model
    (n,): least squares outside the fold."""
    columns = np.take_along_axis(beyond.measures, chosen[:, None], 2)
    weighted = (beyond.weight[..., None] * columns).transpose(0, 2, 1)
    inverse = np.linalg.pinv(weighted @ columns, rcond=DEPENDENT, hermitian=True)
    slopes = (inverse @ (weighted @ beyond.outcome[..., None]))[..., 0]
    return design.of_models((beyond.own(columns) * slopes[beyond.fold]).sum(axis=1))


def state_corrections(
    design: Design, y: np.ndarray, state: np.ndarray, measures: np.ndarray, folds: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What the training state (n, s) adds to the prediction of each model, (n,), and what each measure adds beside it,
    (n, measures): means over the deals. A measure that the state holds already adds exactly 0."""
    given = state.shape[1]
    by_state, added = np.zeros(len(y)), np.zeros(measures.shape)
    for fold in folds:
        beyond = beyond_settings(design, y, np.column_stack([state, measures]), fold)
        every = len(beyond.outcome)
        alone = added_by(design, beyond, np.tile(np.arange(given), (every, 1)))
        by_state += alone / len(folds)
        for k in range(measures.shape[1]):
            if (measures[:, [k]] == state).all(axis=0).any():
                continue
            both = added_by(design, beyond, np.tile([*range(given), given + k], (every, 1)))
            added[:, k] += (both - alone) / len(folds)
    return by_state, added


def gains(error: np.ndarray, added: np.ndarray, y: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Each configuration's part of the increment in R2: (blocks, measures); the increment is the sum over blocks.

    error (n,): of the prediction without measures; added (n, measures): `corrections`; block (n,).
    """
    squares = error[:, None] ** 2 - (error[:, None] - added) ** 2
    total = ((y - y.mean()) ** 2).sum()
    parts = np.zeros((int(block.max()) + 1, added.shape[1]))
    np.add.at(parts, block, squares)
    return parts / total


def sum_error(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimate, standard error and centred parts of sums over configurations: parts (blocks, k).

    se^2 = n / (n - 1) sum (d - mean d)^2: configurations are what another study would draw anew. NaN for one alone.
    """
    n, centred = len(parts), parts - parts.mean(axis=0)
    ratio = n / (n - 1) if n > 1 else np.nan
    return parts.sum(axis=0), np.sqrt(ratio * (centred**2).sum(axis=0)), centred
