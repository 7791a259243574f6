"""Designs of configurations, seeds and checkpoint rules, and outcomes of known variance components."""

import numpy as np

from robustgap.analysis.models.shared_images import Sharing
from robustgap.analysis.statistics._components import Levels

INDEPENDENT = Sharing()


def ones(found: Levels) -> np.ndarray:
    return np.ones((1, found.configuration.max() + 1))


def design(configurations: int = 6, seeds: int = 3, rules: int = 2) -> Levels:
    home, seed, rule = (part.ravel() for part in np.indices((configurations, seeds, rules)))
    return Levels(home, home * seeds + seed, rule)


def drawn(found: Levels, rng: np.random.Generator, beta=1.0, alpha=0.0, rho=0.0, delta=0.0) -> np.ndarray:
    """Outcomes with these variances; the second checkpoint rule is 5 higher."""
    cell = 2 * found.configuration + found.rule
    parts = zip((found.configuration, cell, found.run), (beta, alpha, rho), strict=True)
    y = sum(np.sqrt(variance) * rng.standard_normal(code.max() + 1)[code] for code, variance in parts)
    return y + 5 * found.rule + np.sqrt(delta) * rng.standard_normal(len(cell))
