"""Configuration bootstrap: percentile intervals of statistics over the configurations of a study.

The estimand is the statistic of expected outcomes over configurations with this design's margins. Configurations are
drawn with replacement. A draw is a vector of multiplicities: all models of a configuration (its seeds and checkpoints)
stay together, and statistics are computed from weights instead of copied rows.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from robustgap.analysis.ranks.discordance import NUMBERS_AT_ONCE, discordant

LEVEL = 0.95
FEWEST_BLOCKS = 3  # no interval from fewer blocks: resampling them is not informative
ROWS_AT_ONCE = 512  # columns of the n x n matrix of pairs held at a time


@dataclass(frozen=True)
class Bootstrap:
    """Multiplicity weights, seeded by (seed, purpose): a statistic's draws do not depend on which others are computed.

    draws: number of bootstrap draws (0: no intervals).
    """

    draws: int = 2000
    seed: int = 0

    def weights(self, strata: np.ndarray, purpose: str) -> np.ndarray:
        """Multiplicities (1 + draws, blocks): ones for the table itself, then the draws.

        Each stratum is resampled with replacement to its own size, which preserves the design's margins. strata
        (blocks,): the stratum of each block, such as its axis value.
        """
        weights = np.ones((1 + self.draws, len(strata)))
        for stratum in np.unique(strata):
            members = np.flatnonzero(strata == stratum)
            rng = np.random.default_rng([self.seed, zlib.crc32(f"{purpose}={stratum}".encode())])
            positions = rng.integers(len(members), size=(self.draws, len(members)))
            shifted = positions + len(members) * np.arange(self.draws)[:, None]
            counts = np.bincount(shifted.ravel(), minlength=self.draws * len(members))
            weights[1:, members] = counts.reshape(self.draws, len(members))
        return weights


def interval(draws: np.ndarray, blocks: int) -> tuple[float, float, float]:
    """Estimate and percentile interval (estimate, 2.5 %, 97.5 %) from the statistic of the table and of its draws.

    draws (1 + draws,), in the order of `Bootstrap.weights`; NaN where undefined. The interval covers the draws in which
    the statistic is defined. It is (NaN, NaN) if the estimate is undefined, if no more than half of the draws are
    defined, or if the statistic rests on fewer than 3 blocks.
    """
    estimate, defined = float(draws[0]), draws[1:][~np.isnan(draws[1:])]
    if np.isnan(estimate) or blocks < FEWEST_BLOCKS or 2 * len(defined) <= len(draws) - 1:
        return estimate, np.nan, np.nan
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return estimate, float(low), float(high)


def interval_side(low: float, high: float) -> int:
    """+1 (-1) if the interval lies wholly above (below) 0, else 0."""
    return int(low > 0) - int(high < 0)


def mean(estimates: np.ndarray) -> np.ndarray:
    """Mean over axis 0 of the estimates defined in each draw; NaN if none is. (estimates, draws) -> (draws,)."""
    defined = ~np.isnan(estimates)
    count = defined.sum(axis=0)
    return np.where(count > 0, np.where(defined, estimates, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def membership(block: np.ndarray, group: np.ndarray, blocks: int) -> csr_array:
    """Number of rows of each block in each group: sparse (groups, blocks). block, group (n,): numbers from 0."""
    shape = (int(group.max(initial=-1)) + 1, blocks)
    return csr_array((np.ones(len(block), dtype=np.float32), (group, block)), shape=shape)


def untied_weight(values: np.ndarray, block: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of w_i w_j over pairs i < j with values_i != values_j, per draw.

    values (n,), block (n,) the block of each row, weights (draws, blocks) -> (draws,).
    Computed as (W^2 - sum over groups of equal values g of W_g^2) / 2, where W_g sums the weights of the group.
    """
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    is_single = size[group] == 1
    total = weights @ np.bincount(block, minlength=weights.shape[1])
    squares = np.einsum("db,db,b->d", weights, weights, np.bincount(block[is_single], minlength=weights.shape[1]) * 1.0)
    tied_group = np.unique(group[~is_single], return_inverse=True)[1]
    members = membership(block[~is_single], tied_group, weights.shape[1])
    step = max(1, NUMBERS_AT_ONCE // max(1, members.shape[0]))
    for first in range(0, len(weights) if len(tied_group) else 0, step):
        batch = slice(first, first + step)
        squares[batch] += ((members @ weights[batch].T) ** 2).sum(axis=0)
    return np.asarray((total**2 - squares) / 2)


def difference_signs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sign(a - b) of integers, as int8."""
    return (a > b).view(np.int8) - (a < b).view(np.int8)


def concordance(x: np.ndarray, y: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Matrix (blocks, blocks): sum of sign(x_i - x_j) sign(y_i - y_j) over rows i of one block and j of the other.

    Only ROWS_AT_ONCE columns of the matrix of pairs are held at a time. block (n,): consecutive numbers from 0.
    """
    x, y = (np.unique(column, return_inverse=True)[1].astype(np.int32) for column in (x, y))
    blocks = int(block.max(initial=-1)) + 1
    member = membership(np.arange(len(x)), block, len(x))
    sums = np.zeros((blocks, blocks), dtype=np.float32)
    for first in range(0, len(x), ROWS_AT_ONCE):
        batch = slice(first, first + ROWS_AT_ONCE)
        product = difference_signs(x[:, None], x[batch]) * difference_signs(y[:, None], y[batch])
        sums += member[:, batch] @ (member @ product.astype(np.float32)).T
    return sums


def by_merging(rows: int, blocks: int, draws: int) -> bool:
    """Whether counting discordant pairs by merging is faster than the matrix of pairs, in measured nanoseconds: 100 n
    log2 n once and 5 n log2 n per draw, against 7 n^2 once and 0.05 blocks^2 per draw."""
    levels = rows * np.log2(max(rows, 2))
    return bool((100 + 5 * draws) * levels < 7 * rows**2 + 0.05 * draws * blocks**2)


def signed_pairs(x: np.ndarray, y: np.ndarray, block: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of w_i w_j sign(x_i - x_j) sign(y_i - y_j) over pairs i < j, per draw; block as in `concordance`.

    Both methods give the same number, exactly for integer weights: float32 suffices while no sum exceeds 2^24.
    """
    if by_merging(len(x), weights.shape[1], len(weights)):
        x, y = (np.unique(column, return_inverse=True)[1] for column in (x, y))
        joint = x * len(y) + y
        ordered = (
            untied_weight(x, block, weights) + untied_weight(y, block, weights) - untied_weight(joint, block, weights)
        )
        return np.asarray(ordered - 2 * discordant(x, y, block, weights))
    size = np.bincount(block)
    exact = (weights @ size).max(initial=0) * size.max(initial=0) < 2**24 and (weights == np.rint(weights)).all()
    dtype = np.float32 if exact else np.float64
    product = weights.astype(dtype) @ concordance(x, y, block).astype(dtype)
    return np.asarray(np.einsum("db,db->d", product, weights) / 2)


def weighted_tau(x: np.ndarray, y: np.ndarray, block: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Kendall's tau-b and tau-a of weighted rows, (2, draws); weights of ones give the plain coefficients.

    With s_ij = sign(x_i - x_j) sign(y_i - y_j) and sums over pairs of *different* rows i < j, so that a pair of copies
    of one row never counts:

        tau_b = sum w_i w_j s_ij / sqrt(sum w_i w_j |sign(x_i - x_j)| * sum w_i w_j |sign(y_i - y_j)|)
        tau_a = sum w_i w_j s_ij / sum w_i w_j

    x, y (n,) without missing values; block (n,); weights (draws, blocks). Both are NaN in a draw where x or y is
    constant, which includes fewer than 2 rows with weight. M. G. Kendall, The treatment of ties in ranking problems,
    Biometrika 1945.
    """
    if len(x) < 2:
        return np.full((2, len(weights)), np.nan)
    present, block = np.unique(block, return_inverse=True)
    if len(present) < weights.shape[1]:
        weights = weights[:, present]
    signed = signed_pairs(x, y, block, weights)
    product = untied_weight(x, block, weights) * untied_weight(y, block, weights)
    pairs = untied_weight(np.arange(len(x)), block, weights)
    signed[product == 0] = np.nan
    return np.stack([signed / np.sqrt(np.where(product > 0, product, 1)), signed / np.where(pairs > 0, pairs, 1)])
