"""Ledgers with the same answers, told otherwise: what may not change a verdict, and what may hardly change one.

Renamings and orders, and a monotone change of the outcome, leave the configurations, every tau and so every verdict as
they are. One gap times 100 is one model whose gap went wrong, of 96 (24 configurations) or 256 (64).
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from benchmarks.known_answers import AXES

SETTINGS = AXES[:-1]  # `checkpoint` is no part of a configuration, so that its name has a meaning; its values have none
STEEP, TIMES = 1.5, 100
EXP, TIMES_100 = "exp(1.5 gap)", "one gap x 100"
Named = tuple[pd.DataFrame, list[str], dict[str, str]]  # table, axes, {name of an axis there: its name before}


def exponential(table: pd.DataFrame) -> pd.DataFrame:
    """The outcome replaced by exp(1.5 gap); its standard error, to first order, by 1.5 exp(1.5 gap) times the gap's."""
    grown = np.exp(STEEP * table["gap"])
    return table.assign(gap=grown, se_gap=STEEP * grown * table["se_gap"])


def outlier(table: pd.DataFrame, number: int, which: int = 0) -> pd.DataFrame:
    """The gap of one model times 100: number `which` of an order of the models that is fixed for ledger `number`."""
    place = np.random.default_rng([number, len(table)]).permutation(len(table))[which]
    gap = table["gap"].to_numpy(copy=True)
    gap[place] *= TIMES
    return table.assign(gap=gap)


def shuffled(names: list[str], rng: np.random.Generator) -> dict[str, str]:
    """A new name for each of the names, from among them."""
    return dict(zip(names, rng.permutation(names).tolist(), strict=True))


def new_values(table: pd.DataFrame, rng: np.random.Generator) -> Named:
    """The values of every axis under each other's names."""
    columns = {axis: table[axis].map(shuffled(sorted(set(table[axis])), rng)) for axis in AXES}
    return table.assign(**columns), AXES, {}


def new_axes(table: pd.DataFrame, rng: np.random.Generator) -> Named:
    """The axes under each other's names."""
    names = shuffled(SETTINGS, rng)
    return table.rename(columns=names), AXES, {new: old for old, new in names.items()}


def axes_turned(table: pd.DataFrame, rng: np.random.Generator) -> Named:
    """The axes asked for in another order."""
    return table, rng.permutation(AXES).tolist(), {}


def rows_turned(table: pd.DataFrame, rng: np.random.Generator) -> Named:
    """The models in another order."""
    return table.iloc[rng.permutation(len(table))].reset_index(drop=True), AXES, {}


def columns_turned(table: pd.DataFrame, rng: np.random.Generator) -> Named:
    """The columns in another order."""
    return table[rng.permutation(table.columns).tolist()], AXES, {}


def all_at_once(table: pd.DataFrame, rng: np.random.Generator) -> Named:
    """Values and axes renamed, and everything in another order."""
    table, _, names = new_axes(new_values(table, rng)[0], rng)
    table = columns_turned(rows_turned(table, rng)[0], rng)[0]
    return table, axes_turned(table, rng)[1], names


RENAMINGS: dict[str, Callable[[pd.DataFrame, np.random.Generator], Named]] = {
    "names of values": new_values,
    "names of axes": new_axes,
    "order of axes": axes_turned,
    "order of rows": rows_turned,
    "order of columns": columns_turned,
    "all of these": all_at_once,
}
