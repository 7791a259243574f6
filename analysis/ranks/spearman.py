"""Spearman's rank correlation of weighted rows: Pearson's correlation of midranks."""

import numpy as np

from robustgap.analysis.ranks.discordance import NUMBERS_AT_ONCE, cumulative_sums, drawn_weights


def midranks(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Twice the midrank of each row among weighted rows, centred: the weight of the rows below it minus the weight of
    those above. values (n,); weights `rows` (draws, n) -> (draws, n)."""
    order = np.argsort(values, kind="stable")
    sums = cumulative_sums(rows, order)
    first, last = (np.searchsorted(values[order], values, side) for side in ("left", "right"))
    return np.asarray((sums.take(first, axis=1) + sums.take(last, axis=1) - sums[:, -1:]).astype(float))


def weighted_spearman(x: np.ndarray, y: np.ndarray, block: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman's rho of weighted rows, (draws,): with midranks R, S among the rows, each repeated as often as drawn,

        rho = sum w (R - mean R) (S - mean S) / sqrt(sum w (R - mean R)^2 * sum w (S - mean S)^2)

    x, y (n,) without missing values; block (n,) the block of each row; weights (draws, blocks). NaN in a draw where x
    or y is constant. Copies of a row tie with each other, which shifts rho only by O(1 / n). C. Spearman, The proof and
    measurement of association between two things, American Journal of Psychology 1904.
    """
    rho = np.full(len(weights), np.nan)
    step = max(1, NUMBERS_AT_ONCE // max(1, len(x)))
    for first in range(0, len(weights) if len(x) > 1 else 0, step):
        rows = drawn_weights(weights[first : first + step], block)
        r, s = midranks(x, rows), midranks(y, rows)
        wr, ws = rows * r, rows * s
        covariance, variance = np.einsum("dn,dn->d", wr, s), np.einsum("dn,dn->d", wr, r) * np.einsum("dn,dn->d", ws, s)
        scale = np.sqrt(np.where(variance > 0, variance, 1))
        rho[first : first + step] = np.where(variance > 0, covariance / scale, np.nan)
    return rho
