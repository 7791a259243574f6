"""Samples pairs of models, for tables with too many pairs to process them all.

The n (n - 1) / 2 unordered pairs form a list, ordered by the positions of their two models in an order chosen by the
caller (by identity, not by file row). The list is cut into MOST_PAIRS stretches of equal length, and one position is
drawn uniformly from each, keyed by the seed. The expected number of times each pair is drawn is thus MOST_PAIRS / (n (n
- 1) / 2): up to that factor, weighted counts of the sample are unbiased for those of all pairs, in the table and in
each bootstrap draw, with less variance than for independent positions. Neither a matrix nor a list of all pairs is held
in memory, only the sample.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array

from robustgap.analysis.ranks.sign_information import both_orders, information_shares

MOST_PAIRS = 2_000_000  # all pairs of 2,000 models; larger tables are sampled. float32 counts this far exactly
PAIRS_AT_ONCE = 2**16  # pairs whose weights in all draws are held at a time
NUMBERS_AT_ONCE = 2**26  # numbers (cells x draws) counted in one pass over the sample
ENTROPIES_AT_ONCE = 2**22  # counts (cells x draws) whose entropies are computed at a time
SIGNS = 3  # x larger in the model whose y is larger, x smaller, x equal


def all_pairs(models: int) -> int:
    """Number of unordered pairs."""
    return models * (models - 1) // 2


def draw_pairs(models: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (size,), (size,) of both models of each drawn pair, first < second; a few pairs may be drawn twice."""
    rng = np.random.default_rng([seed, zlib.crc32(b"pairs of models")])
    total = all_pairs(models)
    place = ((np.arange(size) + rng.random(size)) * (total / size)).astype(np.int64)
    later = np.arange(models - 1, -1, -1)  # number of pairs in which each model comes first
    start = np.cumsum(later) - later
    first = np.searchsorted(start[:-1], np.minimum(place, total - 1), side="right") - 1
    return first, np.minimum(place, total - 1) - start[first] + first + 1


@dataclass(frozen=True)
class PairSample:
    """Pairs that differ in y: upper, lower (pairs,) rows of the table, y larger in upper; weights (n, draws)."""

    upper: np.ndarray
    lower: np.ndarray
    weights: np.ndarray

    @classmethod
    def draw(cls, order: np.ndarray, y: np.ndarray, weights: np.ndarray, seed: int) -> "PairSample":
        """Draw MOST_PAIRS pairs and drop those tied in y. order (n,): the rows in an order by identity; y (n,); weights
        (draws, n)."""
        first, second = (order[place] for place in draw_pairs(len(y), MOST_PAIRS, seed))
        differ = y[first] != y[second]
        first, second = first[differ], second[differ]
        over = y[first] > y[second]
        rows = np.ascontiguousarray(weights.T, dtype=np.float32)
        return cls(np.where(over, first, second), np.where(over, second, first), rows)

    def among(self, kept: np.ndarray) -> "PairSample":
        """The pairs of which both models are in `kept` (n,)."""
        inside = kept[self.upper] & kept[self.lower]
        return PairSample(self.upper[inside], self.lower[inside], self.weights)

    def counts(
        self, x: np.ndarray, groups: Mapping[tuple[str, ...], np.ndarray]
    ) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
        """For each name in `groups` (the group (n,) of each model), the weight of the pairs by group of the upper and
        of the lower model and by sign of the difference of x (n,): (name, (groups, groups, SIGNS, draws))."""
        for names in self.batches(groups):
            found = {name: np.zeros(self.shape(groups[name]), dtype=np.float32) for name in names}
            size = min(PAIRS_AT_ONCE, max(len(self.upper), 1))
            upper, lower = (np.empty((size, self.weights.shape[1]), dtype=np.float32) for _ in range(2))
            for first in range(0, len(self.upper), PAIRS_AT_ONCE):
                over, under = (rows[first : first + PAIRS_AT_ONCE] for rows in (self.upper, self.lower))
                part = slice(len(over))
                np.take(self.weights, over, axis=0, out=upper[part], mode="clip")  # checking would copy
                np.take(self.weights, under, axis=0, out=lower[part], mode="clip")
                np.multiply(upper[part], lower[part], out=upper[part])
                sign = np.where(x[over] > x[under], 0, np.where(x[over] < x[under], 1, 2))
                for name in names:
                    count, group = found[name], groups[name]
                    cell = (group[over] * count.shape[0] + group[under]) * SIGNS + sign
                    cells = (np.ones(len(over), dtype=np.float32), cell, np.arange(len(over) + 1))
                    member = csc_array(cells, shape=(np.prod(count.shape[:3]), len(over)))
                    count += (member @ upper[part]).reshape(count.shape)
            yield from found.items()

    def shape(self, group: np.ndarray) -> tuple[int, int, int, int]:
        groups = int(group.max(initial=0)) + 1
        return groups, groups, SIGNS, self.weights.shape[1]

    def batches(self, groups: Mapping[tuple[str, ...], np.ndarray]) -> Iterator[list[tuple[str, ...]]]:
        """Names counted in one pass: as many as NUMBERS_AT_ONCE allows, at least one."""
        batch: list[tuple[str, ...]] = []
        held = 0
        for name, group in groups.items():
            numbers = int(np.prod(self.shape(group)))
            if batch and held + numbers > NUMBERS_AT_ONCE:
                yield batch
                batch, held = [], 0
            batch.append(name)
            held += numbers
        if batch:
            yield batch


def sampled_shares(
    sample: PairSample, groups: Mapping[tuple[str, ...], np.ndarray], x: np.ndarray
) -> dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]]:
    """(I, I / H) per draw for each name in `groups` (the group (n,) of each model), in bits."""
    found = {}
    for name, counted in sample.counts(x, groups):
        step = max(1, ENTROPIES_AT_ONCE // (2 * counted[..., 0].size))
        parts = []
        for first in range(0, counted.shape[-1], step):
            signs = np.moveaxis(counted[..., first : first + step].astype(float), (2, 3), (0, 1))
            parts.append(information_shares(both_orders(*signs)))
        information, share = (np.concatenate(drawn) for drawn in zip(*parts, strict=True))
        found[name] = information, share
    return found
