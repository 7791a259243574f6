"""Predicting an outcome from the training settings alone, out of fold, by ridge regression and by boosted trees.

The folds keep the models of a configuration together. What belongs to the settings alone (columns, fits, residual
makers) is computed once and shared by all measures.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.ensemble import GradientBoostingRegressor

from analysis.influence import FEWEST_FREE, RANK, interactions, level_codes

FOLDS = 10
INNER_FOLDS = 3
PENALTIES = np.logspace(-3, 3, 13)  # of ridge, times the number of models, for columns of variance 1
TREES = {"n_estimators": 30, "learning_rate": 0.2, "max_depth": 3, "subsample": 0.7, "max_features": 0.6}
LEARNERS = ("ridge", "trees")


@dataclass(frozen=True)
class Design:
    """The columns that settings are given as, one row per model.

    order: 2, or less where there are too few configurations for two-way interactions (1), or for any of it (0);
    linear (n, p): main effects and, with order 2, all two-way interactions; switches (n, q): whether a model has each
    value of each axis, for trees, which find interactions by themselves; block (n,): configuration of each model, 0, 1,
    ...; cell (n,): which models have all axes, the checkpoint rule among them, equal.
    """

    order: int
    linear: np.ndarray
    switches: np.ndarray
    block: np.ndarray
    cell: np.ndarray


def make_design(settings: pd.DataFrame, block: np.ndarray, held_out: int) -> Design:
    """settings: one row per model, one column per axis. held_out: configurations in the largest fold; the others must
    leave FEWEST_FREE degrees of freedom to the columns that differ between configurations."""
    levels = level_codes(settings)
    cell = np.unique(levels, axis=0, return_inverse=True)[1].reshape(-1)
    values = np.concatenate([level[:, None] == np.unique(level)[len(np.unique(level)) == 2 :] for level in levels.T], 1)
    main, pairs = interactions(levels, 1), interactions(levels, 2)
    for order, columns in ((2, np.concatenate([main, pairs], axis=1)), (1, main)):
        if train_freedom(columns, block) - held_out >= FEWEST_FREE:
            return Design(order, columns, values.astype(float), block, cell)
    return Design(0, main[:, :0], values.astype(float), block, cell)


def train_freedom(columns: np.ndarray, block: np.ndarray) -> int:
    """Number of blocks less the rank of the blocks' mean columns (and of a constant)."""
    size = np.bincount(block)
    means = np.stack([np.bincount(block, column) / size for column in columns.T] + [np.ones(len(size))], axis=1)
    return len(size) - int(np.linalg.matrix_rank(means))


def bearable(design: Design, known: np.ndarray, fold: np.ndarray) -> bool:
    """Whether the configurations of the models `known` (n,) bool leave FEWEST_FREE degrees of freedom to the columns
    outside each fold (n,): of fewer, settings reproduce any numbers."""
    rows = np.isin(design.block, design.block[known])
    if not rows.any():
        return False
    _, first, block = np.unique(design.block[rows], return_index=True, return_inverse=True)
    held_out = int(np.bincount(fold[rows][first]).max())
    return train_freedom(design.linear[rows], block) - held_out >= FEWEST_FREE


def folds_of(block: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each row: blocks are dealt at random to `folds` folds (at most one per block) of nearly equal size."""
    blocks, code = np.unique(block, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(blocks)) % min(folds, len(blocks))
    return dealt[code]


def held_out_errors(
    left: np.ndarray, shrink: np.ndarray, projected: np.ndarray, y: np.ndarray, block: np.ndarray
) -> float:
    """Mean squared error of ridge regression when each block is predicted from all others, in closed form.

    With hat matrix H = 1/n + U diag(shrink) U^T and residuals r, the error of block g is (I - H_gg)^-1 r_g.
    """
    residual = y - left @ (shrink * projected)
    total, size = 0.0, np.bincount(block)
    order, start = np.argsort(block, kind="stable"), np.cumsum(size) - size
    for many in np.unique(size[size > 0]):
        rows = order[start[size == many, None] + np.arange(many)]
        part = left[rows]
        leverage = (part * shrink) @ part.transpose(0, 2, 1) + 1 / len(y)
        total += (np.linalg.solve(np.eye(many) - leverage, residual[rows][..., None]) ** 2).sum()
    return total / len(y)


def ridge(x: np.ndarray, y: np.ndarray, block: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, float]:
    """Predictions for the rows `new`, and the error expected of them: ridge regression on columns scaled to variance 1.

    The penalty is the one with the least error when each block of the rows x is predicted from all other blocks.
    A. Hoerl, R. Kennard, Ridge regression, Technometrics 1970.
    """
    middle, scale, mean = x.mean(axis=0), x.std(axis=0), y.mean()
    scale = np.where(scale > 0, scale, 1)
    left, size, right = np.linalg.svd((x - middle) / scale, full_matrices=False)
    kept = size > RANK * max(size.max(initial=0), 1)
    left, size, right = left[:, kept], size[kept], right[kept]
    projected, best = left.T @ (y - mean), (np.inf, np.zeros(int(kept.sum())))
    for penalty in PENALTIES * len(y):
        shrink = size**2 / (size**2 + penalty)
        best = min(best, (held_out_errors(left, shrink, projected, y - mean, block), shrink), key=lambda one: one[0])
    weights = right.T @ (best[1] / size * projected)
    return (new - middle) / scale @ weights + mean, float(best[0])


def trees(design: Design, y: np.ndarray, train: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Predictions for the rows `new` from gradient boosted trees, fitted to the mean outcome of each cell of settings,
    weighted by its models (the same splits as from the models themselves, in a fraction of the time).

    Cells come in the order of their settings, so that the random choices (of cells for each tree and of columns for
    each split) do not depend on the order of models. J. H. Friedman, Stochastic gradient boosting, Computational
    Statistics & Data Analysis 2002.
    """
    _, first, cell, models = np.unique(design.cell[train], return_index=True, return_inverse=True, return_counts=True)
    means = np.bincount(cell, y[train]) / models
    with config_context(assume_finite=True, skip_parameter_validation=True):  # checks of each tree take half the time
        fitted = GradientBoostingRegressor(**TREES, random_state=0).fit(
            design.switches[train][first], means, sample_weight=models
        )
        return fitted.predict(design.switches[new])


def trees_error(design: Design, y: np.ndarray, train: np.ndarray, seed: int) -> float:
    """Mean squared error of trees within the rows `train`, in INNER_FOLDS grouped folds."""
    rows = np.flatnonzero(train)
    fold, total = folds_of(design.block[rows], INNER_FOLDS, seed), 0.0
    for part in np.unique(fold):
        inside, outside = (np.isin(np.arange(len(y)), rows[chosen]) for chosen in (fold != part, fold == part))
        total += ((y[outside] - trees(design, y, inside, outside)) ** 2).sum()
    return total / len(rows)


def out_of_fold(
    design: Design, y: np.ndarray, fold: np.ndarray, *, choose: bool = False, seed: int = 0
) -> dict[str, np.ndarray]:
    """Predictions (n,) of every model from settings, by models of the other folds: {'ridge', 'trees'}, and with
    `choose` 'better': in each fold the learner with the smaller error in cross-validation within the other folds."""
    found = {name: np.full(len(y), np.nan) for name in (*LEARNERS, *(["better"] if choose else []))}
    for part in np.unique(fold):
        new, train = fold == part, fold != part
        rows = design.linear[train], y[train], np.unique(design.block[train], return_inverse=True)[1]
        found["ridge"][new], error = ridge(*rows, design.linear[new])
        found["trees"][new] = trees(design, y, train, new)
        if choose:
            wins = "ridge" if error <= trees_error(design, y, train, seed) else "trees"
            found["better"][new] = found[wins][new]
    return found
