"""How much better the outcome is predicted out of fold with a measure than from the settings alone.

A measure is given to the prediction as what the settings do not already say of it. In each fold, from the models of the
other folds:

    g(settings)     predicts the outcome, by ridge regression or by boosted trees (analysis.settings_models)
    r = z - l(settings)   z: normal scores of the measure's ranks among those models; l: least squares on main effects
                    and two-way interactions; r = 0 where the measure is missing, and everywhere where settings
                    reproduce it exactly
    b               slope of the outcome, freed of the settings in the same way, on r
    prediction      g(settings) + b r;   increment = (sum e_g^2 - sum (e_g - b r)^2) / sum (y - mean y)^2, in R2

By the theorem of Frisch, Waugh and Lovell, b is the coefficient that the measure has beside unpenalised settings. Were
the measure added as a plain column instead, a function of the settings would lower the error of any learner that
shrinks: it says in one number what dozens of penalised columns must learn (docs/claims.md).
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.influence import RANK
from analysis.settings_models import Design

EXACT = 1e-9  # share of the variance of scores below which what is left of them is rounding
ROUNDING = 1e-11  # share of a measure's largest size below which what is left of it is rounding


@dataclass(frozen=True)
class Beyond:
    """What settings leave of measures and of the outcome, as the models outside each fold see it.

    measures (folds, n, measures), outcome (folds, n); fold (n,): 0, 1, ...
    """

    measures: np.ndarray
    outcome: np.ndarray
    fold: np.ndarray


def normal_scores(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Normal scores of the midranks of the rows `train`; other rows halfway between their neighbours, NaN stays NaN.

    So neither the unit nor a monotone change of a measure matters, as for tau. (n,) -> (n,).
    """
    known, count = np.unique(values[train & ~np.isnan(values)], return_counts=True)
    if not len(known):
        return np.full(len(values), np.nan)
    score = stats.norm.ppf((np.cumsum(count) - count / 2) / count.sum())
    below, above = np.searchsorted(known, values, "right") - 1, np.searchsorted(known, values, "left")
    halfway = (score[np.maximum(below, 0)] + score[np.minimum(above, len(known) - 1)]) / 2
    return np.where(np.isnan(values), np.nan, halfway)


def fitted(columns: np.ndarray, values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Least-squares fit of values to the columns (a constant among them), on the rows `train`: (n, k) -> (n, k).

    The value itself where no row is known to fit to.
    """
    found, known = values.copy(), ~np.isnan(values)
    whole = known.all(axis=0)
    inverse = np.linalg.pinv(columns[train], rcond=RANK)
    found[:, whole] = columns @ (inverse @ values[train][:, whole])
    for place in np.flatnonzero(~whole):
        rows = train & known[:, place]
        if rows.any():
            found[:, place] = columns @ np.linalg.lstsq(columns[rows], values[rows, place], rcond=RANK)[0]
    return found


def residuals(columns: np.ndarray, values: np.ndarray, train: np.ndarray) -> np.ndarray:
    """values less their least-squares fit to the columns (a constant among them) on the rows `train`: (n, k) -> (n, k).

    0 where a value is missing, and in columns whose fit on those rows is exact.
    """
    known = ~np.isnan(values)
    found = np.where(known, values - fitted(columns, values, train), 0)
    count = np.maximum(known[train].sum(axis=0), 1)
    centred = np.where(known[train], values[train] - np.where(known[train], values[train], 0).sum(axis=0) / count, 0)
    return np.where((found[train] ** 2).sum(axis=0) > EXACT * (centred**2).sum(axis=0), found, 0)


def same_in_cells(cell: np.ndarray, measures: np.ndarray) -> np.ndarray:
    """Whether all models of a cell (n,) that have a measure have the same value of it: (n, k) -> (k,)."""
    order = np.argsort(cell, kind="stable")
    start = np.flatnonzero(np.diff(cell[order], prepend=-1))
    least, most = (end.reduceat(measures[order], start, axis=0) for end in (np.fmin, np.fmax))
    return ((least == most) | np.isnan(least)).all(axis=0)


def reproduced(design: Design, columns: np.ndarray, measures: np.ndarray) -> np.ndarray:
    """Which measures (n, k) are exactly a function of the settings' columns: bool (k,).

    Values are asked here, as a sum of functions of settings is none of its ranks. Any difference within a cell of
    settings says no, so that neither the unit nor a monotone change (values of 1 and 2 under one defense, of 1e5 + 1
    and 1e5 + 2 under another) makes a function of settings of what is none; the fit allows for rounding alone, which is
    relative to the largest value.
    """
    found = same_in_cells(design.cell, measures)
    largest = np.nanmax(np.abs(measures[:, found]), axis=0, initial=0)
    scaled = measures[:, found] / np.where(largest > 0, largest, 1)  # squares of raw values could overflow, or vanish
    left = scaled - fitted(columns, scaled, np.full(len(columns), True))
    found[found] = np.nanmax(np.abs(left), axis=0, initial=0) <= ROUNDING
    return found


def beyond_settings(design: Design, y: np.ndarray, measures: np.ndarray, fold: np.ndarray) -> Beyond:
    """What settings leave of each measure and of the outcome, in every fold. y (n,); measures (n, k), NaN: missing."""
    columns = np.column_stack([np.ones(len(y)), design.linear])
    parts = np.unique(fold)
    exact = reproduced(design, columns, measures)
    kept, outcome = np.zeros((len(parts), *measures.shape)), np.zeros((len(parts), len(y)))
    for place, part in enumerate(parts):
        train = fold != part
        scores = np.stack([normal_scores(column, train) for column in measures.T], axis=1)
        kept[place] = np.where(exact, 0, residuals(columns, scores, train))
        outcome[place] = residuals(columns, y[:, None], train)[:, 0]
    return Beyond(kept, outcome, np.searchsorted(parts, fold))


def corrections(beyond: Beyond) -> tuple[np.ndarray, np.ndarray]:
    """What each measure alone adds to the prediction of each model (n, measures), and its mean slope (measures,)."""
    added = np.zeros(beyond.measures.shape[1:])
    slopes = np.zeros(beyond.measures.shape[::2])
    for part, (r, y) in enumerate(zip(beyond.measures, beyond.outcome, strict=True)):
        train = beyond.fold != part
        square = (r[train] ** 2).sum(axis=0)
        slopes[part] = np.where(square > 0, r[train].T @ y[train] / np.where(square > 0, square, 1), 0)
        added[~train] = slopes[part] * r[~train]
    return added, slopes.mean(axis=0)


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
