"""Canonical order of settings, configurations and models, independent of names and of the order of a table.

Random draws (folds, trees, multipliers) run through configurations and columns in some order. If that were the order of
names, renaming a value would change the draws and could change a verdict. Here the order follows the outcome's ranks:
values of an axis by the mean midrank of their models, axes by their number of values and then by those means,
configurations by their values, models of one configuration by their outcome. A monotone change of the outcome leaves it
unchanged.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats


def value_order(labels: np.ndarray, midranks: np.ndarray, weight: np.ndarray) -> tuple[list[str], tuple[Any, ...]]:
    """The values of an axis by mean midrank (ties: by their midranks in turn), and a key that orders the axes.

    labels (n,): the axis; midranks (n,): of the outcome; weight (n,): 1, or less for a model that occupies several
    rows. Sums of midranks are exact, so means do not depend on row order.
    """
    values, index = np.unique(labels, return_inverse=True)
    total, count = np.bincount(index, weight * midranks), np.bincount(index, weight)
    keys = [(total[k] / count[k], tuple(np.sort(midranks[index == k]))) for k in range(len(values))]
    order = sorted(range(len(values)), key=keys.__getitem__)
    return [str(values[k]) for k in order], (len(values), tuple((keys[k][0], count[k]) for k in order))


def canonical_codes(settings: pd.DataFrame, outcome: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Index of each row's value on each axis, values and axes in canonical order: (n, axes).

    settings: one row per model, one column per axis; outcome (n,) without missing values; weight (n,).
    """
    midranks = stats.rankdata(outcome) if len(outcome) else np.zeros(0)
    columns = []
    for axis in settings:
        labels = settings[axis].to_numpy(str)
        order, key = value_order(labels, midranks, weight)
        index = {value: position for position, value in enumerate(order)}
        columns.append((key, np.array([index[label] for label in labels], dtype=int)))
    columns.sort(key=lambda column: column[0])
    return np.stack([codes for _, codes in columns], axis=1) if columns else np.zeros((len(settings), 0), dtype=int)


def canonical_rows(codes: np.ndarray, outcome: np.ndarray, ties: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Row positions sorted by codes, then by outcome, then by the arrays in `ties` (each (n,)): (n,)."""
    return np.lexsort([*list(ties)[::-1], outcome, *codes.T[::-1]])
