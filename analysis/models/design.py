"""Encodes the design of a study: which models are in its grid, and which share a configuration.

A *configuration* is all settings except the seed and the checkpoint rule, an axis called `checkpoint`. The value 'NA'
(a setting that does not apply) matches only itself; a missing setting (None) is a value like any other, EMPTY.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import CHECKPOINT, NA, text

EMPTY = "(empty)"  # a setting without a value


def codes(table: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Number the distinct combinations of `columns` 0, 1, ... in sorted order; all rows are 0 without columns.

    Columns are sorted by name: draws and folds depend on these numbers, which must not change with the order of the
    axes.
    """
    if not columns:
        return np.zeros(len(table), dtype=int)
    return np.asarray(table.groupby(sorted(columns), sort=True).ngroup().to_numpy())


def configuration(axes: Sequence[str]) -> list[str]:
    """The axes that define a configuration: all but the checkpoint rule."""
    return [axis for axis in axes if axis != CHECKPOINT]


def in_grid(table: pd.DataFrame, axes: Sequence[str]) -> np.ndarray:
    """Which models are in the grid: those to which at least one axis applies."""
    return np.asarray((table[list(axes)] != NA).any(axis=1).to_numpy())


def configurations(table: pd.DataFrame, axes: Sequence[str]) -> np.ndarray:
    """Index of each row's configuration; a model outside the grid, or in a grid without settings, is its own
    configuration."""
    settings = configuration(axes)
    alone = ~in_grid(table, axes) if settings else np.full(len(table), True)
    number = np.where(alone, len(table) + np.arange(len(table)), codes(table, settings))
    return np.unique(number, return_inverse=True)[1]


def paired(table: pd.DataFrame, outcome: str, measure: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Measure, outcome, and a mask of the rows that have both."""
    x, y = table[measure].to_numpy(float), table[outcome].to_numpy(float)
    return x, y, ~(np.isnan(x) | np.isnan(y))


def known_models(table: pd.DataFrame, outcome: str, keys: Sequence[str]) -> pd.DataFrame:
    """The models that have an outcome, with the columns `keys` (axes, seed) as text."""
    table = table[table[outcome].notna()]
    return table.assign(**{key: table[key].map(text).where(table[key].notna(), EMPTY).astype(str) for key in keys})
