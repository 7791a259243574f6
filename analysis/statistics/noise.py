"""Variance components of an outcome over the models of a study, and the noise ceilings of tau that follow from them.

    variance  of the outcome, in squared units (percentage points), by component:
                settings_main, settings_two_way  main effects and two-way interactions of the settings, over this design
                configuration                    the rest of the variance of configurations' expected outcomes
                checkpoint_rule                  difference between expected outcomes of the checkpoint rules
                seed, checkpoint                 the run's seed; checkpoint within run (not shared)
                images                           sampling of images, without what all models share
    share     the same, over the sum of the defined components; of a measure: `images`, its noise over its variance
    ceiling   of tau, by what a perfect measure equals: `run`, `configuration` (analysis.statistics._ceilings)
    sharing   mean correlation of the image noise of two models of one `run`, of one `configuration`, and `everywhere`
              (analysis.models.shared_images); undefined: no correctness bits, noise assumed independent

Intervals: configuration bootstrap (analysis.ranks.bootstrap), except for both rows of settings and `configuration`,
whose fit does not allow resampling the design (analysis.statistics._settings_effects).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import CHECKPOINT
from robustgap.analysis.models.checkpoints import is_both
from robustgap.analysis.models.design import codes, configurations, in_grid, known_models
from robustgap.analysis.models.shared_images import Sharing
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval
from robustgap.analysis.rows import Interval, Row, tidy_row
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._ceilings import ceilings
from robustgap.analysis.statistics._components import EVERY, Components, Levels, components
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.statistics._settings_effects import SETTINGS, settings_split
from robustgap.analysis.statistics.reliability import over_images, per_model
from robustgap.analysis.view import COUNT, Column, View, pivoted
from robustgap.analysis.words import CEILINGS, COMPONENTS

RESULT = ["measure", "statistic", "component", "estimate", "low", "high", "n", "undefined"]


def levels_of(table: pd.DataFrame, axes: Sequence[str], seed_column: str | None) -> Levels:
    """Configuration, run and checkpoint rule of each model; without a seed column, each configuration is one run."""
    configuration = configurations(table, axes)
    seed = table[seed_column].to_numpy(str) if seed_column else np.full(len(table), "")
    rule = np.zeros(len(table), dtype=int)
    if CHECKPOINT in axes:
        both = is_both(table, axes)
        rule[~both], rule[both] = codes(table[~both], [CHECKPOINT]), EVERY
    run = codes(pd.DataFrame({"block": configuration, "seed": seed}), ["block", "seed"])
    return Levels(configuration, run, rule)


def mean_square(error: np.ndarray, levels: Levels, weights: np.ndarray) -> np.ndarray:
    """Mean of error^2 (n,) over the models, in every draw."""
    size, total = (np.bincount(levels.configuration, part) for part in (np.ones(len(error)), error**2))
    return (weights @ total) / (weights @ size)


def rule_variance(cells: dict[str, np.ndarray], components: Components, weights: np.ndarray) -> np.ndarray:
    """Variance of expected outcomes between the checkpoint rules of a configuration, in every draw; NaN with one rule.

    Mean over the configurations with all rules of the squared deviations of their cells from their mean, less noise.
    """
    means = cells["means"]
    complete = ~np.isnan(means).any(axis=1)
    total = weights[:, complete].sum(axis=1)
    if means.shape[1] < 2 or not complete.any():
        return np.full(len(weights), np.nan)
    squares = means[complete].var(axis=1) * means.shape[1]

    def mean(values: np.ndarray) -> np.ndarray:
        return np.where(total > 0, weights[:, complete] @ values / np.where(total > 0, total, 1), np.nan)

    noise = np.nan_to_num(components.rho) * mean(cells["about_rho"][complete])
    noise = noise + np.nan_to_num(components.delta) * mean(cells["about_delta"][complete])
    return np.asarray(np.maximum(mean(squares) - noise - mean(cells["about_image"][complete]), 0) / means.shape[1])


def component_row(measure: str, statistic: str, component: str, numbers: Interval, n: int) -> Row:
    """One tidy row."""
    return tidy_row(numbers, n, measure=measure, statistic=statistic, component=component)


def component_shares(rows: list[Row]) -> list[Row]:
    """Each component divided by the sum of all; interval ends use the estimates of the other components."""
    total = np.nansum([row["estimate"] for row in rows])
    shares = []
    for row in rows:
        others = total - np.nan_to_num(row["estimate"])
        estimate, low, high = (
            (x / (x + others) if x + others > 0 else np.nan) for x in (row["estimate"], row["low"], row["high"])
        )
        shares.append(component_row(row["measure"], "share", row["component"], (estimate, low, high), row["n"]))
    return shares


def noise(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    seed_column: str | None,
    se: str | None = None,
    shared: Sharing | None = None,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Variance components of the outcome and the two ceilings of tau, as tidy rows (columns: RESULT).

    table: one row per model. se: column of the outcome's standard error from image sampling; without it `images` is
    included in the seeds' components and the run's ceiling is undefined. shared: see analysis.models.shared_images;
    None: noise is assumed independent. Models trained elsewhere count only if there is no grid; models without the
    outcome or its error are left out. n: models used; undefined: 1 if there is no estimate.
    """
    keys = [*axes, *([seed_column] if seed_column else [])]
    table = known_models(table, outcome, keys).sort_values(
        [*keys, outcome]
    )  # pairs drawn for ceilings depend on the order of rows
    is_grid = in_grid(table, axes)
    table = table[is_grid | ~is_grid.any()]
    table = (table[table[se].notna()] if se else table).reset_index(drop=True)
    if table.empty:
        return pd.DataFrame(columns=RESULT)
    y, error = table[outcome].to_numpy(float), table[se].to_numpy(float) if se else np.zeros(len(table))
    levels, bootstrap, sharing = levels_of(table, axes, seed_column), Bootstrap(draws, seed), shared or Sharing()
    weights = bootstrap.weights(np.zeros(levels.configuration.max() + 1), "noise")
    variances, cells = components(y, error, levels, sharing, weights)
    taus = ceilings(y, error, levels, sharing, variances, weights, seed)
    if se is None:
        taus["run"] = np.full(len(weights), np.nan)
    drawn = dict(zip(SETTINGS, settings_split(table, axes, levels, cells, variances, bootstrap), strict=True))
    drawn |= {"checkpoint_rule": rule_variance(cells, variances, weights)}
    drawn |= {"seed": variances.rho, "checkpoint": variances.delta}
    drawn |= {"images": (1 - sharing.everywhere) * mean_square(error, levels, weights) * (1 if se else np.nan)}
    blocks, n = weights.shape[1], len(table)
    rows = [component_row(outcome, "variance", name, interval(values, blocks), n) for name, values in drawn.items()]
    rows += component_shares(rows)
    rows += [component_row(outcome, "ceiling", name, interval(values, blocks), n) for name, values in taus.items()]
    for name, correlation in vars(sharing).items():
        rows.append(component_row(outcome, "sharing", name, (correlation if shared else np.nan, np.nan, np.nan), n))
    return pd.DataFrame(rows, columns=RESULT)


def measure_noise(
    table: pd.DataFrame, errors: pd.DataFrame, *, axes: Sequence[str], draws: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Share of each measure's variance over models that is image sampling noise (columns: RESULT).

    errors: standard errors, one column per measure, rows as in `table`; NaN if a measure has none.
    """
    block = configurations(table, axes)
    weights = Bootstrap(draws, seed).weights(np.zeros(block.max(initial=-1) + 1), "noise")
    rows = []
    for name in errors:
        (reliability, low, high), n = over_images(table[name], errors[name], block, weights)
        rows.append(component_row(name, "share", "images", (1 - reliability, 1 - high, 1 - low), n))
    return pd.DataFrame(rows, columns=RESULT)


def compute(data: StudyData) -> pd.DataFrame:
    """Variance components and ceilings of the outcome, then the noise share of each measure of a ledger."""
    axes, draws = data.axes, data.slow_draws
    rows = noise(
        data.models,
        axes=axes,
        outcome=data.outcome,
        seed_column=data.seed_column,
        se=data.se,
        shared=data.shared_noise,
        draws=draws,
    )
    if data.ledger is None:
        return rows
    errors = per_model(data.ledger, data.models["model"], "se")
    return pd.concat([rows, measure_noise(data.models, errors, axes=axes, draws=draws)], ignore_index=True)


def noise_view(statistics: Statistics) -> View:
    rows = statistics.table("noise")
    rows = rows[rows["measure"] == statistics.ledger.outcome]
    parts = rows[rows["statistic"].isin(["variance", "share"])]
    frame = pivoted(parts, ["component"], parts["statistic"])
    frame = frame.assign(shown=frame["component"].map({name: row for name, (_, row) in COMPONENTS.items()}))
    columns = (
        Column("shown", "component"),
        Column("variance", "variance (points²)", ".2f", True),
        Column("share", "share", ".3f", True),
        COUNT,
    )
    look = (
        "What sets the gaps of models apart. Settings are what a measure must go beyond; seed, checkpoint and images "
        "are noise, which bounds how high τ can rise."
    )
    return View("noise", "What the spread of the gap is made of", look, columns, frame)


def ceilings_view(statistics: Statistics) -> View:
    rows = statistics.table("noise")
    rows = rows[(rows["measure"] == statistics.ledger.outcome) & (rows["statistic"] == "ceiling")]
    meaning = {name: row for name, (_, row) in CEILINGS.items()}
    frame = pivoted(rows, ["component"], rows["statistic"])
    frame = frame.assign(shown=frame["component"].map(meaning))
    columns = (
        Column("component", "level"),
        Column("shown", "a perfect measure equals"),
        Column("ceiling", "τ", ".2f", True),
        COUNT,
    )
    look = (
        "The τ that a perfect measure would be expected to reach with gaps as noisy as these. A measure near the "
        "ceiling leaves nothing to be found; one above it profits from the noise it shares with the gap."
    )
    return View("ceilings", "Noise ceilings of τ", look, columns, frame)


STATISTIC = Statistic(
    asks="what the spread of the gap is made of, and the noise ceilings of τ",
    place=130,
    compute=compute,
    text=("measure", "statistic", "component"),
    views=(noise_view, ceilings_view),
    section="data",
)
