"""Robust sign error: how often does a measure order two configurations wrongly when one setting is changed?

An environment (analysis.statistics._environments) is a pair of configurations that differ in one axis. Over all pairs
(i, j) of a model of one side and a model of the other, whatever their seeds, its sign error is

    sum w_ij (1 - sign(m_i - m_j) sign(g_i - g_j)) / 2 / sum w_ij

0 where the measure m always orders as the outcome g, 1 where it always orders the other way round, 1/2 for a measure
that ties. The weight w_ij is how surely the outcomes differ (`pair_weight`); without numbers of images it is 1 where
they differ at all. Outcomes that are equal have no order to be wrong about: weight 0. An environment survives where its
effective sample size (sum w)^2 / sum w^2 is at least min_ess: 12 with ten or more seeds, as in the paper, else 1 (any
pair that is surely ordered). Over the surviving environments, of each axis and of all together,

    sign_error_mean   sign_error_p90 (the least error that 90 % do not exceed)   sign_error_max (the robust one)

    sign_error_pooled  by axis and pair of values: one environment of all pairs of models of all its configurations

An environment in which a measure is known for no weighted pair does not survive for that measure. Signs are raw: a
measure that claims to fall with the gap should come near 1, and its robust error is the least of 1 - error.
G. K. Dziugaite et al., In search of robust measures of generalization, NeurIPS 2020. There all environments are
counted twice (u to v, v to u), which changes none of the numbers; weights there come from the test images alone,
because training accuracy was not sampled.

Intervals: percentiles over draws of environments by blocks, the configurations without the axis
(analysis.ranks.bootstrap); for all axes together an environment counts as often as both its configurations are drawn.
Which environments survive is held fixed. The maximum has none: a bootstrap cannot see beyond the largest value; nor can
it see errors where no environment had one, so that an interval of width 0 says no more than its n.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from robustgap.analysis.models.checkpoints import expanded
from robustgap.analysis.models.design import codes, in_grid, known_models
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks.bootstrap import Bootstrap, interval
from robustgap.analysis.ranks.discordance import NUMBERS_AT_ONCE
from robustgap.analysis.statistics._environments import Environments, environments, pair_weight

RESULT = ["measure", "statistic", "axis", "value", "estimate", "low", "high", "n", "undefined", "min_ess"]
ERROR = ["measure", "axis", "value", "estimate", "ess", "pairs"]
MANY_SEEDS, MIN_ESS, MIN_ESS_FEW_SEEDS = 10, 12, 1
SHARE = 0.9


def default_min_ess(table: pd.DataFrame, axes: Sequence[str]) -> int:
    """12 where some cell has ten or more models (seeds), else 1."""
    seeds = np.bincount(codes(table, axes)).max(initial=0)
    return MIN_ESS if seeds >= MANY_SEEDS else MIN_ESS_FEW_SEEDS


@dataclass(frozen=True)
class Sums:
    """Of one measure, per environment: sum of w, of w^2, of w x error, and pairs with weight."""

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
    """Weight of each pair of models: how surely their outcomes y (n,) differ; 0 where they tie."""
    if images is None:
        return (y[left] != y[right]).astype(float)
    return np.nan_to_num(pair_weight(y, images, left, right))


def sums(found: Environments, measures: np.ndarray, y: np.ndarray, images: np.ndarray | None) -> list[Sums]:
    """Add up the pairs of models in which a measure is known, for each column of measures (n, k), some pairs at a
    time. y (n,): outcome; images (n,): `effective_images`, or None."""
    total = np.zeros((measures.shape[1], len(fields(Sums)), len(found)))
    for left, right, home in found.pairs():
        order, sure = np.sign(y[left] - y[right]), weights_of(y, images, left, right)
        for x, sum_of in zip(measures.T, total, strict=True):
            signs = np.sign(x[left] - x[right]) * order
            weight = np.where(np.isnan(signs), 0, sure)
            wrong = weight * (1 - np.where(np.isnan(signs), 0, signs)) / 2
            for place, part in enumerate((weight, weight**2, wrong, weight > 0)):
                sum_of[place] += np.bincount(home, part, len(found))
    return [Sums(*sum_of) for sum_of in total]


def upper(errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Least error that SHARE of the weight does not exceed, per draw. errors (e,), weights (draws, e) -> (draws,)."""
    order = np.argsort(errors, kind="stable")
    heap = np.cumsum(weights[:, order], axis=1)
    place = (heap < SHARE * heap[:, -1:] - 1e-9).sum(axis=1)
    return np.where(heap[:, -1] > 0, errors[order][place], np.nan)


def summaries(errors: np.ndarray, many: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Mean, percentile and maximum of errors (e,) per draw; how often each is drawn comes in parts (draws, e)."""
    total = np.concatenate([part.sum(axis=1) for part in many])
    mean = np.concatenate([part @ errors for part in many]) / np.where(total > 0, total, np.nan)
    most = np.full(1, errors.max())
    return {"mean": mean, "p90": np.concatenate([upper(errors, part) for part in many]), "max": most}


def in_parts(weights: np.ndarray, ends: np.ndarray) -> list[np.ndarray]:
    """How often each environment is drawn, some draws at a time: as often as its block, or as both of its two ends
    (a pair of copies of one configuration is that configuration). weights (draws, blocks), ends (e, 1 or 2)."""
    step = max(1, NUMBERS_AT_ONCE // max(1, len(ends)))
    apart = ends[:, 0] != ends[:, -1]
    parts = []
    for first in range(0, len(weights), step):
        part = weights[first : first + step]
        parts.append(part[:, ends[:, 0]] * np.where(apart, part[:, ends[:, -1]], 1))
    return parts


def tidy(measure: str, statistic: str, estimate: tuple, n: int, undefined: int, **where: str) -> dict:
    row = {"measure": measure, "statistic": f"sign_error_{statistic}", "axis": "", "value": ""} | where
    return row | dict(zip(["estimate", "low", "high"], estimate, strict=True)) | {"n": n, "undefined": undefined}


def over_environments(
    measure: str, axis: str, error: np.ndarray, inside: np.ndarray, ends: np.ndarray, weights: np.ndarray
) -> Iterator[dict]:
    """Mean, percentile and maximum over the environments `inside` that survive (error is NaN in the others).

    n: environments that survive; undefined: those dropped.
    """
    used = inside & ~np.isnan(error)
    n, dropped = int(used.sum()), int(inside.sum() - used.sum())
    none = {name: np.full(1, np.nan) for name in ("mean", "p90", "max")}
    found = summaries(error[used], in_parts(weights, ends[used])) if n else none
    for name, drawn in found.items():
        yield tidy(measure, name, interval(drawn, len(np.unique(ends[used]))), n, dropped, axis=axis)


def pooled(
    measure: str, axis: str, found: Environments, part: Sums, min_ess: float, weights: np.ndarray
) -> Iterator[dict]:
    """Sign error of all pairs of models of one axis and pair of values, each pair of values a row.

    n: environments with weight; undefined: those without; the estimate is NaN below min_ess.
    """
    for value in np.unique(found.value[found.axis == axis]):
        inside = (found.axis == axis) & (found.value == value)
        block, known = found.block[inside], part.weight[inside] > 0
        weight, wrong = (np.bincount(block, kind[inside], weights.shape[1]) for kind in (part.weight, part.wrong))
        square = part.square[inside].sum()
        enough = square > 0 and weight.sum() ** 2 / square >= min_ess - 1e-9
        total = weights @ weight
        drawn = np.where(total > 0, weights @ wrong / np.where(total > 0, total, 1), np.nan) if enough else [np.nan]
        estimate = interval(np.asarray(drawn), len(np.unique(block[known])))
        yield tidy(measure, "pooled", estimate, int(known.sum()), int((~known).sum()), axis=axis, value=value)


def prepared(
    table: pd.DataFrame, axes: Sequence[str], outcome: str, measures: Sequence[str], images: str | None
) -> tuple[pd.DataFrame, Environments, list[Sums]]:
    """The models of the grid, in each cell that they stand in, their environments, and the sums of each measure."""
    table = known_models(table, outcome, axes)
    table = expanded(table[in_grid(table, axes)], axes)
    found, y = environments(table, axes), table[outcome].to_numpy(float)
    n = None if images is None else table[images].to_numpy(float)
    return table, found, sums(found, table[list(measures)].to_numpy(float), y, n)


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

    table: one row per model; models without an outcome are left out. images: column with the number of images the
    outcome (then in percentage points) is known from (`effective_images`); a model without it has no weight. min_ess:
    see above; which one was used stands in each row. n: environments that survive; undefined: those that were dropped.
    """
    table, found, added = prepared(table, axes, outcome, measures, images)
    least = default_min_ess(table, axes) if min_ess is None else min_ess
    bootstrap = Bootstrap(draws, seed)
    rows: list[dict] = []
    whole = bootstrap.weights(np.zeros(found.ends.max(initial=-1) + 1), "sign error")
    sides = {axis: found.block[found.axis == axis].max(initial=-1) + 1 for axis in axes}
    weights = {axis: bootstrap.weights(np.zeros(many), f"sign error {axis}") for axis, many in sides.items()}
    for measure, part in zip(bar(measures, "sign errors"), added, strict=True):
        error = np.where(part.ess() >= least - 1e-9, part.error(), np.nan)
        rows += over_environments(measure, "", error, np.full(len(found), True), found.ends, whole)
        for axis in axes:
            rows += over_environments(measure, axis, error, found.axis == axis, found.block[:, None], weights[axis])
            rows += pooled(measure, axis, found, part, least, weights[axis])
    return pd.DataFrame(rows, columns=RESULT[:-1]).assign(min_ess=float(least))


def environment_errors(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    images: str | None = None,
    min_ess: float | None = None,
) -> pd.DataFrame:
    """The sign error of every surviving environment of each measure (columns: ERROR), for their distribution.

    ess: effective sample size; pairs: pairs of models with weight. Arguments as in `sign_errors`.
    """
    table, found, added = prepared(table, axes, outcome, measures, images)
    least = default_min_ess(table, axes) if min_ess is None else min_ess
    parts = []
    for measure, part in zip(measures, added, strict=True):
        columns = {"axis": found.axis, "value": found.value, "estimate": part.error(), "ess": part.ess()}
        frame = pd.DataFrame({"measure": measure, **columns, "pairs": part.pairs.astype(int)})
        parts.append(frame[(part.weight > 0) & (frame["ess"] >= least - 1e-9)])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=ERROR)
