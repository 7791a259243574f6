"""Reliability of measures: how much of the differences between models is reproduced with other seeds or images.

    seeds   1 - W / A of the ranks of the models by the measure. W: mean of (r_i - r_j)^2 / 2 over pairs of models that
            differ only in the training seed; A: the same over pairs of models of different configurations.
            This is the intraclass correlation of one model's rank, from pairs: 1 if a second training gives the same
            rank, 0 if models of one configuration are no more alike than any two. Ranks, because tau uses only these.
            A model that is both checkpoints of its run is ranked once, and compared under both rules.
    images  1 - (mean of se^2) / (variance of the values over models). The squared standard error of a value is what
            another sample of images would add to the variance; 1 if images do not matter. Only if a measure
            has standard errors.

Both are relative to the variance over this study's models: a measure that ranks very different models reliably may not
distinguish similar ones. Intervals: configuration bootstrap (analysis.ranks.bootstrap); a pair of copies of one
configuration never counts. Shrout and Fleiss, Intraclass correlations, Psychological Bulletin 1979.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import CHECKPOINT, VARIANTS, Ledger
from robustgap.analysis.models.checkpoints import expanded
from robustgap.analysis.models.design import codes, configurations
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval
from robustgap.analysis.rows import tidy_row
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.view import LABEL, Column, View, pivoted

RESULT = ["measure", "statistic", "estimate", "low", "high", "n", "undefined"]


def remaining_share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """1 - part / whole; NaN if the whole is 0 or unknown."""
    defined = (whole > 0) & ~np.isnan(part)
    return np.where(defined, 1 - np.where(defined, part, 0) / np.where(defined, whole, 1), np.nan)


def across_blocks(values: np.ndarray, block: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of (x_i - x_j)^2 / 2 over pairs of rows in different blocks, per draw; NaN if there are none.

    values (n,), block (n,) numbers below the width of weights (draws, blocks) -> (draws,). Computed from the sums of 1,
    x and x^2 over each block, so no pair is formed.
    """
    values = values - values.mean() if len(values) else values
    size, first, second = (np.bincount(block, values**power, weights.shape[1]) for power in (0, 1, 2))
    pairs = (weights @ size) ** 2 - weights**2 @ size**2
    inside = weights**2 @ (size * second - first**2)
    total = (weights @ size) * (weights @ second) - (weights @ first) ** 2 - inside
    return np.where(pairs > 0, np.maximum(total, 0) / np.where(pairs > 0, pairs, 1), np.nan)


def within_groups(values: np.ndarray, group: np.ndarray, block: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of (x_i - x_j)^2 / 2 over pairs of rows in one group, per draw; NaN if there are none.

    group (n,): rows that differ only in the seed; every group lies within one block.
    """
    if not len(values):
        return np.full(len(weights), np.nan)
    group = np.unique(group, return_inverse=True)[1]
    size, total = np.bincount(group).astype(float), np.bincount(group, values)
    spread = np.bincount(group, (values - (total / size)[group]) ** 2)
    group_block = np.zeros(len(size), dtype=int)
    group_block[group] = block
    blocks = weights.shape[1]
    pairs = weights @ np.bincount(group_block, size * (size - 1) / 2, blocks)
    summed = weights @ np.bincount(group_block, size * spread / 2, blocks)
    return np.where(pairs > 0, summed / np.where(pairs > 0, pairs, 1), np.nan)


def over_seeds(
    values: pd.Series, group: np.ndarray, block: np.ndarray, weights: np.ndarray, model: np.ndarray | None = None
) -> tuple[tuple[float, float, float], int]:
    """((estimate, low, high), models used): models whose measure is known for at least two seeds.

    values (n,); block (n,): configuration; group: models that differ only in the seed, for each cell a model belongs
    to; model: the row of its model, if some belong to several cells (None: group is (n,)).
    """
    ranks = values.rank().to_numpy(float)
    model = np.arange(len(ranks)) if model is None else model
    known = ~np.isnan(ranks)[model]
    model, group = model[known], group[known]
    has_pair = np.bincount(group, minlength=1)[group] > 1 if len(group) else known[known]
    model, group = model[has_pair], group[has_pair]
    rows = np.unique(model)
    within = within_groups(ranks[model], group, block[model], weights)
    across = across_blocks(ranks[rows], block[rows], weights)
    return interval(remaining_share(within, across), len(np.unique(block[rows]))), len(rows)


def seed_cells(table: pd.DataFrame, axes: Sequence[str], block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each membership of a model in a cell: the cell's index (models that differ only in the seed), and the model's
    row. block (n,): configurations."""
    cells = pd.DataFrame(
        {"block": block, **({CHECKPOINT: table[CHECKPOINT].to_numpy(str)} if CHECKPOINT in axes else {})}
    )
    memberships = expanded(cells, list(cells))
    return codes(memberships, list(cells)), memberships.index.to_numpy(int)


def over_images(
    values: pd.Series, errors: pd.Series, block: np.ndarray, weights: np.ndarray
) -> tuple[tuple[float, float, float], int]:
    """((estimate, low, high), models used): models with a value and its standard error."""
    known = (values.notna() & errors.notna()).to_numpy()
    x, squares, block = values[known].to_numpy(float), errors[known].to_numpy(float) ** 2, block[known]
    x = x - x.mean() if len(x) else x
    count, total, second, noise = (np.bincount(block, y, weights.shape[1]) for y in (x**0, x, x**2, squares))
    n = weights @ count
    enough = n > 1
    n = np.where(enough, n, 2)
    variance = np.where(enough, (weights @ second - (weights @ total) ** 2 / n) / (n - 1), np.nan)
    return interval(remaining_share(weights @ noise / n, variance), len(np.unique(block))), int(known.sum())


def reliability(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    measures: Sequence[str],
    errors: pd.DataFrame | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Both statistics of every measure (columns: RESULT); only `seeds` without standard errors.

    errors: standard errors, one column per measure, rows as in `table`. n: models used; undefined: models left out (no
    value, no standard error, or no second seed).
    """
    block = configurations(table, axes)
    group, model = seed_cells(table, axes, block)
    weights = Bootstrap(draws, seed).weights(np.zeros(block.max(initial=-1) + 1), "reliability")
    rows = []
    for name in measures:
        results = {"seeds": over_seeds(table[name], group, block, weights, model)}
        if errors is not None:
            results["images"] = over_images(table[name], errors[name], block, weights)
        for statistic, (numbers, n) in results.items():
            rows.append(tidy_row(numbers, n, len(table) - n, measure=name, statistic=statistic))
    return pd.DataFrame(rows, columns=RESULT)


def per_model(ledger: Ledger, models: Sequence[str], value: str) -> pd.DataFrame:
    """A column of the measure rows (such as the standard error): one row per model, one column per measure column."""
    column = ledger.measures["measure"] + ledger.measures["variant"].map(VARIANTS)
    rows = ledger.measures.assign(column=column)
    wide = rows.pivot_table(index="model", columns="column", values=value, dropna=False)
    return wide.reindex(models, columns=ledger.columns).reset_index(drop=True)


def costs(ledger: Ledger) -> pd.DataFrame:
    """Mean seconds and forwards (passes per image; a backward pass counts as two) of each measure column over the
    models it was computed for; index: measure column."""
    column = ledger.measures["measure"] + ledger.measures["variant"].map(VARIANTS)
    return ledger.measures.groupby(column)[["seconds", "forwards"]].mean()


def compute(data: StudyData) -> pd.DataFrame:
    """Reliability of every measure: over seeds, and over images if they are of a ledger."""
    errors = None if data.ledger is None else per_model(data.ledger, data.models["model"], "se")
    return reliability(data.models, axes=data.axes, measures=data.measures, errors=errors, draws=data.draws)


def reliability_view(statistics: Statistics) -> View:
    rows = statistics.table("reliability")
    frame = pivoted(rows, ["measure"], rows["statistic"])
    counts = rows.pivot_table(index="measure", columns="statistic", values="n")
    for name in ("seeds", "images"):
        frame[f"n_{name}"] = frame["measure"].map(counts[name]) if name in counts else np.nan
    columns = (
        LABEL,
        Column("seeds", "over seeds", ".2f", True),
        Column("n_seeds", "n", ".0f"),
        Column("images", "over images", ".2f", True),
        Column("n_images", "n", ".0f"),
    )
    look = (
        "1: a second training (or other images) would rank the models the same; 0: what sets them apart would be lost. "
        "An unreliable measure may fail for that reason alone."
    )
    return View("reliability", "Reliability of each measure", look, columns, statistics.labelled(frame))


STATISTIC = Statistic(
    asks="how much of each measure would be reproduced with other seeds or images",
    place=150,
    compute=compute,
    text=("measure", "statistic"),
    views=(reliability_view,),
    section="reliability",
)
