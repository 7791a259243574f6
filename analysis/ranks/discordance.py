"""Weighted sums over discordant pairs in O(n log n) per draw, without a matrix of pairs: Kendall's tau for many
rows."""

from typing import Any

import numpy as np

FEW = 256  # up to this many rows, a matrix of all pairs is cheaper than sorting
NUMBERS_AT_ONCE = 500_000  # draws x rows held at a time: fits a processor's cache


def discordant(x: np.ndarray, y: np.ndarray, block: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of w_i w_j over pairs of rows with (x_i - x_j) (y_i - y_j) < 0, per draw.

    x, y (n,); block (n,) the block of each row; weights (draws, blocks) -> (draws,), exact for integer weights.

    Rows are sorted by x (ties: by y), so the later row of a discordant pair has the smaller y. Pairs are counted as in
    merge sort, W. R. Knight, JASA 1966: on each level neighbouring runs of 1, 2, 4, ... rows are merged, and each row
    of the right run counts the weight of the rows in the left run with y at most its own. The position of each row in
    the left run is the same in all draws, so a draw costs only sums along the rows.
    """
    order = np.lexsort((y, x))
    y, block = np.unique(y[order], return_inverse=True)[1], block[order]
    levels = [merge_positions(y, 2**level) for level in range(max(len(y) - 1, 0).bit_length())]
    step = max(1, NUMBERS_AT_ONCE // max(1, len(y)))
    batches = [weights[first : first + step] for first in range(0, len(weights), step)]
    return np.concatenate([discordant_batch(batch, block, levels) for batch in batches])


def merge_positions(y: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """How to merge runs of `size` rows: rows of left runs ordered by (run, y), rows of right runs, and for each of the
    latter the number of the former before its pair of runs, and up to its own y."""
    merged_run = np.arange(len(y)) // (2 * size)
    order = np.argsort(merged_run * len(y) + y, kind="stable")
    is_left = np.arange(len(y)) % (2 * size) < size
    upto = np.empty(len(y), dtype=np.int64)
    upto[order] = np.cumsum(is_left[order])
    right = np.flatnonzero(~is_left)
    return order[is_left[order]], right, size * merged_run[right], upto[right]


def drawn_weights(weights: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Weight of each row (draws, n): int32 if all weights are integers and sums over pairs fit, else float64."""
    total = weights @ np.bincount(block, minlength=weights.shape[1])
    small = total.max(initial=0) ** 2 < 2**31 and (weights == np.rint(weights)).all()
    return weights.astype(np.int32 if small else np.float64).take(block, axis=1)


def cumulative_sums(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Cumulative sums of the rows in the given order, starting with 0: (draws, 1 + len(order))."""
    sums = np.zeros((len(rows), len(order) + 1), dtype=rows.dtype)
    np.cumsum(rows.take(order, axis=1), axis=1, out=sums[:, 1:])
    return sums


def discordant_batch(weights: np.ndarray, block: np.ndarray, levels: list[Any]) -> np.ndarray:
    """`discordant` for some of the draws; rows sorted by x, levels as returned by `merge_positions`."""
    rows = drawn_weights(weights, block)
    pairs = (rows.sum(axis=1) ** 2 - np.einsum("dr,dr->d", rows, rows)) / 2
    for left, right, before, upto in levels:
        sums = cumulative_sums(rows, left)
        not_above = sums.take(upto, axis=1) - sums.take(before, axis=1)
        pairs = pairs - np.einsum("dr,dr->d", rows.take(right, axis=1), not_above)
    return np.asarray(pairs)


def earlier_equal(group: np.ndarray) -> np.ndarray:
    """For each position, the number of earlier positions with the same group (n,)."""
    order = np.argsort(group, kind="stable")
    size = np.bincount(group)
    count = np.empty(len(group), dtype=np.int64)
    count[order] = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    return count


def agreement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each row i, the sum over all rows j of sign(x_i - x_j) sign(y_i - y_j): (n,) -> (n,).

    Up to FEW rows all pairs are formed, which is faster; beyond that, O(n log n): among the rows j with a smaller x,
    those with y_j <= y_i are counted as in `discordant`; the numbers of rows with a given x, a given y, and both give
    the rest.
    """
    if len(y) <= FEW:
        rank_x, rank_y = (np.unique(column, return_inverse=True)[1].astype(np.int16) for column in (x, y))
        signs = (np.sign(rank[:, None] - rank).astype(np.int8) for rank in (rank_x, rank_y))
        return np.asarray(np.multiply(*signs).sum(axis=1, dtype=np.int64))
    order = np.lexsort((y, x))
    x, y = (np.unique(column, return_inverse=True)[1][order] for column in (x, y))
    both = np.unique(x * len(y) + y, return_inverse=True)[1]
    of_x, of_y, same = np.bincount(x), np.bincount(y), np.bincount(both)
    upto_x, upto_y = np.cumsum(of_x)[x], np.cumsum(of_y)[y]
    equal_both = same[both]  # rows with equal x and y
    # Rows with a smaller x and no larger y: earlier rows with no larger y, minus those with equal x.
    smaller_upto = -earlier_equal(x)
    for level in range(max(len(y) - 1, 0).bit_length()):
        _, right, before, upto = merge_positions(y, 2**level)
        smaller_upto[right] += upto - before
    equal_y = earlier_equal(y) - earlier_equal(both)  # rows with a smaller x and equal y
    # Among the rows with a smaller x: those with a smaller y minus those with a larger y.
    smaller_x = smaller_upto - equal_y - (upto_x - of_x[x] - smaller_upto)
    equal_x_upto = np.cumsum(same)[both] - (upto_x - of_x[x])  # rows with equal x and no larger y
    discordant_above = upto_y - smaller_upto - equal_x_upto - (of_y[y] - equal_y - equal_both)
    # Among the rows with a larger x: those with a larger y minus those with a smaller y (`discordant_above`).
    larger_x = len(y) - upto_x - (upto_y - smaller_upto - equal_x_upto) - discordant_above
    total = np.empty(len(y), dtype=np.int64)
    total[order] = smaller_x + larger_x
    return total
