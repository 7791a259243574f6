"""Mutual information in bits between signs of differences, from weighted counts of pairs."""

import numpy as np


def entropies(counts: np.ndarray) -> np.ndarray:
    """- sum of c log2(c / total) over the last axis: the entropy in bits times the total."""
    total = counts.sum(axis=-1)
    return np.asarray(
        total * np.log2(np.where(total > 0, total, 1)) - (counts * np.log2(np.where(counts > 0, counts, 1))).sum(-1)
    )


def information(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(I, H) in bits, per draw, from counts (draws, groups, 3 values of V_m, 2 of V_g); NaN in a draw without pairs."""
    gap, measure = entropies(table.sum(axis=2)), entropies(table.sum(axis=3))
    joint = entropies(table.reshape(*table.shape[:2], -1))
    pairs = table.sum(axis=(1, 2, 3))
    pairs = np.where(pairs > 0, pairs, np.nan)
    return np.maximum((gap + measure - joint).sum(axis=1), 0) / pairs, gap.sum(axis=1) / pairs


def both_orders(same: np.ndarray, other: np.ndarray, tied: np.ndarray) -> np.ndarray:
    """Counts (draws, groups, groups, 3, 2) from those of the pairs (i, j) with y_i > y_j, by V_m = +1, -1, 0."""
    # In the pair (j, i) both signs are reversed, and the groups of the two models swapped.
    reversed_counts = [np.swapaxes(counts, 1, 2) for counts in (other, same, tied)]
    return np.stack([np.stack([same, other, tied], axis=-1), np.stack(reversed_counts, axis=-1)], axis=-1)


def information_shares(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(I, I / H) per draw, from counts (draws, groups, groups, 3, 2)."""
    mutual, entropy = information(table.reshape(len(table), -1, 3, 2))
    defined = entropy > 0
    mutual = np.where(defined, mutual, np.nan)
    return mutual, mutual / np.where(defined, entropy, 1)
