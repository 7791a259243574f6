"""Columns to compare measures with: baselines, known without any measure, and controls with known verdicts.

    baselines   robust training accuracy (under the attack of the outcome), clean training accuracy, and the training
                loss of the checkpoint's epoch (its defense's objective, so on a different scale in each defense)
    controls    a random number per model, and the outcome fitted by the settings: a self-check. Expected
                verdicts: *unresolved*, and *proxy of the settings* or *unresolved*

They change no measure's numbers: each is its own family (analysis.verdicts.judged).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from robustgap.analysis.ledger import TRAIN_LOSS, Ledger
from robustgap.analysis.models.design import codes, configurations, in_grid, known_models

MEASURE, BASELINE, CONTROL = "measure", "baseline", "control"
KINDS = [MEASURE, BASELINE, CONTROL]  # in row order
ROBUST, CLEAN, LOSS = "robust training accuracy", "clean training accuracy", "training loss"
RANDOM, FITTED = "random number", "fit of the settings"
LEAST_APART = 0.75  # minimum share of models told apart, for a random number that depends on nothing else
DECIMALS = 9  # differences of a fit beyond these decimals are rounding, which would break ties


@dataclass(frozen=True)
class Beside:
    """table: the models, with a column for each baseline and control; kinds: {column: BASELINE or CONTROL}, baselines
    first; roles: {ROBUST, ..., RANDOM, FITTED: its column}; absent: baselines without data."""

    table: pd.DataFrame
    kinds: dict[str, str]
    roles: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


def free_name(name: str, taken: Collection[str]) -> str:
    """A column name that is not taken: `name`, followed by underscores if necessary."""
    while name in taken:
        name += "_"
    return name


def random_numbers(table: pd.DataFrame, axes: Sequence[str], outcome: str) -> np.ndarray:
    """A random number for each model, independent of measures and settings: entry r of a random order of 0, 1, ... for
    the model with the r-th lowest outcome.

    So it changes neither with row order or names nor under a monotone change of the outcome. Models with equal outcomes
    are told apart by the other outcomes of their configuration; if those are equal too (as for identical checkpoints),
    they share one number. All are NaN if that is common (fewer than LEAST_APART of the models of different
    configuration or outcome are told apart), because a number shared by models would correlate with an outcome they
    share. table: models with an outcome. -> (n,)
    """
    rank, block = stats.rankdata(table[outcome], "dense"), configurations(table, axes)
    block_ranks = pd.Series(rank).groupby(block).agg(lambda ranks: tuple(sorted(ranks)))
    keys = list(zip(rank, (block_ranks[number] for number in block), strict=True))
    index = {key: number for number, key in enumerate(sorted(set(keys)))}
    if len(index) < LEAST_APART * len(set(zip(rank, block, strict=True))):
        return np.full(len(table), np.nan)
    order = np.random.default_rng(len(index)).permutation(len(index)).astype(float)
    return order[[index[key] for key in keys]]


def settings_fit(table: pd.DataFrame, axes: Sequence[str], outcome: str) -> np.ndarray:
    """Least-squares main effects of the axes, fitted to the normal scores of the outcome's midranks: the strongest
    simple proxy of the settings, invariant under monotone changes of the outcome. table: models with an outcome; NaN
    for models outside the grid, and for all if there are no axes. -> (n,)"""
    fit, inside = np.full(len(table), np.nan), in_grid(table, axes) if axes else np.full(len(table), False)
    if inside.any():
        grid = table[inside]
        score = stats.norm.ppf((stats.rankdata(grid[outcome]) - 0.5) / len(grid))
        columns = pd.get_dummies(grid[list(axes)].astype(str)).to_numpy(float)
        effects = np.linalg.lstsq(columns, score, rcond=None)[0]
        # One number per cell: sums of the same effects may round differently in different rows.
        cell = codes(grid, axes)
        first = np.unique(cell, return_index=True)[1]
        fit[inside] = np.round(columns[first] @ effects, DECIMALS)[cell]
    return fit


def controls(table: pd.DataFrame, axes: Sequence[str], outcome: str) -> dict[str, np.ndarray]:
    """{RANDOM, FITTED: column}; NaN for models without an outcome."""
    models = known_models(table, outcome, axes)
    columns = {RANDOM: random_numbers(models, axes, outcome), FITTED: settings_fit(models, axes, outcome)}
    return {
        name: pd.Series(values, models.index).reindex(table.index).to_numpy(float) for name, values in columns.items()
    }


def beside_table(
    table: pd.DataFrame, axes: Sequence[str], outcome: str, measures: Iterable[str], state: Iterable[str] = ()
) -> Beside:
    """Baselines and controls of a user's table: columns in `state` that are not judged as measures are baselines, under
    their own names."""
    judged = set(measures)
    baselines = [name for name in dict.fromkeys(state) if name not in judged]
    return with_controls(table.reset_index(drop=True), axes, outcome, dict.fromkeys(baselines, BASELINE), {}, [])


def beside_ledger(ledger: Ledger, table: pd.DataFrame, axes: Sequence[str], outcome: str) -> Beside:
    """Baselines and controls of a ledger; baselines come from its outcomes and training logs, if present, and are not
    the outcome itself. table: `ledger.models()`."""
    shown = ledger.explain(outcome).shown
    columns = {ROBUST: f"{shown}_train"} if shown != "clean" else {}
    columns |= {CLEAN: "clean_train", LOSS: TRAIN_LOSS}
    columns = {name: column for name, column in columns.items() if column != outcome}
    values = {name: table[column] for name, column in columns.items() if column in table}
    values = {name: column for name, column in values.items() if column.notna().any()}
    roles = {name: free_name(name, table.columns) for name in values}
    added = table.assign(**{roles[name]: column.astype(float) for name, column in values.items()})
    kinds = dict.fromkeys(roles.values(), BASELINE)
    return with_controls(added, axes, outcome, kinds, roles, [name for name in columns if name not in values])


def with_controls(
    table: pd.DataFrame,
    axes: Sequence[str],
    outcome: str,
    kinds: dict[str, str],
    roles: dict[str, str],
    absent: list[Any],
) -> Beside:
    columns = controls(table, axes, outcome)
    names = {name: free_name(name, table.columns) for name in columns}
    added = table.assign(**{names[name]: values for name, values in columns.items()})
    return Beside(added, {**kinds, **dict.fromkeys(names.values(), CONTROL)}, {**roles, **names}, absent)


def with_kinds(frame: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Tidy rows with the column `kind` after `measure`; names missing from `kinds` are measures."""
    frame = frame.copy()
    frame.insert(1, "kind", [kinds.get(name, MEASURE) for name in frame["measure"]])
    return frame
