"""Robust sign error: how often does a measure order two configurations wrongly when one setting is changed?

An environment (analysis.statistics._environments) is a pair of configurations that differ in one axis. Over all pairs
(i, j) of a model from one side and a model from the other, with any seeds, its sign error is

    sum w_ij (1 - sign(m_i - m_j) sign(g_i - g_j)) / 2 / sum w_ij

0 if the measure m always orders as the outcome g does, 1 if always in the opposite order, 1/2 for a measure that ties.
The weight w_ij expresses the confidence that the outcomes differ (`pair_weight`); without numbers of images it is 1 for
any difference. Equal outcomes have no order to get wrong: weight 0. An environment survives if its effective sample
size (sum w)^2 / sum w^2 is at least min_ess: 12 with ten or more seeds, as in the paper, else 1 (any pair that is
ordered with confidence). Over the surviving environments, of each axis and of all together,

    sign_error_mean   sign_error_p90 (the smallest error that 90 % do not exceed)   sign_error_max (the robust one)

    sign_error_pooled  by axis and pair of values: one environment of all pairs of models of all its configurations

An environment in which no weighted pair has the measure does not survive for that measure. Signs are raw: a
measure claimed to decrease with the gap should be near 1, and its robust error is the smallest 1 - error. G. K.
Dziugaite et al., In search of robust measures of generalization, NeurIPS 2020. The paper counts all environments twice
(u to v, v to u), which changes no number, and computes weights from test images only, because training accuracy was not
sampled.

Intervals: percentiles over draws of environments by blocks, the configurations without the axis
(analysis.ranks.bootstrap); for all axes together, the multiplicity of an environment comes from both its
configurations. The set of surviving environments is held fixed. The maximum has no interval: a bootstrap cannot exceed
the largest observed value. Nor can it produce errors if no environment has any, so an interval of width 0 says no more
than its n.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from robustgap.analysis.models.baselines import with_kinds
from robustgap.analysis.models.checkpoints import expanded
from robustgap.analysis.models.design import codes, in_grid, known_models
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval
from robustgap.analysis.ranks.discordance import NUMBERS_AT_ONCE
from robustgap.analysis.rows import Interval, Row, tidy_row
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.statistics._environments import Environments, environments, pair_weight
from robustgap.analysis.view import LABEL, Column, View, pivoted

RESULT = ["measure", "statistic", "axis", "value", "estimate", "low", "high", "n", "undefined", "min_ess"]
ERROR = ["measure", "axis", "value", "estimate", "ess", "pairs"]
MANY_SEEDS, MIN_ESS, MIN_ESS_FEW_SEEDS = 10, 12, 1
SHARE = 0.9


def default_min_ess(table: pd.DataFrame, axes: Sequence[str]) -> int:
    """12 if some cell has ten or more models (seeds), else 1."""
    seeds = np.bincount(codes(table, axes)).max(initial=0)
    return MIN_ESS if seeds >= MANY_SEEDS else MIN_ESS_FEW_SEEDS


@dataclass(frozen=True)
class Sums:
    """Sums of one measure per environment: of w, of w^2, of w x error, and the number of pairs with weight."""

    weight: np.ndarray
    square: np.ndarray
    wrong: np.ndarray
    pairs: np.ndarray

    def ess(self) -> np.ndarray:
        """Effective sample size; 0 without weight."""
        return np.where(self.square > 0, self.weight**2 / np.where(self.square > 0, self.square, 1), 0)

    def error(self) -> np.ndarray:
        """Sign error; NaN without weight."""
        return np.where(self.weight > 0, self.wrong / np.where(self.weight > 0, self.weight, 1), np.nan)


def weights_of(y: np.ndarray, images: np.ndarray | None, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Weight of each pair of models: confidence that their outcomes y (n,) differ; 0 for ties."""
    if images is None:
        return np.asarray((y[left] != y[right]).astype(float))
    return np.asarray(np.nan_to_num(pair_weight(y, images, left, right)))


def sums(found: Environments, measures: np.ndarray, y: np.ndarray, images: np.ndarray | None) -> list[Sums]:
    """Sum over the pairs of models with a known measure, for each column of measures (n, k), in batches of pairs. y
    (n,): outcome; images (n,): `effective_images`, or None."""
    total = np.zeros((measures.shape[1], len(fields(Sums)), len(found)))
    for left, right, environment in found.pairs():
        order, confidence = np.sign(y[left] - y[right]), weights_of(y, images, left, right)
        for x, total_of in zip(measures.T, total, strict=True):
            signs = np.sign(x[left] - x[right]) * order
            weight = np.where(np.isnan(signs), 0, confidence)
            wrong = weight * (1 - np.where(np.isnan(signs), 0, signs)) / 2
            for index, values in enumerate((weight, weight**2, wrong, weight > 0)):
                total_of[index] += np.bincount(environment, values, len(found))
    return [Sums(*total_of) for total_of in total]


def error_quantile(errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Smallest error that SHARE of the weight does not exceed, per draw. errors (e,), weights (draws, e) ->
    (draws,)."""
    order = np.argsort(errors, kind="stable")
    cumulative = np.cumsum(weights[:, order], axis=1)
    position = (cumulative < SHARE * cumulative[:, -1:] - 1e-9).sum(axis=1)
    return np.where(cumulative[:, -1] > 0, errors[order][position], np.nan)


def summaries(errors: np.ndarray, batches: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Mean, percentile and maximum of errors (e,) per draw; multiplicities of the draws come in batches (draws, e)."""
    total = np.concatenate([batch.sum(axis=1) for batch in batches])
    mean = np.concatenate([batch @ errors for batch in batches]) / np.where(total > 0, total, np.nan)
    largest = np.full(1, errors.max())
    return {"mean": mean, "p90": np.concatenate([error_quantile(errors, batch) for batch in batches]), "max": largest}


def multiplicities(weights: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """Multiplicity of each environment, in batches of draws: that of its block, or of its two ends (a pair of copies of
    one configuration counts as that configuration). weights (draws, blocks), ends (e, 1 or 2)."""
    step = max(1, NUMBERS_AT_ONCE // max(1, len(ends)))
    two_ends = ends[:, 0] != ends[:, -1]
    batches = []
    for first in range(0, len(weights), step):
        batch = weights[first : first + step]
        batches.append(batch[:, ends[:, 0]] * np.where(two_ends, batch[:, ends[:, -1]], 1))
    return batches


def sign_error_row(measure: str, statistic: str, numbers: Interval, n: int, undefined: int, **keys: str) -> Row:
    key = {"axis": "", "value": "", "measure": measure, "statistic": f"sign_error_{statistic}", **keys}
    return tidy_row(numbers, n, undefined, **key)


def over_environments(
    measure: str, axis: str, error: np.ndarray, inside: np.ndarray, ends: np.ndarray, weights: np.ndarray
) -> Iterator[Row]:
    """Mean, percentile and maximum over the environments `inside` that survive (error is NaN in the others).

    n: surviving environments; undefined: dropped ones.
    """
    survives = inside & ~np.isnan(error)
    n, dropped = int(survives.sum()), int(inside.sum() - survives.sum())
    undefined = {name: np.full(1, np.nan) for name in ("mean", "p90", "max")}
    summary = summaries(error[survives], multiplicities(weights, ends[survives])) if n else undefined
    for name, values in summary.items():
        yield sign_error_row(measure, name, interval(values, len(np.unique(ends[survives]))), n, dropped, axis=axis)


def pooled_errors(
    measure: str, axis: str, found: Environments, totals: Sums, min_ess: float, weights: np.ndarray
) -> Iterator[Row]:
    """Sign error of all pairs of models for one axis and pair of values, one row per pair of values.

    n: environments with weight; undefined: those without; the estimate is NaN below min_ess.
    """
    for value in np.unique(found.value[found.axis == axis]):
        inside = (found.axis == axis) & (found.value == value)
        block, known = found.block[inside], totals.weight[inside] > 0
        weight, wrong = (np.bincount(block, x[inside], weights.shape[1]) for x in (totals.weight, totals.wrong))
        square = totals.square[inside].sum()
        enough = square > 0 and weight.sum() ** 2 / square >= min_ess - 1e-9
        total = weights @ weight
        error = np.where(total > 0, weights @ wrong / np.where(total > 0, total, 1), np.nan) if enough else [np.nan]
        estimate = interval(np.asarray(error), len(np.unique(block[known])))
        yield sign_error_row(measure, "pooled", estimate, int(known.sum()), int((~known).sum()), axis=axis, value=value)


def prepared(
    table: pd.DataFrame, axes: Sequence[str], outcome: str, measures: Sequence[str], images: str | None
) -> tuple[pd.DataFrame, Environments, list[Sums]]:
    """The grid models in each cell they belong to, their environments, and the sums of each measure."""
    table = known_models(table, outcome, axes)
    table = expanded(table[in_grid(table, axes)], axes)
    found, y = environments(table, axes), table[outcome].to_numpy(float)
    effective = None if images is None else table[images].to_numpy(float)
    return table, found, sums(found, table[list(measures)].to_numpy(float), y, effective)


def sign_errors(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    images: str | None = None,
    min_ess: float | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Robust sign errors of each measure as tidy rows (columns: RESULT), for all axes together (axis '') and for each.

    table: one row per model; models without an outcome are left out. images: column with the number of images behind
    the outcome (`effective_images`), which must then be in percentage points; a model without it has no weight.
    min_ess: see above; each row states the value used. n: surviving environments; undefined: dropped ones.
    """
    table, found, by_measure = prepared(table, axes, outcome, measures, images)
    threshold = default_min_ess(table, axes) if min_ess is None else min_ess
    bootstrap = Bootstrap(draws, seed)
    rows: list[Row] = []
    all_weights = bootstrap.weights(np.zeros(found.ends.max(initial=-1) + 1), "sign error")
    blocks = {axis: found.block[found.axis == axis].max(initial=-1) + 1 for axis in axes}
    weights = {axis: bootstrap.weights(np.zeros(count), f"sign error {axis}") for axis, count in blocks.items()}
    for measure, totals in zip(bar(measures, "sign errors"), by_measure, strict=True):
        error = np.where(totals.ess() >= threshold - 1e-9, totals.error(), np.nan)
        rows += over_environments(measure, "", error, np.full(len(found), True), found.ends, all_weights)
        for axis in axes:
            rows += over_environments(measure, axis, error, found.axis == axis, found.block[:, None], weights[axis])
            rows += pooled_errors(measure, axis, found, totals, threshold, weights[axis])
    return pd.DataFrame(rows, columns=RESULT[:-1]).assign(min_ess=float(threshold))


def environment_errors(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    images: str | None = None,
    min_ess: float | None = None,
) -> pd.DataFrame:
    """The sign error of each measure in every surviving environment (columns: ERROR), to show the distribution.

    ess: effective sample size; pairs: pairs of models with weight. Arguments as in `sign_errors`.
    """
    table, found, by_measure = prepared(table, axes, outcome, measures, images)
    threshold = default_min_ess(table, axes) if min_ess is None else min_ess
    tables = []
    for measure, totals in zip(measures, by_measure, strict=True):
        columns = {"axis": found.axis, "value": found.value, "estimate": totals.error(), "ess": totals.ess()}
        frame = pd.DataFrame({"measure": measure, **columns, "pairs": totals.pairs.astype(int)})
        tables.append(frame[(totals.weight > 0) & (frame["ess"] >= threshold - 1e-9)])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=ERROR)


def compute(data: StudyData) -> pd.DataFrame:
    """Sign errors of every measure, baseline and control."""
    table, images = data.weighted
    rows = sign_errors(table, **data.of_columns, images=images, min_ess=data.min_ess, draws=data.slow_draws)
    return with_kinds(rows, data.beside.kinds)


def sign_errors_view(statistics: Statistics) -> View:
    rows = statistics.table("sign_errors")
    whole = rows[(rows["axis"] == "") & (rows["statistic"] != "sign_error_pooled")]
    means = rows[(rows["axis"] != "") & (rows["statistic"] == "sign_error_mean")]
    frame = pivoted(whole, ["measure"], whole["statistic"])
    counts = whole[whole["statistic"] == "sign_error_mean"].set_index("measure")
    frame = frame.assign(n=frame["measure"].map(counts["n"]), gone=frame["measure"].map(counts["undefined"]))
    if len(means):
        frame = frame.merge(pivoted(means, ["measure"], means["axis"]).drop(columns="n"), on="measure", how="left")
    columns = (
        LABEL,
        Column("sign_error_mean", "mean error", ".2f", True),
        Column("sign_error_p90", "90th percentile", ".2f", True),
        Column("sign_error_max", "maximum", ".2f"),
        Column("n", "environments", ".0f"),
        Column("gone", "left out", ".0f"),
        *(Column(axis, f"mean, {axis}", ".2f", True) for axis in statistics.ledger.axes),
    )
    look = (
        "Share of comparisons of two configurations, one setting apart, that the measure orders wrongly; 1/2 is chance."
        " A robust measure has even its maximum below 1/2 (or, falling with the gap, its minimum above)."
    )
    return View("sign_errors", "Robust sign errors", look, columns, statistics.labelled(frame))


STATISTIC = Statistic(
    asks="how often a measure orders two configurations wrongly: mean, 90th percentile, maximum",
    place=100,
    compute=compute,
    text=("measure", "kind", "statistic", "axis", "value"),
    views=(sign_errors_view,),
    section="conditions",
)
