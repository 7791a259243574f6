"""Prepares a table of models for statements about it (analysis.verdicts.statements), and defines a statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.models.canonical import canonical_codes, canonical_rows
from robustgap.analysis.models.design import configuration, in_grid, known_models


@dataclass
class Statement:
    """One estimate: se and degrees of freedom `free` (NaN se: no interval), the contributions of the table's
    configurations to its error, and the outcome's reliability."""

    key: dict[str, Any]
    estimate: float
    se: float
    free: int
    parts: np.ndarray
    n: int
    configurations: int
    reliable: float = 1.0
    slope: float = np.nan


@dataclass(frozen=True)
class Study:
    """A table prepared for statements: grid models with an outcome, in the order of analysis.models.canonical; block
    (n,): configuration; levels: codes of each configuration; se (n,) or None: standard error of the outcome from image
    sampling; state: columns of the training state."""

    table: pd.DataFrame
    axes: list[str]
    outcome: str
    measures: list[str]
    block: np.ndarray
    levels: np.ndarray
    se: np.ndarray | None
    state: list[str]


def make_study(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    se: str | None = None,
    state: Sequence[str] = (),
) -> Study:
    """Models trained elsewhere (no axis applies to them) are left out: the settings say nothing about them."""
    table = known_models(table, outcome, axes)
    table = table[in_grid(table, axes)].reset_index(drop=True)
    y = table[outcome].to_numpy(float)
    codes = canonical_codes(table[configuration(axes)], y, np.ones(len(table)))
    order = canonical_rows(codes, y)
    table, codes = table.iloc[order].reset_index(drop=True), codes[order]
    levels, block = np.unique(codes, axis=0, return_inverse=True)
    errors = table[se].to_numpy(float) if se else None
    return Study(table, list(axes), outcome, list(measures), block.reshape(-1), levels, errors, list(state))
