"""Environments (G. K. Dziugaite et al. 2020): pairs of configurations that differ in one axis, with all their seeds."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import CHECKPOINT, Ledger
from robustgap.analysis.models.design import codes, configuration, configurations

PAIRS_AT_ONCE = 2**20  # pairs of models held at a time


@dataclass(frozen=True)
class Environments:
    """All environments of a table of models, and their pairs of models.

    axis, value: of each environment, as text; value is 'u|v', the two values of the axis in sorted order. block: index
    of the configuration without that axis, numbered per axis; ends (environments, 2): the configurations of its two
    sides (the same one if the axis is the checkpoint rule). cell (n,): the cell of each row; sides (environments, 2):
    the cells of both sides; model (n,): index of each model, shared by the rows of a model that is in two cells.
    """

    axis: np.ndarray
    value: np.ndarray
    block: np.ndarray
    ends: np.ndarray
    cell: np.ndarray
    sides: np.ndarray
    model: np.ndarray

    def __len__(self) -> int:
        return len(self.axis)

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield left, right, environment of all pairs, at most PAIRS_AT_ONCE at a time: row indices of the table, one
        from each side, and the environment. With thousands of seeds, all pairs would not fit into memory."""
        order, size = np.argsort(self.cell, kind="stable"), np.bincount(self.cell)
        start, other = np.cumsum(size) - size, size[self.sides[:, 1]]
        last = np.cumsum(size[self.sides[:, 0]] * other)
        for first in range(0, int(last[-1]) if len(last) else 0, PAIRS_AT_ONCE):
            number = np.arange(first, min(first + PAIRS_AT_ONCE, last[-1]))
            environment = np.searchsorted(last, number, side="right")
            offset = number - last[environment] + (last - np.append(0, last[:-1]))[environment]
            left, right = (start[self.sides[environment, side]] for side in (0, 1))
            left, right = order[left + offset // other[environment]], order[right + offset % other[environment]]
            once = self.once(left, right, environment)
            yield left[once], right[once], environment[once]

    def once(self, left: np.ndarray, right: np.ndarray, environment: np.ndarray) -> np.ndarray:
        """Mask of the pairs to count: two models of one configuration that are both checkpoints of their runs form
        two pairs in the environment of the checkpoint rule, one on each side."""
        both = np.bincount(self.model)[self.model] > 1
        if not both.any():
            return np.full(len(left), True)
        repeated = both[left] & both[right] & (self.axis[environment] == CHECKPOINT)
        return np.asarray(~repeated | (self.model[left] < self.model[right]))


def cell_pairs(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of positions with equal group (n,)."""
    order, size = np.argsort(group, kind="stable"), np.bincount(group)
    start, parts = np.cumsum(size) - size, []
    for count in np.unique(size[size > 1]):
        combinations = np.array(list(itertools.combinations(range(count), 2)))
        parts.append(order[(start[size == count, None, None] + combinations).reshape(-1, 2)])
    pairs = np.concatenate(parts) if parts else np.empty((0, 2), dtype=int)
    return pairs[:, 0], pairs[:, 1]


def environments(table: pd.DataFrame, axes: Sequence[str]) -> Environments:
    """Every pair of cells (equal values of all axes, so their models differ only in the seed) that differ in exactly
    one axis.

    The checkpoint rule, if it varies, is an axis like the others: an environment then compares `last` with `best` of
    one configuration, over all pairs of seeds, including the two checkpoints of one run; environments of other axes
    hold the rule fixed. 'NA' is a value like any other, equal only to itself. table: axes as text, with a row for each
    cell to which a model belongs (analysis.models.checkpoints.expanded).
    """
    cell = codes(table, axes)
    cells = table.iloc[np.unique(cell, return_index=True)[1]]
    configuration_of = configurations(cells, axes)
    by_axis = []
    for axis in axes:
        others = [other for other in axes if other != axis]
        group, values = codes(cells, others), cells[axis].to_numpy(str)
        first, second = cell_pairs(group)
        first, second = np.where(values[first] > values[second], [second, first], [first, second])
        value_pair = np.char.add(np.char.add(values[first], "|"), values[second])
        block = codes(cells, configuration(others))[first]
        by_axis.append((np.full(len(first), axis, dtype=object), value_pair.astype(object), block, first, second))
    empty = (np.empty(0, dtype=object), np.empty(0, dtype=object), *[np.empty(0, dtype=int)] * 3)
    axis_of, value_of, block_of, first, second = map(np.concatenate, zip(empty, *by_axis, strict=True))
    ends = np.stack([configuration_of[first], configuration_of[second]], axis=1)
    sides = np.stack([first, second], axis=1)
    return Environments(axis_of, value_of, block_of, ends, cell, sides, table.index.to_numpy(int))


def effective_images(ledger: Ledger, models: pd.Series, outcome: str) -> np.ndarray:
    """1 / (1 / n_train + 1 / n_test) of each model: the number of images for which Hoeffding's bound on a single
    accuracy equals that on the gap `outcome` (gap_ID, or gap_ID_rest for the images not given to any measure); the
    number of images of an accuracy (ID_train, ID_test)."""
    column = ledger.explain(outcome)
    rows = ledger.outcomes[ledger.outcomes["outcome"] == column.outcome]
    n = rows.pivot_table(index="model", columns="split", values="n").reindex(models, columns=list(column.splits))
    return np.asarray((1 / (1 / n).sum(axis=1, skipna=False)).to_numpy())


def pair_weight(outcome: np.ndarray, images: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(P - 1/2)_+ of each pair of models, where P is a lower bound on the probability that their gaps are ordered as
    observed:

        P = (1 - 2 exp(-n_i D^2 / 2))_+ (1 - 2 exp(-n_j D^2 / 2))_+

    D: difference of the two outcomes as a fraction; by Hoeffding an outcome from n_i images (`effective_images`) is off
    by more than D / 2 with probability at most 2 exp(-2 n_i (D / 2)^2). outcome (n,) in percentage points.
    """
    difference = np.abs(outcome[left] - outcome[right]) / 100
    bounds = [np.maximum(1 - 2 * np.exp(-images[side] * difference**2 / 2), 0) for side in (left, right)]
    return np.asarray(np.maximum(bounds[0] * bounds[1] - 0.5, 0))
