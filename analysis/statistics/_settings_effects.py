"""Share of the variance of configurations' expected outcomes explained by settings: main effects, two-way interactions.

Settings are fitted to the configurations' mean outcomes by least squares, main effects first. The sum of squares that r
free parameters explain by chance, and the noise of seeds, checkpoints and images in the means, are subtracted.
Variances are over the configurations of this design. Intervals come from refits to simulated means: normal draws with
the estimated effects, residual variance and noise. Resampling the design with replacement leaves too few distinct
configurations for two-way interactions.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from robustgap.analysis.models.design import configuration
from robustgap.analysis.ranks.bootstrap import Bootstrap
from robustgap.analysis.ranks.influence import interactions, level_codes
from robustgap.analysis.statistics._components import Components, Levels, centred

SETTINGS = ("settings_main", "settings_two_way", "configuration")


def basis(design: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the span of `design` beyond the orthonormal columns `removed`; (n, rank)."""
    for _ in range(2):  # twice, against rounding
        design = design - removed @ (removed.T @ design)
    vectors, size, _ = np.linalg.svd(design, full_matrices=False)
    return vectors[:, size > 1e-9 * max(len(design), 1)]


def settings_bases(settings: pd.DataFrame) -> list[np.ndarray]:
    """Orthonormal bases (configurations, rank) of main effects, and of two-way interactions beyond them."""
    constant, levels = np.full((len(settings), 1), len(settings) ** -0.5), level_codes(settings)
    main = basis(interactions(levels, 1), constant)
    return [main, basis(interactions(levels, 2), np.hstack([constant, main]))]


def split(x: np.ndarray, noise: np.ndarray, bases: list[np.ndarray]) -> np.ndarray:
    """Variances (3, ...) of main effects, two-way interactions and the residual of the means x (configurations, ...).

    noise (configurations,): variance of each mean due to seeds, checkpoints and images. With h the leverages of a basis
    of rank r, its sum of squares exceeds that of the effects by r times the residual variance plus sum h noise. NaN if
    no degrees of freedom are left for the residual, which is then part of the last effects.
    """
    n = len(x)
    x = x - x.mean(axis=0)
    squares = [((basis.T @ x) ** 2).sum(axis=0) for basis in bases]
    ranks, chance = [basis.shape[1] for basis in bases], [(basis**2).sum(axis=1) @ noise for basis in bases]
    freedom = n - 1 - sum(ranks)
    residual = np.full(x.shape[1:], np.nan)
    if freedom > 0:
        remaining = (x**2).sum(axis=0) - sum(squares)
        residual = np.maximum(remaining - (noise.sum() * (1 - 1 / n) - sum(chance)), 0) / freedom
    effects = [
        np.maximum(square - rank * np.nan_to_num(residual) - extra, 0) / n if rank else np.full(x.shape[1:], np.nan)
        for square, rank, extra in zip(squares, ranks, chance, strict=True)
    ]
    return np.stack([*effects, residual])


def simulated(
    x: np.ndarray, noise: np.ndarray, bases: list[np.ndarray], variances: np.ndarray, bootstrap: Bootstrap
) -> np.ndarray:
    """Simulated means (configurations, draws): fitted effects, shrunk to the estimated variance, plus residual and
    noise."""
    rng = np.random.default_rng([bootstrap.seed, len(x)])
    effects = np.zeros(len(x))
    for basis, variance in zip(bases, variances, strict=False):
        fit = basis @ (basis.T @ x)
        effects = effects + fit * np.sqrt(np.nan_to_num(variance) / max(fit.var(), 1e-30))
    spread = np.sqrt(np.nan_to_num(variances[-1]) + np.maximum(noise, 0))
    return np.asarray(effects[:, None] + spread[:, None] * rng.standard_normal((len(x), bootstrap.draws)))


def settings_split(
    table: pd.DataFrame,
    axes: Sequence[str],
    levels: Levels,
    cells: dict[str, np.ndarray],
    components: Components,
    bootstrap: Bootstrap,
) -> np.ndarray:
    """Variances of SETTINGS, (3, 1 + draws): of the table, then of the draws."""
    first = np.unique(levels.configuration, return_index=True)[1]
    bases = settings_bases(table.iloc[first][configuration(axes)].reset_index(drop=True))
    rho, delta = np.nan_to_num(components.rho[0]), np.nan_to_num(components.delta[0])
    noise = rho * cells["mean_rho"] + delta * cells["mean_delta"] + cells["mean_image"]
    x = np.nanmean(centred(cells["means"]), axis=1)
    variances = split(x, noise, bases)
    return np.hstack([variances[:, None], split(simulated(x, noise, bases, variances, bootstrap), noise, bases)])
