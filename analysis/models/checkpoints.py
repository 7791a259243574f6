"""Models that are both checkpoints of their run: one row, which belongs to every checkpoint rule.

If the best epoch of a run is its last, both rules keep the same weights. That is one model: it has one row, with BOTH
(analysis.ledger) as its checkpoint rule, and every n counts it once. Statistics that fix the rule include it under each
value of the rule; statistics that compare the two checkpoints of a run have nothing to compare.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import BOTH, CHECKPOINT, NA, RULES


def is_both(table: pd.DataFrame, axes: Sequence[str]) -> np.ndarray:
    """Which rows are both checkpoints of their run; none if the rule is not an axis. (n,) bool."""
    if CHECKPOINT not in axes:
        return np.zeros(len(table), dtype=bool)
    return np.asarray((table[CHECKPOINT] == BOTH).to_numpy(bool))


def rules(table: pd.DataFrame) -> list[str]:
    """The checkpoint rules of a table, sorted: the values that occur other than BOTH and NA; `best` and `last` if there
    are no others."""
    values = set(table[CHECKPOINT].astype(str)) - {BOTH, NA}
    return sorted(values if values - set(RULES) else RULES)


def rows_by_value(table: pd.DataFrame, axis: str) -> dict[str, np.ndarray]:
    """{value: rows (n,) bool with that value} of an axis, sorted by value; a row that is both checkpoints is listed
    under each rule."""
    labels = table[axis].to_numpy(str)
    both = is_both(table, [axis])
    values = np.unique(labels[~both])
    if both.any():
        values = np.unique([*values, *rules(table)])
    return {str(value): (labels == value) | both for value in values}


def expanded(table: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The table with each row that is both checkpoints replaced by one row per rule. Index: row numbers of `table`, so
    rows with equal index are one model. Returned unchanged if there is no such row."""
    both = is_both(table, axes)
    table = table.reset_index(drop=True)
    if not both.any():
        return table
    names = rules(table)
    rows = table.loc[np.repeat(np.arange(len(table)), np.where(both, len(names), 1))]
    checkpoints = rows[CHECKPOINT].to_numpy(object, copy=True)
    checkpoints[both[rows.index]] = np.tile(names, both.sum())
    return rows.assign(**{CHECKPOINT: checkpoints})


def row_weights(table: pd.DataFrame) -> np.ndarray:
    """Weight of each row of an `expanded` table within its model: 1, or 1 / (number of rules). (n,)."""
    return np.asarray(1 / np.bincount(table.index)[table.index])
