"""Noise ceilings of tau: what a perfect measure would reach, since the observed gap is itself noisy.

    run            tau of the observed gap with the run's infinite-image gap, g = m + b + a + r + d
    configuration  tau of the observed gap with its expectation over seeds, mu = m + b + a

in the model of analysis.components. Neither is observed. With empirical Bayes (components taken for known), g of the
models of one configuration is normal given what was observed: the mean shrinks the observed gaps towards the mean of
their checkpoint rule, the covariance says what is left open. (The shrunk gaps alone would be less spread than the
true ones; drawn with that covariance they are as spread.) A ceiling is the tau-b that such true gaps have with gaps
observed anew, with fresh noise: over pairs i, j with D = g_i - g_j ~ N(m, v), and noise of variance s^2,

    E sign(D) sign(D + noise) = E (2 Phi(|D| / s) - 1),

an average over the quantiles of N(m, v) that stands for an endless simulation. D of configurations' expectations is 0,
a tie, within a cell. Noise is normal, equally strong everywhere save for the given standard errors. It is no bound for
a measure that shares the gap's own image noise, as one computed on the very training images of the gap may.

B. Efron and C. Morris, Stein's estimation rule and its competitors, JASA 1973; T. A. Louis, Estimating a population
of parameter values using Bayes and empirical Bayes methods, JASA 1984 (on the spread).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from analysis.components import Components, Levels, image_covariance
from analysis.shared_images import Sharing

PAIRS = 20_000  # pairs of models drawn where there are more
NODES = ndtri((np.arange(8) + 0.5) / 8)  # equally likely values of a standard normal number
NAMES = ("run", "configuration")
TIE = 1e-9  # a mean square difference below this share of the outcome's variance is rounding


@dataclass(frozen=True)
class Pairs:
    """Pairs of models (left, right), and whether they are of one configuration."""

    left: np.ndarray
    right: np.ndarray
    together: np.ndarray


def pairs(levels: Levels, seed: int) -> Pairs:
    """All pairs of models, or PAIRS of them drawn with replacement (seed: of that)."""
    n = len(levels.run)
    if n * (n - 1) // 2 <= PAIRS:
        left, right = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng([seed, n])
        left = rng.integers(n, size=PAIRS)
        right = (left + rng.integers(1, n, size=PAIRS)) % n
    return Pairs(left, right, levels.configuration[left] == levels.configuration[right])


@dataclass(frozen=True)
class Blocks:
    """Covariance structure of the models of each configuration, (configurations, m, m), m the size of the largest one.

    place (n,): which of the m places a model has; used (configurations, m): which places are taken. Empty places have
    image variance 1 and share nothing.
    """

    place: np.ndarray
    used: np.ndarray
    same_run: np.ndarray
    same_rule: np.ndarray
    image: np.ndarray

    def fill(self, values: np.ndarray, levels: Levels) -> np.ndarray:
        """Values (n,) of the models at their places (configurations, m); 0 at empty ones."""
        filled = np.zeros(self.used.shape)
        filled[levels.configuration, self.place] = values
        return filled


def arrange(se: np.ndarray, levels: Levels, shared: Sharing) -> Blocks:
    """The blocks of a study."""
    blocks = levels.blocks
    most = max(map(len, blocks))
    place = np.zeros(len(se), dtype=int)
    used = np.zeros((len(blocks), most), dtype=bool)
    image = np.broadcast_to(np.eye(most), (len(blocks), most, most)).copy()
    same_run, same_rule = np.zeros((2, *image.shape))
    for number, block in enumerate(blocks):
        size = len(block)
        place[block], used[number, :size] = np.arange(size), True
        run, rule = levels.run[block], levels.rule[block]
        image[number, :size, :size] = image_covariance(se[block], run, shared)
        same_run[number, :size, :size] = run[:, None] == run
        same_rule[number, :size, :size] = rule[:, None] == rule
    return Blocks(place, used, same_run, same_rule, image)


def posterior(residual: np.ndarray, prior: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of N(0, prior) given that it plus N(0, noise) was `residual`; (..., m), (..., m, m)."""
    # A pseudo-inverse: two checkpoints that are one model have the same gap and the same noise.
    gain = prior @ np.linalg.pinv(prior + noise, hermitian=True)
    return (gain @ residual[..., None])[..., 0], prior - gain @ prior


def variances(covariance: np.ndarray, chosen: Pairs, levels: Levels, blocks: Blocks) -> np.ndarray:
    """Variance of the difference of each pair, from covariances (configurations, m, m); independent across them."""
    home, place = levels.configuration, blocks.place
    own = covariance[home, place, place]
    shared = covariance[home[chosen.left], place[chosen.left], place[chosen.right]]
    return np.maximum(own[chosen.left] + own[chosen.right] - 2 * chosen.together * shared, 0)


def agreement(mean: np.ndarray, variance: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """E sign(D) sign(D + e) for D ~ N(mean, variance) and e ~ N(0, noise), elementwise."""
    difference = np.abs(mean[:, None] + np.sqrt(variance)[:, None] * NODES)
    scale = np.sqrt(np.maximum(noise, 1e-30))[:, None]
    return (2 * ndtr(difference / scale) - 1).mean(axis=1)


def expected_tau(agreed: np.ndarray, tied: np.ndarray, weights: np.ndarray) -> float:
    """tau-b of pairs with weights, of which some are tied in the measure; NaN where no pair is left."""
    untied = weights[~tied].sum()
    return float((weights * agreed)[~tied].sum() / np.sqrt(untied * weights.sum())) if untied > 0 else np.nan


def ceilings(
    y: np.ndarray, se: np.ndarray, levels: Levels, shared: Sharing, found: Components, weights: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Both ceilings in every draw, {name: (draws,)}: the components of a draw go with its weights.

    y, se (n,) without missing values; weights (draws, configurations); seed: of the pairs looked at. `configuration`
    is NaN where no cell has two seeds.
    """
    chosen, blocks = pairs(levels, seed), arrange(se, levels, shared)
    both = (blocks.used[:, :, None] & blocks.used[:, None]).astype(float)
    own = np.eye(both.shape[1]) * both
    taus = {name: np.full(len(weights), np.nan) for name in NAMES}
    for draw, weight in enumerate(weights):
        beta, alpha, rho, delta = (np.nan_to_num(part[draw]) for part in vars(found).values())
        mine = weight[levels.configuration]
        sums = np.bincount(levels.rule, mine * y)
        means = sums / np.maximum(np.bincount(levels.rule, mine), 1)
        residual = blocks.fill(y - means[levels.rule], levels)
        expected = beta * both + alpha * blocks.same_rule
        seeds = rho * blocks.same_run + delta * own
        pair_weights = mine[chosen.left] * mine[chosen.right]
        for name, prior, noise in (
            ("run", expected + seeds, blocks.image),
            ("configuration", expected, seeds + blocks.image),
        ):
            if name == "configuration" and np.isnan(found.rho[draw]):
                continue
            mean, covariance = posterior(residual, prior, noise)
            mean = means[levels.rule] + mean[levels.configuration, blocks.place]
            difference = mean[chosen.left] - mean[chosen.right]
            spread = variances(covariance, chosen, levels, blocks)
            fresh = variances(noise, chosen, levels, blocks)
            agreed = agreement(difference, spread, fresh)
            tied = difference**2 + spread <= TIE * y.var()
            taus[name][draw] = expected_tau(agreed, tied, pair_weights)
    return taus
