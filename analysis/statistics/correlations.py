"""Rank correlation of an outcome with measures over a factorial study: tau, psi_k and pi_k.

    tau     Kendall's tau-b over all models, of the outcome with the raw value (no sign flip); tau_a: tau-a;
            spearman: Spearman's rho over the same models
    psi_k   cells fix the seed and every axis but k; tau-b within each cell; unweighted mean over the defined cells.
            Detail (given_axis, given_value): the same mean over the cells with that value of another axis. Where each
            run has its own seed, such cells are single models: `own_seeds` lists axes whose cells do not fix it
    pi_k    for each value of axis k, tau-b among the models with that value (detail: column `value`);
            unweighted mean over the values where it is defined

The checkpoint rule is one more axis, called `checkpoint`; but like the seed it is not part of a *configuration*, the
unit of the bootstrap (analysis.ranks.bootstrap). A model that is both checkpoints of its run
(analysis.models.checkpoints) counts once in tau, in the cells of both rules in psi of the other axes, and under both
rules in pi of the rule; psi of the rule has no pair to compare there.

A group with fewer than 2 models, or where outcome or measure is constant, is undefined: left out of the mean and
counted in `undefined`. Models without the measure are left out; n is the number used. The value 'NA' (a setting that
does not apply) matches only itself; a model to which no axis applies (one trained elsewhere) counts only in tau. A
missing setting (None) is a value like any other (analysis.models.design.EMPTY). Y. Jiang et al., Fantastic
generalization measures, ICLR 2020; H. Kim et al., Fantastic robustness measures, NeurIPS 2023.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import CHECKPOINT
from robustgap.analysis.models.baselines import with_kinds
from robustgap.analysis.models.checkpoints import expanded, rows_by_value
from robustgap.analysis.models.design import codes, configuration, configurations, in_grid, known_models, paired
from robustgap.analysis.models.flags import left_out
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval, mean, weighted_tau
from robustgap.analysis.ranks.cells import cell_taus
from robustgap.analysis.ranks.spearman import weighted_spearman
from robustgap.analysis.rows import Interval, Row, tidy_row
from robustgap.analysis.statistics import Statistic
from robustgap.analysis.statistics._data import StudyData

KEY = ["measure", "statistic", "axis", "value", "given_axis", "given_value"]
RESULT = [*KEY, "estimate", "low", "high", "n", "undefined"]

Rows = Iterator[Row]


def correlation_row(
    measure: str, statistic: str, numbers: Interval, n: int, undefined: int | None = None, **keys: str
) -> Row:
    """One tidy row; missing keys become empty text."""
    key = {**dict.fromkeys(KEY, ""), "measure": measure, "statistic": statistic, **keys}
    return tidy_row(numbers, n, undefined, **key)


def tau(
    table: pd.DataFrame,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    bootstrap: Bootstrap,
    names: Sequence[str] = ("tau", "tau_a"),
) -> Rows:
    """Tau-b and tau-a over all models, stored under `names` (only tau-b if a single name is given).

    n: models with both values; undefined: 0 or 1.
    """
    block = configurations(table, axes)
    weights = bootstrap.weights(np.zeros(block.max(initial=-1) + 1), "tau")
    for measure in bar(measures, "tau"):
        x, y, known = paired(table, outcome, measure)
        draws = weighted_tau(x[known], y[known], block[known], weights)
        for name, values in zip(names, draws, strict=False):
            numbers = interval(values, len(np.unique(block[known])))
            yield correlation_row(measure, name, numbers, int(known.sum()))


def spearman(
    table: pd.DataFrame, axes: Sequence[str], outcome: str, measures: Sequence[str], bootstrap: Bootstrap
) -> Rows:
    """Spearman's rho over all models, with the same draws as `tau`. n: models with both values; undefined: 0 or 1."""
    block = configurations(table, axes)
    weights = bootstrap.weights(np.zeros(block.max(initial=-1) + 1), "tau")
    for measure in measures:
        x, y, known = paired(table, outcome, measure)
        rho = weighted_spearman(x[known], y[known], block[known], weights)
        numbers = interval(rho, len(np.unique(block[known])))
        yield correlation_row(measure, "spearman", numbers, int(known.sum()))


def pi(
    table: pd.DataFrame, axis: str, axes: Sequence[str], outcome: str, measures: Sequence[str], bootstrap: Bootstrap
) -> Rows:
    """pi of one axis: for each measure the mean, then a row per value.

    Configurations are drawn within each value (for the checkpoint rule, jointly for both values), which preserves the
    design's margins. The mean of a draw is over the values defined in it; it has an interval only if each defined value
    has 3 configurations. n: models used (mean: those in the defined values).
    """
    block, values = configurations(table, axes), rows_by_value(table, axis)
    strata = table[axis].to_numpy(str)[np.unique(block, return_index=True)[1]]
    weights = bootstrap.weights(np.zeros(len(strata)) if axis == CHECKPOINT else strata, f"pi {axis}")
    for measure in measures:
        x, y, kept = paired(table, outcome, measure)
        groups = {value: kept & inside for value, inside in values.items()}
        taus = [weighted_tau(x[used], y[used], block[used], weights)[0] for used in groups.values()]
        parts = np.reshape(taus, (len(groups), len(weights)))  # no values where no model has an outcome
        models = np.array([used.sum() for used in groups.values()], dtype=int)
        blocks = np.array([len(np.unique(block[used])) for used in groups.values()], dtype=int)
        defined = ~np.isnan(parts[:, 0])
        numbers = interval(mean(parts[defined]), blocks[defined].min(initial=block.size))
        used = np.reshape([*groups.values()], (len(groups), len(table)))[defined].any(axis=0)
        yield correlation_row(measure, "pi", numbers, int(used.sum()), int((~defined).sum()), axis=axis)
        for value, part, n, count, known in zip(groups, parts, models, blocks, defined, strict=True):
            yield correlation_row(measure, "pi", interval(part, count), int(n), int(not known), axis=axis, value=value)


def psi(
    table: pd.DataFrame,
    axis: str,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    seed_column: str | None,
    bootstrap: Bootstrap,
) -> Rows:
    """psi of one axis: for each measure the mean over cells, then the means over the cells with each value of another
    axis.

    Whole cells are drawn, blocked by the configuration without `axis`, so its seeds and checkpoints stay together. n:
    defined cells; undefined: cells with fewer than 2 models or a constant column.
    """
    others = [other for other in axes if other != axis]
    table = expanded(table, others)
    cell = codes(table, [*others, *([seed_column] if seed_column else [])])
    first = np.unique(cell, return_index=True)[1]
    cells = table.iloc[first]
    taus = cell_taus(cell, table[outcome].to_numpy(float), table[list(measures)].to_numpy(float))
    block = codes(cells, configuration(others))
    subsets = [("", "")] + [(other, value) for other in others for value in np.unique(cells[other].to_numpy(str))]
    for other, value in subsets:
        inside = cells[other].to_numpy(str) == value if other else np.full(len(cells), True)
        where = {"axis": axis, "given_axis": other, "given_value": str(value)}
        yield from psi_of(taus[inside], block[inside], measures, bootstrap, where)


def psi_of(
    taus: np.ndarray, block: np.ndarray, measures: Sequence[str], bootstrap: Bootstrap, where: dict[str, str]
) -> Rows:
    """Mean over cells (cells, measures) and its interval, for each measure; `where` identifies the cells.

    In a draw, sum over blocks of W_b (sum of the block's taus) / sum over blocks of W_b (number of its taus).
    """
    names, block = np.unique(block, return_inverse=True)
    weights = bootstrap.weights(np.zeros(len(names)), "psi " + "|".join(where.values()))
    defined = ~np.isnan(taus)
    member = (block == np.arange(len(names))[:, None]).astype(float)
    total, count = weights @ (member @ np.where(defined, taus, 0)), weights @ (member @ defined)
    draws = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    blocks = ((member @ defined) > 0).sum(axis=0)
    for column, measure in enumerate(measures):
        n = int(defined[:, column].sum())
        yield correlation_row(measure, "psi", interval(draws[:, column], blocks[column]), n, len(taus) - n, **where)


def correlations(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    seed_column: str | None,
    own_seeds: Collection[str] = (),
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """tau, tau_a, spearman, psi and pi of the outcome with each measure, with detail: tidy rows (columns: RESULT).

    table: one row per model. axes, seed_column: its columns, compared as text. outcome, measures: numeric columns, NaN
    where missing; models without an outcome are left out. own_seeds: axes whose cells do not fix the seed. draws, seed:
    of the bootstrap.
    """
    bootstrap = Bootstrap(draws, seed)
    table = known_models(table, outcome, [*axes, *([seed_column] if seed_column else [])])
    rows = list(tau(table, axes, outcome, measures, bootstrap))
    rows += spearman(table, axes, outcome, measures, bootstrap)
    grid = table[in_grid(table, axes)]
    for axis in bar(axes, "psi"):
        rows += psi(grid, axis, axes, outcome, measures, None if axis in own_seeds else seed_column, bootstrap)
    for axis in bar(axes, "pi"):
        rows += pi(grid, axis, axes, outcome, measures, bootstrap)
    position = {measure: number for number, measure in enumerate(measures)}
    return pd.DataFrame(sorted(rows, key=lambda row: position[row["measure"]]), columns=RESULT)


def tau_variants(data: StudyData) -> Rows:
    """Variants of tau of a ledger; one that cannot be computed (no such images, no such models) has no rows.

    tau_rest             with the gap computed on training images not given to any measure
    tau_without_FLAG     without the models that have a flag of analysis.models.flags.LEFT_OUT
    tau_without_flagged  without models that have any of these
    """
    table, rest, bootstrap = data.beside.table, f"{data.outcome}_rest", Bootstrap(data.draws)
    measures = data.of_columns["measures"]
    if rest in table and table[rest].notna().any():
        yield from tau(table[table[rest].notna()], data.axes, rest, measures, bootstrap, names=["tau_rest"])
    for flag, rows in left_out(table).items():
        unflagged = table[~rows & table[data.outcome].notna()]
        yield from tau(unflagged, data.axes, data.outcome, measures, bootstrap, names=[f"tau_without_{flag}"])


def compute(data: StudyData) -> pd.DataFrame:
    """Correlations of every measure, baseline and control; of a ledger with the variants of tau."""
    table = correlations(
        data.beside.table,
        **data.of_columns,
        seed_column=data.seed_column,
        own_seeds=data.own_seeds,
        draws=data.draws,
    )
    if data.ledger is not None and (variants := list(tau_variants(data))):
        table = pd.concat([table, pd.DataFrame(variants, columns=RESULT)], ignore_index=True)
    return with_kinds(table, data.beside.kinds)


STATISTIC = Statistic(
    asks="τ-b, τ-a, Spearman's ρ, ψ and π, with detail by the values of each setting",
    place=50,
    compute=compute,
    text=("measure", "kind", "statistic", "axis", "value", "given_axis", "given_value"),
    columns=(*RESULT, "kind"),
)
