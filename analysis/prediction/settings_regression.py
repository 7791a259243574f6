"""Predicts an outcome from the training settings alone, out of fold, by ridge regression and by boosted trees.

Settings are equal for all models of a *cell* (configuration and checkpoint rule), so everything here works on cells,
weighted by their number of models. A fold keeps the cells of a configuration together. With up to LEAVE_ONE
configurations each is its own fold; with more, configurations are assigned at random to FOLDS folds, DEALS times, and a
model's prediction is the mean over these assignments. Results that depend only on the settings are computed once and
shared by all measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustgap.analysis.models.canonical import canonical_codes
from robustgap.analysis.models.checkpoints import expanded, row_weights
from robustgap.analysis.prediction.boosting import boosted, make_draws
from robustgap.analysis.ranks.influence import FEWEST_FREE, interactions

LEAVE_ONE = 100  # configurations
DEALS, FOLDS = 5, 10
INNER_FOLDS = 3
PENALTIES = np.logspace(-3, 3, 13)  # of ridge, times the number of models, for columns scaled to variance 1
TREE_DRAWS, INNER_DRAWS = 10, 2  # random draws of the trees averaged in a prediction
LEARNERS = ("ridge", "trees")


@dataclass(frozen=True)
class Design:
    """The columns that encode settings, one row per cell.

    order: 2, or less if there are too few configurations for two-way interactions (1), or for any effects (0); linear
    (m, p): main effects and, with order 2, all two-way interactions; switches (m, q): indicators of each value of each
    axis, for trees, which find interactions themselves; block (m,): configuration of each cell, 0, 1, ...; weight (m,):
    models of each cell. model, cell, share (rows,): a row for each cell to which a model (0, 1, ...) belongs, and its
    weight there; a model that is both checkpoints belongs to two cells, half to each.
    """

    order: int
    linear: np.ndarray
    switches: np.ndarray
    block: np.ndarray
    weight: np.ndarray
    model: np.ndarray
    cell: np.ndarray
    share: np.ndarray

    def means(self, values: np.ndarray) -> np.ndarray:
        """Means of the models' values (n,) in each cell: (m,)."""
        return np.asarray(np.bincount(self.cell, self.share * values[self.model], len(self.weight)) / self.weight)

    def of_models(self, rows: np.ndarray) -> np.ndarray:
        """Average values given per row, (rows,) or (rows, k), over the rows of each model: (n,) or (n, k)."""
        totals = np.zeros((self.model.max() + 1, *rows.shape[1:]))
        np.add.at(totals, self.model, rows * self.share.reshape(-1, *[1] * (rows.ndim - 1)))
        return totals


def make_design(
    table: pd.DataFrame,
    axes: Sequence[str],
    outcome: str,
    block: np.ndarray,
    held_out: int,
    *,
    apart: Sequence[str] = (),
) -> Design:
    """table: one row per model, axes as text; block (n,): their configurations, 0, 1, .... held_out: number of
    configurations in the largest fold; the rest must leave FEWEST_FREE degrees of freedom to the columns that differ
    between configurations. apart: axes without columns that separate cells, which puts
    each cell into one fold."""
    memberships = expanded(table, [*axes, *apart])
    model, share = memberships.index.to_numpy(int), row_weights(memberships)
    y = table[outcome].to_numpy(float)[model]
    codes = canonical_codes(memberships[list(axes)], y, share)
    cell_codes = np.column_stack([codes, canonical_codes(memberships[list(apart)], y, share)])
    _, first, cell = np.unique(cell_codes, axis=0, return_index=True, return_inverse=True)
    cell = cell.reshape(-1)
    levels, cell_block = codes[first], block[model][first]
    membership = np.bincount(cell, share), model, cell, share
    values = [level[:, None] == np.unique(level)[len(np.unique(level)) == 2 :] for level in levels.T]
    switches = np.concatenate(values, axis=1).astype(float) if values else np.zeros((len(levels), 0))
    main, pairs = interactions(levels, 1), interactions(levels, 2)
    for order, columns in ((2, np.concatenate([main, pairs], axis=1)), (1, main)):
        if train_freedom(columns, cell_block) - held_out >= FEWEST_FREE:
            return Design(order, columns, switches, cell_block, *membership)
    return Design(0, main[:, :0], switches, cell_block, *membership)


def train_freedom(columns: np.ndarray, block: np.ndarray) -> int:
    """Number of blocks minus the rank of the blocks' mean columns (with a constant)."""
    block = np.unique(block, return_inverse=True)[1]
    size = np.bincount(block)
    means = np.stack([np.bincount(block, column) / size for column in columns.T] + [np.ones(len(size))], axis=1)
    return len(size) - int(np.linalg.matrix_rank(means))


def settings_estimable(design: Design, known: np.ndarray, folds: Sequence[np.ndarray]) -> bool:
    """Whether the configurations of the models `known` (n,) bool leave FEWEST_FREE degrees of freedom outside each fold
    (m,) of each assignment: with fewer, the settings could fit any values."""
    cells = np.isin(design.block, design.block[np.unique(design.cell[known[design.model]])])
    if not cells.any():
        return False
    first = np.unique(design.block[cells], return_index=True)[1]
    held_out = max(int(np.unique(fold[cells][first], return_counts=True)[1].max()) for fold in folds)
    return train_freedom(design.linear[cells], design.block[cells]) - held_out >= FEWEST_FREE


def folds_of(block: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Fold of each row: blocks are assigned at random to `folds` folds (at most one per block) of nearly equal size."""
    blocks, index = np.unique(block, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(blocks)) % min(folds, len(blocks))
    return fold[index]


def cv_folds(configurations: int, seed: int = 0) -> list[np.ndarray]:
    """The fold of each configuration in every fold assignment: a single leave-one-out assignment for at most LEAVE_ONE
    configurations."""
    blocks = np.arange(configurations)
    if configurations <= LEAVE_ONE:
        return [blocks]
    return [folds_of(blocks, FOLDS, DEALS * seed + assignment) for assignment in range(DEALS)]


def training_weights(design: Design, fold: np.ndarray) -> np.ndarray:
    """Weights of the cells outside each fold 0, 1, ...: (folds, m)."""
    return np.where(fold == np.arange(fold.max() + 1)[:, None], 0, design.weight)


def padded_blocks(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row positions of each block, (blocks, most rows), and a mask of the valid ones."""
    order, size = np.argsort(block, kind="stable"), np.bincount(block)
    position = (np.cumsum(size) - size)[:, None] + np.arange(size.max())
    valid = np.arange(size.max()) < size[:, None]
    return order[np.where(valid, position, 0)], valid


def ridge(x: np.ndarray, y: np.ndarray, weight: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression on columns scaled to variance 1, one fit per row of weights: predictions for all rows of x,
    (fits, rows), and the expected mean squared error of each fit, (fits,).

    The penalty of a fit minimises the error of predicting each block from all its other blocks: with hat matrix H =
    (1/W + Z (Z'WZ + penalty)^-1 Z') W and residuals r, the errors of block g are (I - H_gg)^-1 r_g. x (rows, p), y
    (rows,); weight (fits, rows): 0 for rows a fit does not see. A. Hoerl, R. Kennard, Ridge regression, Technometrics
    1970.
    """
    total = weight.sum(axis=1)
    means, mean_y = weight @ x / total[:, None], weight @ y / total
    scatter = (weight[:, None] * x.T) @ x - total[:, None, None] * means[:, :, None] * means[:, None]
    scale = np.sqrt(np.maximum(np.diagonal(scatter, axis1=1, axis2=2) / total[:, None], 0))
    scale = np.where(scale > RANK_SCALE, scale, 1)
    eigenvalues, eigenvectors = np.linalg.eigh(scatter / (scale[:, :, None] * scale[:, None]))
    projected = ((x - means[:, None]) / scale[:, None]) @ eigenvectors  # (fits, rows, p)
    products = np.einsum("fr,frp,fr->fp", weight, projected, y - mean_y[:, None])
    position, valid = padded_blocks(block)
    block_weights = np.where(valid, weight[:, position], 0)  # (fits, blocks, k)
    block_rows, errors, fitted = projected[:, position], [], []
    for penalty in PENALTIES:
        shrink = 1 / (np.maximum(eigenvalues, 0) + penalty * total[:, None])
        fitted.append(mean_y[:, None] + np.einsum("frp,fp->fr", projected, shrink * products))
        hat = (block_rows * shrink[:, None, None]) @ block_rows.transpose(0, 1, 3, 2) + (1 / total)[:, None, None, None]
        system = np.eye(position.shape[1]) - hat * block_weights[:, :, None]
        residual = np.where(valid, y[position] - fitted[-1][:, position], 0)
        errors.append((block_weights * np.linalg.solve(system, residual[..., None])[..., 0] ** 2).sum(axis=(1, 2)))
    best = np.argmin(errors, axis=0)
    fit = np.arange(len(total))
    return np.stack(fitted)[best, fit], np.stack(errors)[best, fit] / total


RANK_SCALE = 1e-6  # standard deviations of 0/1 columns below this are rounding


def trees(design: Design, y: np.ndarray, weight: np.ndarray, seed: int, draws: int = TREE_DRAWS) -> np.ndarray:
    """Predictions for all cells from boosted trees fitted to the mean outcomes y (m,) of the cells, one fit per row of
    weights: (fits, m), averaged over `draws` draws."""
    return boosted(design.switches, y, weight, make_draws(draws, len(y), design.switches.shape[1], seed))


def trees_errors(design: Design, y: np.ndarray, weight: np.ndarray, seed: int) -> np.ndarray:
    """Mean squared error of trees, cross-validated in INNER_FOLDS folds within the cells seen by each row of weights:
    (fits,)."""
    inner = folds_of(design.block, INNER_FOLDS, seed)
    parts = np.arange(inner.max() + 1)[:, None]
    within = np.where(inner == parts, 0, weight[:, None])  # (fits, folds, m)
    seen = within.sum(axis=2) > 0
    errors = np.full(len(weight), np.inf)  # inf for fits whose cells are all in one fold
    estimable = seen.all(axis=1)
    if estimable.any():
        predicted = trees(design, y, within[estimable].reshape(-1, len(y)), seed, INNER_DRAWS)
        predicted = predicted.reshape(-1, len(parts), len(y))
        squares = (predicted[:, inner, np.arange(len(y))] - y) ** 2
        errors[estimable] = (weight[estimable] * squares).sum(axis=1) / weight[estimable].sum(axis=1)
    return errors


def out_of_fold(
    design: Design, y: np.ndarray, folds: Sequence[np.ndarray], *, choose: bool = False, seed: int = 0
) -> dict[str, np.ndarray]:
    """Predictions (m,) of every cell from settings, fitted to the cells of the other folds and averaged over the
    assignments: {'ridge', 'trees'}, and with `choose` 'better': in each fold the learner with the smaller
    cross-validation error within the other folds. y (m,): mean outcomes; folds: of each assignment, (m,)."""
    names = (*LEARNERS, *(["better"] if choose else []))
    averaged = {name: np.zeros(len(y)) for name in names}
    draws = -(-TREE_DRAWS // len(folds))
    for assignment, fold in enumerate(folds):
        weight, cells = training_weights(design, fold), np.arange(len(y))
        by_ridge, error = ridge(design.linear, y, weight, design.block)
        by_trees = trees(design, y, weight, len(folds) * seed + assignment, draws)
        predicted = {"ridge": by_ridge, "trees": by_trees}
        if choose:
            wins = (error <= trees_errors(design, y, weight, seed))[:, None]
            predicted["better"] = np.where(wins, by_ridge, by_trees)
        for name in names:
            averaged[name] += predicted[name][fold, cells] / len(folds)
    return averaged
