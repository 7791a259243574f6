"""Environments of G. K. Dziugaite et al. 2020: pairs of configurations that differ in one axis, all seeds of both."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.association import codes, configuration, configurations
from analysis.ledger import Ledger


@dataclass(frozen=True)
class Environments:
    """All environments of a table of models, and the pairs of models in them.

    axis, value: of each environment, text; value is 'u|v', the two values of the axis in sorted order. block: the
    configuration without that axis, a number per axis; ends (environments, 2): the configurations of its two sides
    (both the same where the axis is the checkpoint rule). left, right (pairs,): rows of the table, one of each side;
    home (pairs,): the environment of each pair.
    """

    axis: np.ndarray
    value: np.ndarray
    block: np.ndarray
    ends: np.ndarray
    left: np.ndarray
    right: np.ndarray
    home: np.ndarray

    def __len__(self) -> int:
        return len(self.axis)


def cell_pairs(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of places with equal group (n,)."""
    order, size = np.argsort(group, kind="stable"), np.bincount(group)
    start, parts = np.cumsum(size) - size, []
    for many in np.unique(size[size > 1]):
        where = np.array(list(itertools.combinations(range(many), 2)))
        parts.append(order[(start[size == many, None, None] + where).reshape(-1, 2)])
    pairs = np.concatenate(parts) if parts else np.empty((0, 2), dtype=int)
    return pairs[:, 0], pairs[:, 1]


def members(cell: np.ndarray, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of a model of cell left_e and one of cell right_e: (rows, rows, e). cell (n,): of each model."""
    order, size = np.argsort(cell, kind="stable"), np.bincount(cell)
    start, many = np.cumsum(size) - size, size[left] * size[right]
    home = np.repeat(np.arange(len(left)), many)
    number = np.arange(len(home)) - np.repeat(np.cumsum(many) - many, many)
    other = size[right][home]
    return order[start[left][home] + number // other], order[start[right][home] + number % other], home


def environments(table: pd.DataFrame, axes: Sequence[str]) -> Environments:
    """Every pair of cells (equal values of all axes: models that differ in the seed alone) that differ in one axis.

    The checkpoint rule is an axis like the others where it varies: an environment then compares `last` with `best` of
    one configuration, over all pairs of seeds, the two checkpoints of one run included; and the environments of any
    other axis hold the rule fixed. 'NA' is a value like any other, equal to itself alone. table: axes as text.
    """
    cell = codes(table, axes)
    cells = table.iloc[np.unique(cell, return_index=True)[1]]
    owner = configurations(cells, axes)
    found = []
    for axis in axes:
        others = [other for other in axes if other != axis]
        group, place = codes(cells, others), cells[axis].to_numpy(str)
        first, second = cell_pairs(group)
        first, second = np.where(place[first] > place[second], [second, first], [first, second])
        value = np.char.add(np.char.add(place[first], "|"), place[second])
        block = codes(cells, configuration(others))[first]
        found.append((np.full(len(first), axis, dtype=object), value.astype(object), block, first, second))
    none = (np.empty(0, dtype=object), np.empty(0, dtype=object), *[np.empty(0, dtype=int)] * 3)
    axis_of, value_of, block_of, first, second = (np.concatenate(part) for part in zip(none, *found, strict=True))
    ends = np.stack([owner[first], owner[second]], axis=1)
    return Environments(axis_of, value_of, block_of, ends, *members(cell, first, second))


def effective_images(ledger: Ledger, models: pd.Series, outcome: str) -> np.ndarray:
    """1 / (1 / n_train + 1 / n_test) of each model: of how many images one accuracy would be known as surely, by
    Hoeffding, as the gap `outcome` (gap_ATTACK, or gap_ATTACK_rest for the images no measure was given)."""
    attack = outcome.removeprefix("gap_").removesuffix("_rest")
    split = "train_rest" if outcome.endswith("_rest") else "train"
    rows = ledger.outcomes[ledger.outcomes["attack"] == attack]
    n = rows.pivot_table(index="model", columns="split", values="n").reindex(models, columns=[split, "test"])
    return (1 / (1 / n).sum(axis=1, skipna=False)).to_numpy()


def pair_weight(outcome: np.ndarray, images: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(P - 1/2)_+ of each pair of models, where P bounds from below how surely the order of their gaps is known:

        P = (1 - 2 exp(-n_i D^2 / 2))_+ (1 - 2 exp(-n_j D^2 / 2))_+

    D: difference of the two outcomes as a fraction; by Hoeffding an outcome from n_i images (`effective_images`) is
    off by more than D / 2 with probability at most 2 exp(-2 n_i (D / 2)^2). outcome (n,) in percentage points.
    """
    gone = np.abs(outcome[left] - outcome[right]) / 100
    sure = [np.maximum(1 - 2 * np.exp(-images[side] * gone**2 / 2), 0) for side in (left, right)]
    return np.maximum(sure[0] * sure[1] - 0.5, 0)
