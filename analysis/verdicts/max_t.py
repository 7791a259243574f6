"""Simultaneous inference by max-T: which of many statements made at once still exclude 0.

A statement is an estimate with a standard error, degrees of freedom and the contribution of each configuration to its
error (analysis.ranks.influence). All statements of a family share the configurations, so their errors are correlated,
which max-T uses. Each draw multiplies the contributions of every configuration by one standard normal number, the same
for all statements; the largest standardised sum is a draw of the largest statement under the null. V. Chernozhukov, D.
Chetverikov, K. Kato, Gaussian approximations and multiplier bootstrap for maxima of sums of high-dimensional random
vectors, Annals of Statistics 2013; P. Westfall, S. Young, Resampling-based multiple testing, 1993. The alternative,
Benjamini-Hochberg, bounds the expected share of wrong statements among those made.
"""

import numpy as np
from scipy import stats

from robustgap.analysis.ranks.bootstrap import LEVEL

DRAWS = 2000
MOST = 30.0  # z values are clipped here: the normal tail beyond it cannot be computed


def z_values(estimate: np.ndarray, se: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The standard normal quantile with the same tail probability as estimate / se under Student's t; NaN if se is
    missing or 0.

    This makes statements with different degrees of freedom comparable.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(se > 0, estimate / se, np.nan)
    return np.asarray(np.sign(t) * np.minimum(stats.norm.isf(stats.t.sf(np.abs(t), np.maximum(free, 1))), MOST))


def null_maxima(parts: np.ndarray, *, two_sided: bool = True, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """The largest standardised statement in each draw under the null: (draws,), sorted.

    parts (configurations, statements): contribution of each configuration to a statement's error, in any unit; columns
    of zeros or NaN are not statements. -inf without statements.
    """
    size = np.sqrt((parts**2).sum(axis=0))
    used = parts[:, size > 0] / size[size > 0]
    if not used.shape[1]:
        return np.full(draws, -np.inf)
    sums = np.random.default_rng(seed).standard_normal((draws, len(used))) @ used
    return np.sort(np.abs(sums).max(axis=1) if two_sided else sums.max(axis=1))


def critical(parts: np.ndarray, *, two_sided: bool = True, draws: int = DRAWS, seed: int = 0) -> float:
    """The z value that the largest statement exceeds in 5 % of draws under the null.

    Lies between the value for one statement (returned without drawing if there is only one) and Bonferroni's.
    """
    tail = (1 - LEVEL) / (2 if two_sided else 1)
    statements = int(((parts**2).sum(axis=0) > 0).sum())
    single = float(stats.norm.isf(tail))
    if statements < 2:
        return single
    quantile = float(np.quantile(null_maxima(parts, two_sided=two_sided, draws=draws, seed=seed), LEVEL))
    return min(max(quantile, single), float(stats.norm.isf(tail / statements)))


def adjusted(z: np.ndarray, parts: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Two-sided p values adjusted for the family by max-T: the share of draws (counting the data as one) whose largest
    statement is at least |z|. NaN where z is."""
    maxima = null_maxima(parts, draws=draws, seed=seed)
    beyond = len(maxima) - np.searchsorted(maxima, np.abs(z), side="left")
    beyond[z == 0] = len(maxima)  # even if no statement of the family has any error (two measures with the same order)
    return np.where(np.isnan(z), np.nan, (1 + beyond) / (1 + len(maxima)))


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """p values adjusted for the false discovery rate: q_(i) = min over j >= i of m p_(j) / j; NaN stays NaN.

    Y. Benjamini, Y. Hochberg, Controlling the false discovery rate, JRSS B 1995.
    """
    q = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")[::-1]]
    m = len(known)
    q[order] = np.minimum.accumulate(np.minimum(p[order] * m / np.arange(m, 0, -1), 1))
    return q
