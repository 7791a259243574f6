"""Samples pairs of models, for tables with too many pairs to process them all.

The n (n - 1) / 2 unordered pairs are listed by the positions of their two models in the caller's order (by identity,
not by file row). The list is cut into MOST_PAIRS segments of equal length, and one pair is drawn uniformly from each
(stratified sampling). Each pair is drawn MOST_PAIRS / (n (n - 1) / 2) times in expectation, so up to that factor,
weighted counts of the sample are unbiased for those of all pairs, in the table and in each bootstrap draw, with less
variance than for independent pairs. Only the sample is held in memory.
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
SIGNS = 3  # of the difference of x, from the model with larger y: +1, -1, 0


def all_pairs(models: int) -> int:
    """Number of unordered pairs."""
    return models * (models - 1) // 2


def draw_pairs(models: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (size,), (size,) of both models of each drawn pair, first < second; a few pairs may be drawn twice."""
    rng = np.random.default_rng([seed, zlib.crc32(b"pairs of models")])
    total = all_pairs(models)
    number = ((np.arange(size) + rng.random(size)) * (total / size)).astype(np.int64)
    later = np.arange(models - 1, -1, -1)  # number of pairs in which each model comes first
    start = np.cumsum(later) - later
    first = np.searchsorted(start[:-1], np.minimum(number, total - 1), side="right") - 1
    return first, np.minimum(number, total - 1) - start[first] + first + 1


@dataclass(frozen=True)
class PairSample:
    """Pairs that differ in y: upper, lower (pairs,) rows of the table, y larger in upper; weights (n, draws)."""

    upper: np.ndarray
    lower: np.ndarray
    weights: np.ndarray

    @classmethod
    def draw(cls, order: np.ndarray, y: np.ndarray, weights: np.ndarray, seed: int) -> "PairSample":
        """Draw MOST_PAIRS pairs and drop those tied in y. order (n,): the rows in an order independent of the file; y
        (n,); weights (draws, n)."""
        first, second = (order[positions] for positions in draw_pairs(len(y), MOST_PAIRS, seed))
        differ = y[first] != y[second]
        first, second = first[differ], second[differ]
        first_higher = y[first] > y[second]
        by_row = np.ascontiguousarray(weights.T, dtype=np.float32)
        return cls(np.where(first_higher, first, second), np.where(first_higher, second, first), by_row)

    def among(self, models: np.ndarray) -> "PairSample":
        """The pairs whose models are both in `models` (n,) bool."""
        inside = models[self.upper] & models[self.lower]
        return PairSample(self.upper[inside], self.lower[inside], self.weights)

    def counts(
        self, x: np.ndarray, groups: Mapping[tuple[str, ...], np.ndarray]
    ) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
        """For each name in `groups` (the group (n,) of each model), the weight of the pairs by group of the upper and
        of the lower model and by sign of the difference of x (n,): (name, (groups, groups, SIGNS, draws))."""
        for names in self.batches(groups):
            counts = {name: np.zeros(self.shape(groups[name]), dtype=np.float32) for name in names}
            size = min(PAIRS_AT_ONCE, max(len(self.upper), 1))
            upper, lower = (np.empty((size, self.weights.shape[1]), dtype=np.float32) for _ in range(2))
            for first in range(0, len(self.upper), PAIRS_AT_ONCE):
                upper_rows, lower_rows = (rows[first : first + PAIRS_AT_ONCE] for rows in (self.upper, self.lower))
                filled = slice(len(upper_rows))
                np.take(self.weights, upper_rows, axis=0, out=upper[filled], mode="clip")  # checking would copy
                np.take(self.weights, lower_rows, axis=0, out=lower[filled], mode="clip")
                np.multiply(upper[filled], lower[filled], out=upper[filled])
                sign = np.where(x[upper_rows] > x[lower_rows], 0, np.where(x[upper_rows] < x[lower_rows], 1, 2))
                for name in names:
                    count, group = counts[name], groups[name]
                    cell = (group[upper_rows] * count.shape[0] + group[lower_rows]) * SIGNS + sign
                    entries = (np.ones(len(upper_rows), dtype=np.float32), cell, np.arange(len(upper_rows) + 1))
                    member = csc_array(entries, shape=(np.prod(count.shape[:3]), len(upper_rows)))
                    count += (member @ upper[filled]).reshape(count.shape)
            yield from counts.items()

    def shape(self, group: np.ndarray) -> tuple[int, int, int, int]:
        groups = int(group.max(initial=0)) + 1
        return groups, groups, SIGNS, self.weights.shape[1]

    def batches(self, groups: Mapping[tuple[str, ...], np.ndarray]) -> Iterator[list[tuple[str, ...]]]:
        """Batches of names to count in one pass: as many as NUMBERS_AT_ONCE allows, at least one."""
        batch: list[tuple[str, ...]] = []
        size = 0
        for name, group in groups.items():
            numbers = int(np.prod(self.shape(group)))
            if batch and size + numbers > NUMBERS_AT_ONCE:
                yield batch
                batch, size = [], 0
            batch.append(name)
            size += numbers
        if batch:
            yield batch


def sampled_shares(
    sample: PairSample, groups: Mapping[tuple[str, ...], np.ndarray], x: np.ndarray
) -> dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]]:
    """(I, I / H) per draw for each name in `groups` (the group (n,) of each model), in bits."""
    shares = {}
    for name, counts in sample.counts(x, groups):
        step = max(1, ENTROPIES_AT_ONCE // (2 * counts[..., 0].size))
        batches = []
        for first in range(0, counts.shape[-1], step):
            signs = np.moveaxis(counts[..., first : first + step].astype(float), (2, 3), (0, 1))
            batches.append(information_shares(both_orders(*signs)))
        information, share = (np.concatenate(batch) for batch in zip(*batches, strict=True))
        shares[name] = information, share
    return shares
