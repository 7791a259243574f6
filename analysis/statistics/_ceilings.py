"""Noise ceilings of tau: the tau of a perfect measure, given that the observed gap is noisy.

    run            tau of the observed gap with the run's infinite-image gap, g = m + b + a + r + d
    configuration  tau of the observed gap with its expectation over seeds, mu = m + b + a

in the model of analysis.statistics._components. Neither g nor mu is observed. In the empirical Bayes approach
(components treated as known), g of the models of one configuration is normal given the observations: its mean shrinks
the observed gaps towards the mean of their checkpoint rule, its covariance is the remaining uncertainty. (The shrunken
gaps alone are less spread out than the true ones; draws with that covariance have the right spread.) A ceiling is the
tau-b of such true gaps with gaps observed again, with fresh noise: over pairs i, j with D = g_i - g_j ~ N(m, v), and
noise of variance s^2,

    E sign(D) sign(D + noise) = E (2 Phi(|D| / s) - 1),

averaged over quantiles of N(m, v), the limit of an infinite simulation. For expectations of configurations, D is 0, a
tie, within a cell. Noise is assumed normal with equal variance, apart from the given standard errors. The ceiling is no
bound for a measure that shares the gap's image noise, such as one computed on the gap's own training images.

B. Efron and C. Morris, Stein's estimation rule and its competitors, JASA 1973; T. A. Louis, Estimating a population of
parameter values using Bayes and empirical Bayes methods, JASA 1984 (on the spread).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from robustgap.analysis.models.shared_images import Sharing
from robustgap.analysis.statistics._components import Components, Levels, image_covariance

PAIRS = 20_000  # sample size, if there are more pairs of models
NUMBERS_AT_ONCE = 2**22  # covariances of models of one configuration held at a time, or those of a single configuration
NODES = ndtri((np.arange(8) + 0.5) / 8)  # equally likely values of a standard normal variable
NAMES = ("run", "configuration")
TIE = 1e-9  # mean square differences below this share of the outcome's variance are rounding


@dataclass(frozen=True)
class Pairs:
    """Pairs of models (left, right), and whether both are of one configuration."""

    left: np.ndarray
    right: np.ndarray
    together: np.ndarray


def pairs(levels: Levels, seed: int) -> Pairs:
    """All pairs of models, or PAIRS of them drawn with replacement (with this seed)."""
    n = len(levels.run)
    if n * (n - 1) // 2 <= PAIRS:
        left, right = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng([seed, n])
        left = rng.integers(n, size=PAIRS)
        right = (left + rng.integers(1, n, size=PAIRS)) % n
    return Pairs(left, right, levels.configuration[left] == levels.configuration[right])


@dataclass(frozen=True)
class SizeGroup:
    """Some configurations with equal numbers of models, and the chosen pairs within them.

    rows (configurations, m): models; pairs: indices of the pairs; spot: configuration, and position of each model.
    """

    rows: np.ndarray
    pairs: np.ndarray
    spot: tuple[np.ndarray, np.ndarray, np.ndarray]


def size_groups(levels: Levels, chosen: Pairs) -> list[SizeGroup]:
    """All configurations grouped by size, as many at a time as NUMBERS_AT_ONCE allows: padding all covariances to the
    size of the largest might not fit into memory."""
    blocks, groups = levels.blocks, []
    sizes = np.array([len(block) for block in blocks])
    for size in np.unique(sizes):
        rows = np.stack([blocks[number] for number in np.flatnonzero(sizes == size)])
        step = max(1, NUMBERS_AT_ONCE // int(size) ** 2)
        for chunk in (rows[first : first + step] for first in range(0, len(rows), step)):
            group_row, column = np.full((2, len(levels.run)), -1)
            group_row[chunk], column[chunk] = np.arange(len(chunk))[:, None], np.arange(size)
            pairs = np.flatnonzero(chosen.together & (group_row[chosen.left] >= 0))
            left, right = chosen.left[pairs], chosen.right[pairs]
            groups.append(SizeGroup(chunk, pairs, (group_row[left], column[left], column[right])))
    return groups


@dataclass(frozen=True)
class Blocks:
    """Covariance structure of the models in configurations of one size, each (configurations, m, m)."""

    image: np.ndarray
    same_run: np.ndarray
    same_rule: np.ndarray


def block_structure(rows: np.ndarray, se: np.ndarray, levels: Levels, shared: Sharing) -> Blocks:
    """The blocks for the models rows (configurations, m)."""
    run, share = levels.run[rows], np.moveaxis(levels.share()[:, rows], 0, -1)
    same_run = (run[:, :, None] == run[:, None]).astype(float)
    return Blocks(image_covariance(se[rows], run, shared), same_run, share @ np.swapaxes(share, 1, 2))


def posterior(residual: np.ndarray, prior: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of x ~ N(0, prior) given x + N(0, noise) = residual; (..., m), (..., m, m)."""
    # A pseudo-inverse, because models without noise may have the same expected gap. Eigenvalues that are 0 up to
    # rounding, which grows with m, count as 0.
    least = max(1e-15, prior.shape[-1] * np.finfo(float).eps)
    gain = prior @ np.linalg.pinv(prior + noise, rcond=least, hermitian=True)
    return (gain @ residual[..., None])[..., 0], prior - gain @ prior


@dataclass(frozen=True)
class Spread:
    """The part of a covariance needed for differences of models: variances own (n,), and covariances of the chosen
    pairs, shared (pairs,), 0 across configurations."""

    own: np.ndarray
    shared: np.ndarray

    def take(self, group: SizeGroup, covariance: np.ndarray) -> None:
        """Store the covariance (configurations, m, m) of the models of one part."""
        self.own[group.rows] = np.einsum("bii->bi", covariance)
        self.shared[group.pairs] = covariance[group.spot]

    def variance(self, chosen: Pairs) -> np.ndarray:
        """Variance of the difference of each chosen pair."""
        return np.asarray(np.maximum(self.own[chosen.left] + self.own[chosen.right] - 2 * self.shared, 0))


def expected_agreement(mean: np.ndarray, variance: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """E sign(D) sign(D + e) for D ~ N(mean, variance) and e ~ N(0, noise), elementwise."""
    difference = np.abs(mean[:, None] + np.sqrt(variance)[:, None] * NODES)
    scale = np.sqrt(np.maximum(noise, 1e-30))[:, None]
    return np.asarray((2 * ndtr(difference / scale) - 1).mean(axis=1))


def expected_tau(agreement: np.ndarray, tied: np.ndarray, weights: np.ndarray) -> float:
    """tau-b of weighted pairs, some of which are tied in the measure; NaN if no pair is left."""
    untied = weights[~tied].sum()
    return float((weights * agreement)[~tied].sum() / np.sqrt(untied * weights.sum())) if untied > 0 else np.nan


def ceilings(
    y: np.ndarray, se: np.ndarray, levels: Levels, shared: Sharing, fitted: Components, weights: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Both ceilings in every draw, {name: (draws,)}; each draw uses the components estimated with its weights.

    y, se (n,) without missing values; weights (draws, configurations); seed: for sampling pairs. `configuration` is NaN
    if no cell has two seeds.
    """
    chosen = pairs(levels, seed)
    groups, taus = size_groups(levels, chosen), {name: np.full(len(weights), np.nan) for name in NAMES}
    for draw, weight in enumerate(weights):
        beta, alpha, rho, delta = (np.nan_to_num(values[draw]) for values in vars(fitted).values())
        model_weights = weight[levels.configuration]
        means = levels.rule_means(y, model_weights)
        names = NAMES[:1] if np.isnan(fitted.rho[draw]) else NAMES
        mean = {name: means.copy() for name in names}
        remaining, noise = (
            {name: Spread(np.zeros(len(y)), np.zeros(len(chosen.left))) for name in names} for _ in range(2)
        )
        for group in groups:
            blocks = block_structure(group.rows, se, levels, shared)
            expected = beta + alpha * blocks.same_rule
            seeds = rho * blocks.same_run + delta * np.eye(group.rows.shape[1])
            priors = {"run": (expected + seeds, blocks.image), "configuration": (expected, seeds + blocks.image)}
            for name in names:
                update, covariance = posterior((y - means)[group.rows], *priors[name])
                mean[name][group.rows] += update
                remaining[name].take(group, covariance)
                noise[name].take(group, priors[name][1])
        pair_weights = model_weights[chosen.left] * model_weights[chosen.right]
        for name in names:
            difference, spread = mean[name][chosen.left] - mean[name][chosen.right], remaining[name].variance(chosen)
            agreement = expected_agreement(difference, spread, noise[name].variance(chosen))
            tied = difference**2 + spread <= TIE * y.var()
            taus[name][draw] = expected_tau(agreement, tied, pair_weights)
    return taus
