"""Threshold conditioning: tau among the models with a column (the adversarial cross-entropy, say) at most c.

A measure may track the gap only among models that fit their training data well, or only among those that do not. So c
sweeps over quantiles of the column over the models with an outcome (each c is an observed value), and tau-b with its
interval is computed at each c, over all models and within each value of an axis, with the same c for all. The last c
includes every model that has the column: if all have it, its rows equal tau, and pi of each value. H. Kim et al.,
Fantastic robustness measures, NeurIPS 2023 (section on conditions on the training loss).

Intervals: the configuration bootstrap of tau (of pi within a value), with the same draws at every c, so each draw
resamples a whole curve; c itself is fixed. n: models at most c that have the measure; undefined: 0 or 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import CHECKPOINT
from robustgap.analysis.models.checkpoints import rows_by_value
from robustgap.analysis.models.design import configurations, in_grid, known_models
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval, weighted_tau
from robustgap.analysis.rows import Row, tidy_row
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.view import COUNT, LABEL, Column, View, pivoted

RESULT = ["measure", "statistic", "column", "quantile", "threshold", "axis", "value"]
RESULT += ["estimate", "low", "high", "n", "undefined"]
DEFAULT_COLUMN = "average_ce.adv"
QUANTILES = tuple(k / 10 for k in range(1, 11))


def cuts(values: np.ndarray, quantiles: Sequence[float]) -> list[tuple[float, float]]:
    """(quantile, c), where c is the smallest value that a share `quantile` of the known values does not exceed; equal
    cuts are listed once, under the largest quantile."""
    known = values[~np.isnan(values)]
    if not len(known):
        return []
    thresholds = np.quantile(known, quantiles, method="inverted_cdf")
    distinct = {c: (quantile, float(c)) for quantile, c in zip(quantiles, thresholds, strict=True)}
    return list(distinct.values())


def models_by_value(
    table: pd.DataFrame, axes: Sequence[str], within: str | None, bootstrap: Bootstrap
) -> list[tuple[Any, ...]]:
    """(value, its models, the block of each, weights of the draws): first all models, then those of each value of the
    axis `within`."""
    rows, block = np.arange(len(table)), configurations(table, axes)
    groups = [("", rows, block, bootstrap.weights(np.zeros(block.max(initial=-1) + 1), "tau"))]
    if within:
        rows = rows[in_grid(table, axes)]
        grid = table.iloc[rows]
        block, strata = configurations(grid, axes), grid[within].to_numpy(str)
        strata = strata[np.unique(block, return_index=True)[1]]
        weights = bootstrap.weights(np.zeros(len(strata)) if within == CHECKPOINT else strata, f"pi {within}")
        by_value = rows_by_value(grid, within).items()
        groups += [(value, rows[inside], block[inside], weights) for value, inside in by_value]
    return groups


def thresholds(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    column: str = DEFAULT_COLUMN,
    within: str | None = None,
    quantiles: Sequence[float] = QUANTILES,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """`tau_at_most` of each measure at each cut of `column`, as tidy rows (columns: RESULT; axis and value are empty
    for all models together).

    table: one row per model; models without an outcome are left out, those without the column are in no subset. within:
    an axis, such as the defense, within whose values tau is also computed.
    """
    table = known_models(table, outcome, axes)
    y, values = table[outcome].to_numpy(float), table[column].to_numpy(float)
    groups = models_by_value(table, axes, within, Bootstrap(draws, seed))
    rows: list[Row] = []
    for measure in bar(measures, f"tau by {column}"):
        x = table[measure].to_numpy(float)
        for value, models, block, weights in groups:
            keys = {"column": column, "axis": within if value else "", "value": value}
            for quantile, c in cuts(values, quantiles):
                below = (values[models] <= c) & ~np.isnan(x[models])
                taus = weighted_tau(x[models[below]], y[models[below]], block[below], weights)[0]
                numbers = interval(taus, len(np.unique(block[below])))
                key = {"measure": measure, "statistic": "tau_at_most", **keys, "quantile": quantile, "threshold": c}
                rows.append(tidy_row(numbers, int(below.sum()), **key))
    return pd.DataFrame(rows, columns=RESULT)


def compute(data: StudyData) -> pd.DataFrame:
    """Tau at or below each cut, also within each defense: of the adversarial cross-entropy if the study measured it,
    else of the training error (clean, if the outcome is the robust one); of a user's table, of each column of its
    training state."""
    table, columns = data.models, data.state
    if data.ledger is not None and DEFAULT_COLUMN in table and data.outcome != DEFAULT_COLUMN:
        columns = [DEFAULT_COLUMN]
    elif data.ledger is not None:
        accuracy = data.state[0]
        columns = [f"{accuracy}_error"]
        table = table.assign(**{columns[0]: 100 - table[accuracy]})
    within = "defense" if "defense" in data.axes else None
    tables = [
        thresholds(table, **data.of_measures, column=column, within=within, draws=data.slow_draws) for column in columns
    ]
    return pd.concat(tables, ignore_index=True)


def thresholds_view(statistics: Statistics) -> View:
    rows = statistics.table("thresholds")
    rows = rows[rows["value"] == ""]
    column = rows["column"].iloc[0] if len(rows) else "loss"
    cuts = rows.drop_duplicates("quantile").sort_values("quantile")[["quantile", "threshold"]]
    cuts = cuts[(cuts["quantile"] * 10).round().astype(int) % 2 == 0]
    names = rows["quantile"].map("at_{:.1f}".format)
    frame = statistics.labelled(pivoted(rows, ["measure"], names))
    columns = (
        LABEL,
        *(
            Column(f"at_{share:.1f}", f"c = {c:.3g} ({share:.0%} of the models)", "+.2f", True)
            for share, c in cuts.to_numpy()
        ),
        COUNT,
    )
    look = (
        f"τ among the models with {column} at most c; n: models at the largest c. A measure that works only among "
        "models that fit their training data well fades from left to right."
    )
    return View("thresholds", "τ by threshold of the training loss", look, columns, frame)


STATISTIC = Statistic(
    asks="τ among the models whose training loss is at most c",
    place=90,
    compute=compute,
    text=("measure", "statistic", "column", "axis", "value"),
    needs=("state",),
    views=(thresholds_view,),
    section="conditions",
)
