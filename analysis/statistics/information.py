"""Conditional mutual information between the orders of pairs of models by a measure and by the outcome.

For an ordered pair of different models (a, b) let V_g = sign(g(a) - g(b)) of the outcome g, V_m = sign(m(a) - m(b)) of
the measure m, and U_S the values of the axes in S of both models. Over all pairs

    I(V_m, V_g | U_S) = sum_u p(u) sum_{v, w} p(v, w | u) log2( p(v, w | u) / (p(v | u) p(w | u)) )     in bits
    H(V_g | U_S)      = - sum_u p(u) sum_w p(w | u) log2 p(w | u)

where p(u) is the share of the pairs that have the values u: groups are weighted by how often they occur. For each S of
at most two axes (the empty set too) `information` is I and `information_normalised` is I / H, between 0 and 1;

    cmi = min over S of I,      cmi_normalised = min over S of I / H

so a measure scores only if no two axes explain away its information. An axis that shifts measure and outcome alike
gives both the same order in pairs that differ in it, but no information once its value is fixed. Y. Jiang et al.,
Fantastic generalization measures and where to find them, ICLR 2020, section 4 (where the sum is over V = +1 and -1).

Choices that the paper leaves open:
    ties    a pair tied in the outcome has no order to predict and does not count; a pair tied in the measure does, as
            a third value V_m = 0 (a tied measure gives no information there; dropping the pair would reward it)
    pairs   all ordered pairs of different models, seeds and checkpoints included: (a, b) with values (u, u') and
            (b, a) with (u', u) are equivalent; if u = u' both orders fall into one group, and H there is 1 bit
    NA      a value like any other, equal to itself alone; models to which no axis applies are left out
    missing models without the measure are left out, so that n differs between measures
    both    a model that is both checkpoints of its run has both values of the rule, each with half the weight
Undefined where H is 0 (no pair differs in the outcome), and for sets of axes with more than MOST_GROUPS values.

Information estimated from counts is never negative and too high by about (cells - 1) / (2 ln 2 pairs) bits where pairs
are few; pairs share models, so no p-value is given. The bootstrap draws configurations (analysis.ranks.bootstrap) and
takes the minimum in each draw; its percentile interval shares the bias: with few models per group it may lie above the
estimate.

A table of more than MOST_PAIRS pairs (analysis.ranks.pair_sample: 2,000,000, those of 2,000 models) is sampled: both
numbers are estimated from that many of its pairs, drawn once with the seed and shared by all measures; each measure
uses the sampled pairs whose models have it. `pairs` is the number used, n the number that exist. If the models with a
measure have no more than MOST_PAIRS pairs, all of these are used. A share p of the sample has a standard error of about
sqrt(p (1 - p) / pairs), which the interval accounts for, since its draws weight the same pairs. The bias above depends
on `pairs`: about 0.001 bits for 60 groups of models.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.models.baselines import with_kinds
from robustgap.analysis.models.checkpoints import expanded, row_weights
from robustgap.analysis.models.design import codes, configurations, in_grid, known_models
from robustgap.analysis.progress import bar
from robustgap.analysis.ranks import pair_sample
from robustgap.analysis.ranks.bootstrap import ROWS_AT_ONCE, Bootstrap, interval, untied_weight
from robustgap.analysis.ranks.pair_sample import PairSample, all_pairs, sampled_shares
from robustgap.analysis.ranks.sign_information import both_orders, information_shares
from robustgap.analysis.rows import Interval, Row, tidy_row
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.view import LABEL, Column, View, pivoted

RESULT = ["measure", "statistic", "given", "estimate", "low", "high", "n", "pairs", "undefined"]
PerSet = dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]]  # (I, I / H) per draw, by set of axes
LARGEST_SET = 2  # maximum number of axes to condition on
MOST_GROUPS = 256  # combinations of values; with more, groups of pairs are too small to tell information from chance


@dataclass(frozen=True)
class Groups:
    """The models sorted by group, the values of the axes `names`.

    order, starts: the models of group k are order[starts[k]:starts[k + 1]]; values (groups, names); y (n,) and float32
    weights (draws, n) in that order; higher (draws, groups, groups): weight of the pairs with y_i > y_j.
    """

    names: tuple[str, ...]
    order: np.ndarray
    starts: np.ndarray
    values: pd.DataFrame
    y: np.ndarray
    weights: np.ndarray
    higher: np.ndarray


def pair_weights(holds: Callable[..., Any], starts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weight of the ordered pairs (i, j) for which `holds(rows)` (rows, n) is true, by group: (draws, groups, groups).

    Only ROWS_AT_ONCE x n pairs are held at a time; each is tested once and weighted for all draws in one matrix
    product.
    """
    totals, n = np.empty((len(weights), len(starts), len(starts))), weights.shape[1]
    by_model = np.ascontiguousarray(weights.T)  # a matrix product with a slice of columns would copy it
    sums, product = np.empty_like(weights), np.empty_like(weights)  # reused: allocating costs more than the sums
    buffer = np.empty((ROWS_AT_ONCE, n), dtype=np.float32)
    for group, (start, stop) in enumerate(itertools.pairwise([*starts, n])):
        sums[:] = 0
        for first in range(start, stop, ROWS_AT_ONCE):
            rows = slice(first, min(first + ROWS_AT_ONCE, stop))
            pairs = buffer[: rows.stop - first]
            np.copyto(pairs, holds(rows))
            np.add(sums, np.matmul(by_model[rows].T, pairs, out=product), out=sums)
        np.multiply(sums, weights, out=sums)
        totals[:, group] = np.add.reduceat(sums, starts, axis=1)
    return totals


def sorted_by_group(table: pd.DataFrame, names: tuple[str, ...], y: np.ndarray, weights: np.ndarray) -> Groups:
    """Sort models (n,) with weights (draws, n) by the values of the axes `names`."""
    group = codes(table, names)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    values = table[list(names)].iloc[order[starts]]
    y, weights = y[order], weights[:, order].astype(np.float32)
    few = len(starts) <= MOST_GROUPS
    higher = pair_weights(lambda rows: y[rows, None] > y, starts, weights) if few else np.empty(0)
    return Groups(names, order, starts, values, y, weights, higher)


def sign_counts(groups: Groups, x: np.ndarray) -> np.ndarray:
    """Weights of pairs by groups and signs (draws, groups, groups, 3, 2): V_m = +1, -1, 0 and V_g = +1, -1."""
    x, y = x[groups.order], groups.y

    def weight(holds: Callable[..., Any]) -> np.ndarray:
        return pair_weights(lambda rows: holds(x[rows, None], x) & (y[rows, None] > y), groups.starts, groups.weights)

    same = weight(np.greater)
    tied = weight(np.equal) if len(np.unique(x)) < len(x) else np.zeros_like(same)
    return both_orders(same, groups.higher - same - tied, tied)


def summed_over_groups(table: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Sum the counts (draws, groups, groups, 3, 2) over groups with equal label (groups,), on both sides."""
    member = (label == np.unique(label)[:, None]).astype(float)
    return np.asarray(np.einsum("ag,dghvw,bh->dabvw", member, table, member, optimize=True))


def subset_counts(groups: Groups, table: np.ndarray) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The counts for every subset of the axes in `groups`, the full set first."""
    yield groups.names, table
    for size in reversed(range(len(groups.names))):
        for subset in itertools.combinations(range(len(groups.names)), size):
            names = tuple(groups.names[axis] for axis in subset)
            yield names, summed_over_groups(table, codes(groups.values, names))


def sets_of(table: pd.DataFrame, axes: Sequence[str]) -> list[tuple[str, ...]]:
    """The sets of axes to count by: all sets of LARGEST_SET axes, whose counts also give those of their subsets; for
    sets with more than MOST_GROUPS values, the subsets themselves."""
    largest = list(itertools.combinations(axes, min(LARGEST_SET, len(axes))))
    large = [names for names in largest if codes(table, names).max(initial=-1) >= MOST_GROUPS]
    smaller = [part for names in large for size in range(len(names)) for part in itertools.combinations(names, size)]
    return list(dict.fromkeys([*largest, *smaller]))


def per_set(all_groups: Sequence[Groups], x: np.ndarray) -> PerSet:
    """(I, I / H) per draw for every set of axes; NaN if H is 0 or the set has more than MOST_GROUPS groups."""
    by_set: PerSet = {}
    for groups in all_groups:
        if len(groups.starts) > MOST_GROUPS:
            by_set[groups.names] = (np.full(len(groups.weights), np.nan),) * 2
            continue
        for names, table in subset_counts(groups, sign_counts(groups, x)):
            if names not in by_set:
                by_set[names] = information_shares(table)
    return by_set


def information_rows(measure: str, by_set: PerSet, blocks: int, pairs: tuple[int, int]) -> Iterator[Row]:
    """Tidy rows of one measure: both minima, then both numbers for each set of axes, smallest sets first."""
    sets = sorted(by_set, key=len)
    for index, name in enumerate(["cmi", "cmi_normalised"]):
        values = np.stack([by_set[names][index] for names in sets])
        defined = ~np.isnan(values)
        minimum = np.where(defined.any(axis=0), np.where(defined, values, np.inf).min(axis=0), np.nan)
        minimal_set = sets[int(np.where(defined[:, 0], values[:, 0], np.inf).argmin())] if defined[:, 0].any() else ()
        yield information_row(measure, name, minimal_set, interval(minimum, blocks), pairs, int((~defined[:, 0]).sum()))
    for names in sets:
        for name, values in zip(["information", "information_normalised"], by_set[names], strict=True):
            yield information_row(measure, name, names, interval(values, blocks), pairs, int(np.isnan(values[0])))


def information_row(
    measure: str, statistic: str, names: tuple[str, ...], numbers: Interval, pairs: tuple[int, int], undefined: int
) -> Row:
    key = {"measure": measure, "statistic": statistic, "given": "|".join(names), "pairs": pairs[1]}
    return tidy_row(numbers, pairs[0], undefined, **key)


def sampling_notes(table: pd.DataFrame) -> list[str]:
    """Notes on the rows of `conditional_information`: whether pairs were sampled."""
    sampled = table[table["pairs"] < table["n"]]
    if sampled.empty:
        return []
    if "kind" in sampled and (sampled["kind"] == "measure").any():  # not the baselines and controls
        sampled = sampled[sampled["kind"] == "measure"]
    largest = sampled.loc[sampled["n"].idxmax()]
    counts = f"up to {largest['pairs']:,.0f} of {largest['n']:,.0f} pairs of models, the same for all"
    return [f"conditional information of {sampled['measure'].nunique()} measures: estimated from {counts}"]


def draw_sample(table: pd.DataFrame, keys: Sequence[str], y: np.ndarray, weights: np.ndarray, seed: int) -> PairSample:
    """The sample of a table's pairs, independent of row order as far as keys and outcome distinguish models."""
    return PairSample.draw(np.lexsort((y, codes(table, keys))), y, weights, seed)


def sampled_information(sample: PairSample, table: pd.DataFrame, axes: Sequence[str], x: np.ndarray) -> PerSet:
    """The result of `per_set`, estimated from a sample of the pairs."""
    names = [subset for size in range(min(LARGEST_SET, len(axes)) + 1) for subset in itertools.combinations(axes, size)]
    groups = {subset: codes(table, subset) for subset in names}
    countable = {subset: group for subset, group in groups.items() if group.max() < MOST_GROUPS}
    undefined = (np.full(sample.weights.shape[1], np.nan),) * 2
    return dict.fromkeys(names, undefined) | sampled_shares(sample, countable, x)


def conditional_information(
    table: pd.DataFrame,
    *,
    axes: Sequence[str],
    outcome: str,
    measures: Sequence[str],
    seed_column: str | None = None,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """cmi, cmi_normalised and the information given each set of axes, as tidy rows (columns: RESULT).

    table: one row per model; models without an outcome are left out. given: the axes of the set, joined by '|'; for the
    minima, the set that attains it. n: unordered pairs of models that differ in the outcome; pairs: how many of them
    the numbers were computed from. undefined: of the minima the sets without a value, else 0 or 1. seed_column
    distinguishes models when pairs are sampled, so that row order does not matter.
    """
    keys = [*axes, *([seed_column] if seed_column else [])]
    table = known_models(table, outcome, keys)
    table = expanded(table[in_grid(table, axes)] if axes else table, axes)
    block, share = configurations(table, axes), row_weights(table)
    weights = Bootstrap(draws, seed).weights(np.zeros(block.max(initial=-1) + 1), "tau")
    y, sets = codes(table, [outcome]).astype(np.int32), sets_of(table, axes)
    sampled = all_pairs(len(table)) > pair_sample.MOST_PAIRS
    sample = draw_sample(table, keys, y, weights[:, block] * share, seed) if sampled else None
    rows: list[Row] = []
    cached: dict[bytes, list[Groups]] = {}  # by the set of models with the measure: usually all models
    for measure in bar(measures, "conditional information"):
        known = table[measure].notna().to_numpy()
        x = table[measure].rank(method="dense", na_option="top").to_numpy(np.int32)  # only the order matters
        pairs = int(untied_weight(y[known], np.arange(known.sum()), share[known][None])[0])
        used, subtable = pairs, table[known]
        if sample and all_pairs(len(subtable)) > pair_sample.MOST_PAIRS:
            subsample = sample.among(known)
            by_set, used = sampled_information(subsample, table, axes, x), len(subsample.upper)
        else:
            if known.tobytes() not in cached:
                drawn = weights[:, block[known]] * share[known]
                all_groups = [sorted_by_group(subtable, names, y[known], drawn) for names in sets if len(subtable)]
                cached = {known.tobytes(): all_groups}
            by_set = per_set(cached[known.tobytes()], x[known]) or {(): (np.full(1, np.nan),) * 2}
        rows += information_rows(measure, by_set, len(np.unique(block[known])), (pairs, used))
    return pd.DataFrame(rows, columns=RESULT)


def compute(data: StudyData) -> pd.DataFrame:
    """Conditional information of every measure, baseline and control."""
    table, draws = data.beside.table, data.slow_draws
    rows = conditional_information(table, **data.of_columns, seed_column=data.seed_column, draws=draws)
    return with_kinds(rows, data.beside.kinds)


def information_view(statistics: Statistics) -> View:
    rows = statistics.table("information")
    minima = rows[rows["statistic"].isin(["cmi", "cmi_normalised"])]
    frame = pivoted(minima, ["measure"], minima["statistic"])
    cmi = minima[minima["statistic"] == "cmi"].set_index("measure")
    frame = frame.assign(
        given=frame["measure"].map(cmi["given"].str.replace("|", " and ")), pairs=frame["measure"].map(cmi["pairs"])
    )
    columns = (
        LABEL,
        Column("cmi", "least information (bits)", ".3f", True),
        Column("cmi_normalised", "as a share of the gap's", ".3f", True),
        Column("given", "settings held"),
        Column("pairs", "pairs of models", ".0f"),
    )
    look = (
        "Conditional mutual information of the signs of differences (Jiang et al. 2020), at the settings (at most two) "
        "that leave least of it. Near 0: some settings explain whatever the measure says about the order of gaps."
    )
    look += "".join(f" {note[0].upper()}{note[1:]}." for note in sampling_notes(rows))
    return View("information", "Information left once settings are held", look, columns, statistics.labelled(frame))


STATISTIC = Statistic(
    asks="conditional mutual information of measure and gap, given up to two settings",
    place=80,
    compute=compute,
    text=("measure", "kind", "statistic", "given"),
    views=(information_view,),
    section="settings",
)
