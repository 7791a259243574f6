"""Selection: regret of picking a model, or the checkpoint of a run, by a measure instead of its test accuracy.

    choice  model       from all models of CANDIDATES configurations drawn at random, the one with the best value
            checkpoint  in each run, the checkpoint with the best value; a run whose two checkpoints are one model
                        offers no choice and is left out

    statistic  regret           robust test accuracy of the best candidate minus that of the picked one, in points
               over_random      regret of picking at random - regret: points gained over it
               over_validation  regret of picking by validation accuracy - regret: points gained over it

    direction  declared  the smallest gap according to the measure's declared sign
               learned   the one with less regret on other configurations

The configurations are split into halves, SPLITS times. A direction is learned on one half and evaluated on the other,
never on the models it was learned from; statistics are means over halves, the same for every selector. The oracle knows
the observed test accuracy, noise included. Candidates are drawn without replacement, and the mean over all draws
is computed exactly, not simulated: with configurations ordered by their best value, W_r of N of them up to the r-th,

    P(pick is among the first r) = C(W_r, m) / C(N, m),   m = CANDIDATES.

Ties are broken at random, in expectation. The checkpoint `best` is the one with the best validation accuracy; picking a
model by validation accuracy needs such a column. A measure is compared with random and oracle choice among the models
that have the measure. Intervals: configuration bootstrap (analysis.ranks.bootstrap).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import CHECKPOINT
from robustgap.analysis.models.baselines import with_kinds
from robustgap.analysis.models.design import codes, configurations, known_models
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval, mean
from robustgap.analysis.ranks.picking import best_of, expected_pick
from robustgap.analysis.rows import Row, tidy_row
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.view import LABEL, Column, View, pivoted

RESULT = ["measure", "statistic", "choice", "direction", "estimate", "low", "high", "n", "undefined"]
CANDIDATES = 5
SPLITS = 10
# Selectors that use no measure.
RANDOM_CHOICE, VALIDATION, LAST = "random choice", "validation accuracy", "last checkpoint"


@dataclass(frozen=True)
class Candidates:
    """Models to choose from: target (n,), index of configuration and of run (n,), the half of each configuration (2
    SPLITS, configurations), and bootstrap weights (1 + draws, configurations); cache of picks."""

    target: np.ndarray
    block: np.ndarray
    run: np.ndarray
    halves: np.ndarray
    weights: np.ndarray
    picks: dict[tuple[Any, ...], np.ndarray] = field(default_factory=dict)


def model_picks(models: Candidates, score: np.ndarray | None, known: np.ndarray) -> np.ndarray:
    """Expected target of the model picked by `score` (None: at random) among `known`, (halves, draws)."""
    blocks, group = np.unique(models.block[known], return_inverse=True)
    target = models.target[known]
    if score is None:
        scores, targets = np.zeros(len(blocks)), np.bincount(group, target) / np.bincount(group)
    else:
        scores, targets = best_of(group, score[known], target)
    size = min(CANDIDATES, len(blocks) // 2)
    picks = np.full((len(models.halves), len(models.weights)), np.nan)
    for index, half in enumerate(models.halves[:, blocks] if size > 1 else ()):
        picks[index] = expected_pick(scores[half], targets[half], models.weights[:, blocks[half]], size)
    return picks


def checkpoint_picks(models: Candidates, score: np.ndarray | None, known: np.ndarray) -> np.ndarray:
    """Mean target of each run's checkpoint picked by `score` (None: at random), (halves, draws), over runs with two
    checkpoints."""
    runs, group = np.unique(models.run[known], return_inverse=True)
    target, run_block = models.target[known], np.zeros(len(runs), dtype=int)
    run_block[group] = models.block[known]
    size = np.bincount(group)
    value = best_of(group, score[known], target)[1] if score is not None else np.bincount(group, target) / size
    has_choice, width = size > 1, models.weights.shape[1]
    total = models.weights @ (np.bincount(run_block[has_choice], value[has_choice], width) * models.halves).T
    count = models.weights @ (np.bincount(run_block[has_choice], minlength=width) * models.halves).T
    return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan).T


PICKS = {"model": model_picks, "checkpoint": checkpoint_picks}


def regret(models: Candidates, choice: str, score: np.ndarray | None, known: np.ndarray) -> np.ndarray:
    """Expected target of the oracle minus that of picking by `score` (None: at random), (halves, draws)."""
    targets = []
    for by in (models.target, score):
        key = (choice, b"" if by is None else by.tobytes(), known.tobytes())
        if key not in models.picks:  # oracle and random choice are the same for most measures
            models.picks[key] = PICKS[choice](models, by, known)
        targets.append(models.picks[key])
    return np.asarray(targets[0] - targets[1])


def runs_with_choice(models: Candidates, known: np.ndarray) -> int:
    """Number of runs with at least two checkpoints to choose from."""
    return int((np.bincount(models.run[known]) > 1).sum()) if known.any() else 0


def learned(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Regret in each half of the direction with less regret in the other half; halves 2i and 2i + 1 form a split."""
    swapped = np.arange(len(up)) ^ 1
    return np.where(up[swapped] <= down[swapped], up, down)


def make_candidates(
    table: pd.DataFrame, axes: Sequence[str], target: str, seed_column: str | None, bootstrap: Bootstrap
) -> Candidates:
    """The models to choose from, with halves that are the same for every selector."""
    block = configurations(table, axes)
    seed = table[seed_column].to_numpy(str) if seed_column else np.full(len(table), "")
    run = codes(pd.DataFrame({"block": block, "seed": seed}), ["block", "seed"])
    n = block.max(initial=-1) + 1
    rng = np.random.default_rng([bootstrap.seed, n])
    first = np.array([rng.permutation(n) < n // 2 for _ in range(SPLITS)])
    halves = np.stack([first, ~first], axis=1).reshape(2 * SPLITS, n)
    return Candidates(table[target].to_numpy(float), block, run, halves, bootstrap.weights(np.zeros(n), "selection"))


def directions_of(score: np.ndarray, sign: int | None) -> list[tuple[str, list[np.ndarray]]]:
    """(direction, scores to pick by): the declared direction, if any, and the pair of directions for the learned
    one."""
    declared = [("declared", [-sign * score])] if sign else []
    return [*declared, ("learned", [score, -score])]


def selection(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    target: str,
    measures: Sequence[str],
    seed_column: str | None,
    signs: Mapping[str, int | None] | None = None,
    validation: str | None = None,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Regret of picking models and checkpoints by each measure, and by other selectors, as tidy rows (columns: RESULT).

    table: one row per model. target: column of robust test accuracy in percent. signs: declared sign of a measure's
    relation with the *gap*. validation: column of validation accuracy. Rows with `measure` = RANDOM_CHOICE, VALIDATION,
    LAST are the selectors without a measure, over all models; VALIDATION is left out without such data. model: n counts
    models, undefined those without the measure; checkpoint: n counts runs, undefined those with fewer than two
    checkpoints that have it. Estimates are NaN if there are not enough configurations, runs or values.
    """
    table = known_models(table, target, [*axes, *([seed_column] if seed_column else [])]).reset_index(drop=True)
    if table.empty:
        return pd.DataFrame(columns=RESULT)
    models = make_candidates(table, axes, target, seed_column, Bootstrap(draws, seed))
    checkpoint = table[CHECKPOINT] if CHECKPOINT in axes else pd.Series("", index=table.index)
    choices = ["model", *(["checkpoint"] if CHECKPOINT in axes else [])]
    rows: list[Row] = []
    for choice in choices:
        by_rule = {VALIDATION: checkpoint == "best", LAST: checkpoint == "last"} if choice == "checkpoint" else {}
        scores = {name: is_picked.to_numpy(float) for name, is_picked in by_rule.items() if is_picked.any()}
        if validation and VALIDATION not in scores:
            scores[VALIDATION] = table[validation].to_numpy(float)
        selectors = {RANDOM_CHOICE: None, **scores}
        for name, score in selectors.items():
            known = ~np.isnan(score) if score is not None else np.full(len(table), True)
            rows += selector_rows(models, choice, name, {"": [score]}, known, None)
        for name in bar(measures, f"picking a {choice}"):
            score = table[name].to_numpy(float)
            directions = dict(directions_of(score, (signs or {}).get(name)))
            rows += selector_rows(models, choice, name, directions, ~np.isnan(score), scores.get(VALIDATION))
    return pd.DataFrame(rows, columns=RESULT)


def selector_rows(
    models: Candidates,
    choice: str,
    name: str,
    directions: Mapping[str, Sequence[np.ndarray | None]],
    known: np.ndarray,
    validation: np.ndarray | None,
) -> Iterator[Row]:
    """Rows of one selector: its regret in each direction, and what it gains over random and validation."""
    n = int(known.sum()) if choice == "model" else runs_with_choice(models, known)
    total = len(known) if choice == "model" else len(np.unique(models.run))
    for direction, scores in directions.items():
        by_direction = [regret(models, choice, score, known) for score in scores]
        regrets = learned(*by_direction) if len(by_direction) > 1 else by_direction[0]
        statistics = {"regret": regrets}
        if name != RANDOM_CHOICE:
            statistics["over_random"] = regret(models, choice, None, known) - regrets
        if validation is not None:
            statistics["over_validation"] = regret(models, choice, validation, known & ~np.isnan(validation)) - regrets
        for statistic, halves in statistics.items():
            numbers = interval(mean(halves), len(np.unique(models.block[known])))
            key = {"measure": name, "statistic": statistic, "choice": choice, "direction": direction}
            yield tidy_row(numbers, n, total - n, **key)


def compute(data: StudyData) -> pd.DataFrame:
    """Regret when picking by each measure, baseline and control, and by validation accuracy where it is known."""
    assert data.target, "needs the target"
    rows = selection(
        data.beside.table,
        axes=data.axes,
        target=data.target,
        measures=data.of_columns["measures"],
        seed_column=data.seed_column,
        signs=data.signs,
        validation=data.validation,
        draws=data.slow_draws,
    )
    return with_kinds(rows, data.beside.kinds)


def selection_view(statistics: Statistics) -> View:
    rows = statistics.table("selection")
    rows = rows[rows["statistic"] == "regret"]
    rows = rows.assign(direction=rows["direction"].replace("", "learned"))
    frame = statistics.labelled(pivoted(rows, ["measure"], rows["choice"] + "_" + rows["direction"]))
    for choice in ("model", "checkpoint"):
        frame[f"n_{choice}"] = frame["measure"].map(rows[rows["choice"] == choice].groupby("measure")["n"].max())
    labels = {
        RANDOM_CHOICE: "(random choice)",
        VALIDATION: "(validation accuracy)",
        LAST: "(always the last checkpoint)",
    }
    frame = frame.assign(label=frame["measure"].map(labels).fillna(frame["label"]))
    columns = (
        LABEL,
        Column("model_learned", "model, learned sign", ".2f", True),
        Column("model_declared", "model, declared sign", ".2f", True),
        Column("n_model", "models", ".0f"),
        Column("checkpoint_learned", "checkpoint, learned sign", ".2f", True),
        Column("checkpoint_declared", "checkpoint, declared sign", ".2f", True),
        Column("n_checkpoint", "runs", ".0f"),
    )
    look = (
        "Robust test accuracy, in points, that picking by the measure loses against the best candidate: lower is "
        "better. Compare with the first lines, which need no measure at all."
    )
    return View("selection", "Selection regret", look, columns, frame)


STATISTIC = Statistic(
    asks="robust accuracy lost by picking a model, or a checkpoint, by each measure",
    place=140,
    compute=compute,
    text=("measure", "kind", "statistic", "choice", "direction"),
    needs=("target",),
    views=(selection_view,),
    section="selection",
)
