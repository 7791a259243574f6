"""An order of settings, configurations and models that no name, and no order of a table, can change.

Whatever draws at random (deals into folds, trees, multipliers) goes through configurations and columns in some order.
Were that the order of names, renaming a value would be another draw, and could turn a verdict. Here the outcome's ranks
decide: values of an axis come by the mean midrank of the models that have them, axes by their number of values and then
by those means, configurations by their values, models of one configuration by their outcome. A monotone change of the
outcome changes none of it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats


def value_order(labels: np.ndarray, midranks: np.ndarray, weight: np.ndarray) -> tuple[list[str], tuple]:
    """The values of an axis by their mean midrank (ties: by their midranks in turn), and a key by which axes compare.

    labels (n,): the axis; midranks (n,): of the outcome; weight (n,): 1, or less for a row that stands several times.
    Sums of midranks are exact, so that means do not depend on the order of rows.
    """
    values, place = np.unique(labels, return_inverse=True)
    total, count = np.bincount(place, weight * midranks), np.bincount(place, weight)
    keys = [(total[k] / count[k], tuple(np.sort(midranks[place == k]))) for k in range(len(values))]
    order = sorted(range(len(values)), key=keys.__getitem__)
    return [str(values[k]) for k in order], (len(values), tuple((keys[k][0], count[k]) for k in order))


def canonical_codes(settings: pd.DataFrame, outcome: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Number of each row's value on each axis, values and axes in the order of the module: (n, axes).

    settings: one row per model, one column per axis; outcome (n,) without missing values; weight (n,).
    """
    midranks = stats.rankdata(outcome) if len(outcome) else np.zeros(0)
    columns = []
    for axis in settings:
        labels = settings[axis].to_numpy(str)
        order, key = value_order(labels, midranks, weight)
        number = {value: place for place, value in enumerate(order)}
        columns.append((key, np.array([number[label] for label in labels], dtype=int)))
    columns.sort(key=lambda column: column[0])
    return np.stack([codes for _, codes in columns], axis=1) if columns else np.zeros((len(settings), 0), dtype=int)


def canonical_rows(codes: np.ndarray, outcome: np.ndarray, rest: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Positions of the rows by their codes, then by their outcome, then by the arrays `rest` (each (n,)): (n,)."""
    return np.lexsort([*list(rest)[::-1], outcome, *codes.T[::-1]])
