"""Expected outcome of picking by a score, over all ways to draw the candidates: computed exactly, not simulated."""

import numpy as np


def best_of(group: np.ndarray, score: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest score in each group 0, 1, ..., and the mean target of the rows attaining it; NaN for an empty group."""
    top = np.full(group.max(initial=-1) + 1, -np.inf)
    np.maximum.at(top, group, score)
    tied = score == top[group]
    count = np.bincount(group[tied], minlength=len(top))
    total = np.bincount(group[tied], target[tied], len(top))
    return top, np.where(count > 0, total / np.maximum(count, 1), np.nan)


def chance(below: np.ndarray, total: np.ndarray, size: int) -> np.ndarray:
    """C(below, size) / C(total, size): below (draws, k), total (draws,) -> (draws, k); NaN where total < size."""
    probability = np.ones(below.shape)
    for step in range(size):
        probability *= np.maximum(below - step, 0) / np.maximum(total - step, 1)[:, None]
    return np.where(total[:, None] >= size, probability, np.nan)


def expected_pick(score: np.ndarray, target: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """Mean target of the configuration with the highest score among `size` drawn ones, for each draw of weights.

    score, target (configurations,); weights (draws, configurations): multiplicities -> (draws,).
    """
    order = np.argsort(score, kind="stable")
    score, target, weights = score[order], target[order], weights[:, order]
    ends = np.flatnonzero(np.diff(score, append=np.inf) > 0)
    count, total = np.cumsum(weights, axis=1)[:, ends], np.cumsum(weights * target, axis=1)[:, ends]
    inside, value = np.diff(count, axis=1, prepend=0), np.diff(total, axis=1, prepend=0)
    probability = np.diff(chance(count, weights.sum(axis=1), size), axis=1, prepend=0)
    return np.asarray((probability * np.where(inside > 0, value / np.maximum(inside, 1), 0)).sum(axis=1))
