"""What stands beside the measures: baselines, known without any measure, and controls, whose verdicts are known.

    baselines   robust training accuracy (under the attack of the outcome), clean training accuracy, and the training
                loss of the checkpoint's epoch (what its defense minimises, so on a scale of its own in each defense)
    controls    a random number per model, and what the settings do to the outcome: the study's own check. Verdicts
                that are expected: *unresolved*, and *proxy of the settings* or *unresolved*

No measure's numbers depend on them: each is a family of its own (analysis.verdicts.judged).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import stats

from robustgap.analysis.ledger import TRAIN_LOSS, Ledger
from robustgap.analysis.models.design import codes, configurations, in_grid, known_models

MEASURE, BASELINE, CONTROL = "measure", "baseline", "control"
ROBUST, CLEAN, LOSS = "robust training accuracy", "clean training accuracy", "training loss"
RANDOM, FITTED = "random number", "fit of the settings"
LEAST_APART = 0.75  # share of models that must be told apart for a random number that hangs on nothing else
DECIMALS = 9  # beyond these a fit is rounding, which would break ties


@dataclass(frozen=True)
class Beside:
    """table: the models, with a column for each baseline and control; kinds: {column: BASELINE or CONTROL}, baselines
    first; roles: {ROBUST, ..., RANDOM, FITTED: its column}; absent: baselines that nothing is known of."""

    table: pd.DataFrame
    kinds: dict[str, str]
    roles: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


def free_name(name: str, taken: Collection[str]) -> str:
    """A column name that is not taken: `name`, with underscores after it where it is."""
    while name in taken:
        name += "_"
    return name


def random_numbers(table: pd.DataFrame, axes: Sequence[str], outcome: str) -> np.ndarray:
    """A number for each model that knows nothing: place r of a random order of 0, 1, ... for the r-th lowest outcome.

    So it moves neither with the order of rows nor with names, nor with a monotone change of the outcome. Models of
    equal outcomes are told apart by the other outcomes of their configuration; where both are equal (such as those of
    identical checkpoints), they share one number. All are NaN where that is common (fewer than LEAST_APART of the
    models of different configuration or outcome are told apart): a number that models share would go with an outcome
    that they share. table: models with an outcome. -> (n,)
    """
    rank, block = stats.rankdata(table[outcome], "dense"), configurations(table, axes)
    own = pd.Series(rank).groupby(block).agg(lambda ranks: tuple(sorted(ranks)))
    keys = list(zip(rank, (own[number] for number in block), strict=True))
    place = {key: number for number, key in enumerate(sorted(set(keys)))}
    if len(place) < LEAST_APART * len(set(zip(rank, block, strict=True))):
        return np.full(len(table), np.nan)
    order = np.random.default_rng(len(place)).permutation(len(place)).astype(float)
    return order[[place[key] for key in keys]]


def settings_fit(table: pd.DataFrame, axes: Sequence[str], outcome: str) -> np.ndarray:
    """Least-squares main effects of the axes on the normal scores of the outcome's midranks: the strongest simple proxy
    of the settings, and unmoved by a monotone change of the outcome. table: models with an outcome; models outside the
    grid, and all where there are no axes, have NaN. -> (n,)"""
    found, inside = np.full(len(table), np.nan), in_grid(table, axes) if axes else np.full(len(table), False)
    if inside.any():
        grid = table[inside]
        score = stats.norm.ppf((stats.rankdata(grid[outcome]) - 0.5) / len(grid))
        columns = pd.get_dummies(grid[list(axes)].astype(str)).to_numpy(float)
        effects = np.linalg.lstsq(columns, score, rcond=None)[0]
        # One number for each cell: sums of the same effects may round differently in different rows.
        cell = codes(grid, axes)
        first = np.unique(cell, return_index=True)[1]
        found[inside] = np.round(columns[first] @ effects, DECIMALS)[cell]
    return found


def controls(table: pd.DataFrame, axes: Sequence[str], outcome: str) -> dict[str, np.ndarray]:
    """{RANDOM, FITTED: the column}; NaN where a model has no outcome."""
    known = known_models(table, outcome, axes)
    made = {RANDOM: random_numbers(known, axes, outcome), FITTED: settings_fit(known, axes, outcome)}
    return {name: pd.Series(values, known.index).reindex(table.index).to_numpy(float) for name, values in made.items()}


def beside_table(
    table: pd.DataFrame, axes: Sequence[str], outcome: str, measures: Iterable[str], state: Iterable[str] = ()
) -> Beside:
    """Of anybody's table: the columns `state` that are not judged as measures are baselines, under their own names."""
    judged = set(measures)
    own = [name for name in dict.fromkeys(state) if name not in judged]
    return with_controls(table.reset_index(drop=True), axes, outcome, dict.fromkeys(own, BASELINE), {}, [])


def beside_ledger(ledger: Ledger, table: pd.DataFrame, axes: Sequence[str], outcome: str) -> Beside:
    """Of a ledger: baselines from its outcomes and training logs, as far as it has them. table: `ledger.models()`."""
    attack = outcome.removeprefix("gap_").removesuffix("_rest")
    columns = {ROBUST: f"{attack}_train"} if attack != "clean" else {}
    columns |= {CLEAN: "clean_train", LOSS: TRAIN_LOSS}
    values = {name: table[column] for name, column in columns.items() if column in table}
    values = {name: column for name, column in values.items() if column.notna().any()}
    roles = {name: free_name(name, table.columns) for name in values}
    added = table.assign(**{roles[name]: column.astype(float) for name, column in values.items()})
    kinds = dict.fromkeys(roles.values(), BASELINE)
    return with_controls(added, axes, outcome, kinds, roles, [name for name in columns if name not in values])


def with_controls(
    table: pd.DataFrame, axes: Sequence[str], outcome: str, kinds: dict[str, str], roles: dict[str, str], absent: list
) -> Beside:
    made = controls(table, axes, outcome)
    named = {name: free_name(name, table.columns) for name in made}
    added = table.assign(**{named[name]: values for name, values in made.items()})
    return Beside(added, {**kinds, **dict.fromkeys(named.values(), CONTROL)}, {**roles, **named}, absent)


def with_kinds(frame: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Tidy rows with the column `kind` after `measure`; whatever is in no list is a measure."""
    frame = frame.copy()
    frame.insert(1, "kind", [kinds.get(name, MEASURE) for name in frame["measure"]])
    return frame
