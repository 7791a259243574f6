"""Weighted sums over discordant pairs in O(n log n) per draw, without a matrix of pairs: Kendall's tau for many
rows."""

from typing import Any

import numpy as np

FEW = 256  # up to this many rows, a matrix of all pairs is cheaper than sorting
NUMBERS_AT_ONCE = 500_000  # draws x rows held at a time: fits a processor's cache


def discordant(x: np.ndarray, y: np.ndarray, block: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of w_i w_j over pairs of rows with (x_i - x_j) (y_i - y_j) < 0, per draw.

    x, y (n,); block (n,) the block of each row; weights (draws, blocks) -> (draws,), exact for whole weights.

    Rows are sorted by x (ties: by y), so the later row of a discordant pair has the smaller y. Pairs are counted as in
    merge sort, W. R. Knight, JASA 1966: on each level neighbouring runs of 1, 2, 4, ... rows are merged, and each row
    of the right run counts the weight of the rows in the left run with y at most its own. The position of each row in
    the left run is the same in all draws, so a draw costs only sums along the rows.
    """
    order = np.lexsort((y, x))
    y, block = np.unique(y[order], return_inverse=True)[1], block[order]
    levels = [meeting(y, 2**level) for level in range(max(len(y) - 1, 0).bit_length())]
    step = max(1, NUMBERS_AT_ONCE // max(1, len(y)))
    parts = [weights[first : first + step] for first in range(0, len(weights), step)]
    return np.concatenate([discordant_part(part, block, levels) for part in parts])


def meeting(y: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """How runs of `size` rows are merged: rows of left runs in order (run, y), rows of right runs, and for each of the
    latter the number of the former that lie before its run, and up to its own y."""
    stretch = np.arange(len(y)) // (2 * size)
    order = np.argsort(stretch * len(y) + y, kind="stable")
    is_left = np.arange(len(y)) % (2 * size) < size
    upto = np.empty(len(y), dtype=np.int64)
    upto[order] = np.cumsum(is_left[order])
    right = np.flatnonzero(~is_left)
    return order[is_left[order]], right, size * stretch[right], upto[right]


def drawn(weights: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Weight of each row (draws, n): int32 if all weights are whole and sums over pairs fit, else float64."""
    total = weights @ np.bincount(block, minlength=weights.shape[1])
    small = total.max(initial=0) ** 2 < 2**31 and (weights == np.rint(weights)).all()
    return weights.astype(np.int32 if small else np.float64).take(block, axis=1)


def heaped(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Cumulative sums of the rows in the given order, starting with 0: (draws, 1 + len(order))."""
    heap = np.zeros((len(rows), len(order) + 1), dtype=rows.dtype)
    np.cumsum(rows.take(order, axis=1), axis=1, out=heap[:, 1:])
    return heap


def discordant_part(weights: np.ndarray, block: np.ndarray, levels: list[Any]) -> np.ndarray:
    """`discordant` for some of the draws; rows sorted by x, levels as returned by `meeting`."""
    rows = drawn(weights, block)
    pairs = (rows.sum(axis=1) ** 2 - np.einsum("dr,dr->d", rows, rows)) / 2
    for left, right, before, upto in levels:
        heap = heaped(rows, left)
        met = heap.take(upto, axis=1) - heap.take(before, axis=1)
        pairs = pairs - np.einsum("dr,dr->d", rows.take(right, axis=1), met)
    return np.asarray(pairs)


def earlier(group: np.ndarray) -> np.ndarray:
    """For each position, the number of earlier positions with the same group (n,)."""
    order = np.argsort(group, kind="stable")
    size = np.bincount(group)
    found = np.empty(len(group), dtype=np.int64)
    found[order] = np.arange(len(group)) - np.repeat(np.cumsum(size) - size, size)
    return found


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
    alike = same[both]  # rows with equal x and y
    low = -earlier(x)  # rows with a smaller x and no larger y: earlier ones with no larger y, minus those with equal x
    for level in range(max(len(y) - 1, 0).bit_length()):
        _, right, before, upto = meeting(y, 2**level)
        low[right] += upto - before
    equal = earlier(y) - earlier(both)  # rows with a smaller x and equal y
    below = low - equal - (upto_x - of_x[x] - low)  # smaller x: smaller y less larger y
    here = np.cumsum(same)[both] - (upto_x - of_x[x])  # rows with equal x and no larger y
    smaller = upto_y - low - here - (of_y[y] - equal - alike)  # rows with a larger x and a smaller y
    above = len(y) - upto_x - (upto_y - low - here) - smaller  # larger x: larger y less smaller y
    found = np.empty(len(y), dtype=np.int64)
    found[order] = below + above
    return found
