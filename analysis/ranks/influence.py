"""Influence of each configuration on Kendall's tau, and the standard error of tau given this design.

The settings of a factorial study are fixed: another study with the same design would have the same configurations and
the same effects of its settings. What would vary is the noise of configurations, seeds, images and the measure. So
the part of the influences that the settings explain (interactions up to third order, as far as the number of
configurations allows) is removed before their spread gives the standard error of tau. Without this step, the intervals
of a measure that follows the settings are up to twice too wide (docs/claims.md).
"""

import itertools

import numpy as np
import pandas as pd
from scipy import special

from robustgap.analysis.ranks.discordance import agreement

FEWEST_FREE = 6  # minimum degrees of freedom for a standard error
HIGHEST_ORDER = 3  # order of interactions between settings
RANK = 1e-8  # singular values below this share of the largest count as 0
LEAST_RELIABLE = 0.25  # lower limit of the reliability used to correct for noise


def untied_counts(values: np.ndarray) -> np.ndarray:
    """For each row, the number of rows with a different value."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    return (len(values) - size[group]).astype(float)


def tau_influence(x: np.ndarray, y: np.ndarray, block: np.ndarray) -> tuple[float, np.ndarray]:
    """tau-b of x and y, and its derivative with respect to the multiplicity of each block (blocks,).

    With s_i = sum_j sign(x_i - x_j) sign(y_i - y_j), and u_i, v_i the numbers of rows with a different x, a different
    y:

        tau = sum s / sqrt(sum u sum v)
        influence_b = 2 sum_(i in b) (s_i / sqrt(sum u sum v) - tau (u_i / sum u + v_i / sum v) / 2)

    The influences sum to 0. x, y (n,) without missing values; block (n,): consecutive numbers from 0. NaN where x or y
    is constant. L. A. Jaeckel, The infinitesimal jackknife, 1972.
    """
    s, u, v = agreement(x, y), untied_counts(x), untied_counts(y)
    scale = np.sqrt(u.sum() * v.sum())
    if not scale:
        return np.nan, np.full(int(block.max(initial=-1)) + 1, np.nan)
    tau = s.sum() / scale
    return float(tau), np.bincount(block, 2 * (s / scale - tau / 2 * (u / u.sum() + v / v.sum())))


def level_codes(settings: pd.DataFrame) -> np.ndarray:
    """Index of each row's value on each axis, in sorted order of the values (compared as text): (n, axes)."""
    columns = [np.unique(settings[name].to_numpy(str), return_inverse=True)[1] for name in settings]
    return np.stack(columns, axis=1) if columns else np.zeros((len(settings), 0), dtype=int)


def interactions(levels: np.ndarray, order: int) -> np.ndarray:
    """Products of indicators of the values (except the first) of exactly `order` different axes: (n, columns).

    levels (n, axes): `level_codes` of any rows. All-zero columns are dropped.
    """
    first, products = levels.min(axis=0, initial=levels.max(initial=0)), [np.zeros((len(levels), 0))]
    for axes in itertools.combinations(range(levels.shape[1]), order):
        values = levels[:, axes]
        applies = (values != first[list(axes)]).all(axis=1)
        # Only combinations that occur: for axes with many values, all of them would not fit into memory.
        combinations, index = np.unique(values[applies], axis=0, return_inverse=True)
        product = np.zeros((len(levels), len(combinations)))
        product[np.flatnonzero(applies), index.reshape(-1)] = 1
        products.append(product)
    return np.concatenate(products, axis=1)


def settings_basis(levels: np.ndarray) -> np.ndarray:
    """Orthonormal columns (configurations, rank) spanning a constant, the axes and their interactions.

    levels (configurations, axes): `level_codes`. Interactions up to the highest order, at most 3, that leaves
    FEWEST_FREE degrees of freedom; only a constant if even the axes leave fewer.
    """
    basis = columns = np.full((len(levels), 1), len(levels) ** -0.5)
    for order in range(1, min(HIGHEST_ORDER, levels.shape[1]) + 1):
        columns = np.concatenate([columns, interactions(levels, order)], axis=1)
        vectors, size, _ = np.linalg.svd(columns, full_matrices=False)
        wider = vectors[:, size > RANK * size[0]]
        if len(levels) - wider.shape[1] < FEWEST_FREE:
            break
        basis = wider
    return basis


def standard_error(influence: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, float, int]:
    """The influence (configurations,) not explained by the settings, the standard error it implies, and its degrees of
    freedom: r = influence - B B' influence, se^2 = n / (n - rank) sum r^2.

    The standard error is at least 1 / n: n configurations cannot rule out a change that one more could cause (r is 0 if
    a measure separates the outcome perfectly). NaN with fewer than FEWEST_FREE degrees of freedom.
    """
    residual = influence - basis @ (basis.T @ influence)
    n, free = basis.shape[0], basis.shape[0] - basis.shape[1]
    if free < FEWEST_FREE:
        return residual, np.nan, free
    return residual, float(max(np.sqrt(n / free * (residual**2).sum()), 1 / n)), free


def outcome_reliability(outcome: np.ndarray, se: np.ndarray | None) -> float:
    """Reliability of the outcome, the share of its variance that is not image noise: 1 - mean(se^2) / var(outcome).

    1 if standard errors are unknown; at least LEAST_RELIABLE.
    """
    if se is None or len(outcome) < 2 or not (variance := float(np.var(outcome, ddof=1))):
        return 1.0
    return max(1 - float(np.nanmean(se**2)) / variance, LEAST_RELIABLE)


def tau_of_expected(tau: float | np.ndarray, reliability: float) -> np.ndarray:
    """Tau with *expected* outcomes from tau with observed ones: (2 / pi) asin(sin(pi tau / 2) / sqrt(reliability)).

    Greiner's relation between tau and the correlation of normal variables, with Spearman's correction for attenuation.
    The sign is kept, so statements about signs do not depend on it.
    """
    correlation = np.clip(np.sin(np.pi / 2 * np.asarray(tau)) / np.sqrt(reliability), -1, 1)
    return np.asarray(2 / np.pi * np.arcsin(correlation))


def t_interval(estimate: float, se: float, free: int, critical: float) -> tuple[float, float]:
    """estimate -+ q se, where q is the quantile of Student's t with `free` degrees of freedom whose upper tail
    probability equals that of a standard normal at `critical`."""
    if np.isnan(se):
        return np.nan, np.nan
    q = float(-special.stdtrit(free, special.ndtr(-critical)))
    return estimate - q * se, estimate + q * se
