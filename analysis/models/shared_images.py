"""Correlation of the image noise of two models' outcomes, which arises because all are evaluated on the same images.

The error of a gap, e_i = (error of the training accuracy) - (error of the test accuracy), has variance se_i^2. Two
models that fail on the same images have correlated errors, and the common part cannot rank one above the other. From
the correctness bits b_it of model i on image t, with accuracies p_i and N images in a split,

    corr(e_i, e_j) = sum over splits and images of (b_it - p_i) (b_jt - p_j) / N^2 / (se_i se_j),

with the images of one split alone for an accuracy on these; averaged over pairs of models of one run, of one
configuration (other seeds), and of different configurations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import Ledger, read_bits_table
from robustgap.analysis.models.design import codes, configurations

NUMBERS_AT_ONCE = 4_000_000  # correctness bits unpacked at a time


@dataclass(frozen=True)
class Sharing:
    """Mean correlation of the image noise of two models: of one run, of different runs of one configuration, and of
    different configurations (`everywhere`). All 0: independent."""

    run: float = 0.0
    configuration: float = 0.0
    everywhere: float = 0.0


def read_bits(
    path: str | Path, outcome: str, models: list[str], splits: Sequence[str] = ("train", "test")
) -> dict[str, tuple[np.ndarray, int]] | None:
    """Packed correctness bits (models, bytes) under an outcome (its id) and the number of images, for the splits.

    None if there are no models, the file is missing, a model has no bits, or models were evaluated on different images.
    Raises ValueError if the file is not readable parquet.
    """
    if not models or not Path(path).is_file():
        return None
    table = read_bits_table(Path(path))
    table = table[table["outcome"] == outcome]
    bits_by_split = {}
    for split in splits:
        rows = table[table["split"] == split].set_index("model").reindex(models)
        if rows["bits"].isna().any() or len(set(rows["index_sha"])) != 1:
            return None
        bits_by_split[split] = (
            np.stack([np.frombuffer(bits, np.uint8) for bits in rows["bits"]]),
            int(rows["n"].iloc[0]),
        )
    return bits_by_split


def pair_sums(errors: np.ndarray, group: np.ndarray) -> float:
    """Sum of errors_i . errors_j over ordered pairs i, j (including i = j) of rows in the same group; rows sorted by
    group."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return float((np.add.reduceat(errors, starts, axis=0) ** 2).sum())


def sharing(bits: dict[str, tuple[np.ndarray, int]], configuration: np.ndarray, run: np.ndarray) -> Sharing:
    """The mean correlations, from packed bits and the indices of each model's configuration and run.

    A kind of pair that does not occur takes the correlation of the next wider kind. Models whose gap has no image noise
    (accuracies of 0 or 1) do not count. No matrix of pairs is formed: group sums are squared.
    """
    right = {split: np.bitwise_count(rows).sum(axis=1) / n for split, (rows, n) in bits.items()}
    variance = sum(p * (1 - p) / bits[split][1] for split, p in right.items())
    order = np.lexsort((run, configuration))
    order = order[variance[order] > 0]
    groups = [np.arange(len(order)), run[order], configuration[order], np.zeros(len(order), dtype=int)]
    sums = np.zeros(len(groups))
    step = max(1, NUMBERS_AT_ONCE // (8 * max(1, len(order))))
    for split, (rows, n) in bits.items():
        scale, p = 1 / (n * np.sqrt(variance[order])), right[split][order]
        for first in range(0, rows.shape[1], step):
            images = np.unpackbits(rows[order, first : first + step], axis=1)[:, : n - 8 * first]
            errors = (images - p[:, None]) * scale[:, None]
            sums += [pair_sums(errors, group) for group in groups]
    pairs = np.array([(np.unique(group, return_counts=True)[1] ** 2).sum() for group in groups])
    sums, pairs = np.diff(sums), np.diff(pairs)  # pairs of a group that are not in a narrower one
    correlations = [0.0]
    for total, count in zip(sums[::-1], pairs[::-1], strict=True):
        correlations.append(float(total / count) if count else correlations[-1])
    return Sharing(run=correlations[3], configuration=correlations[2], everywhere=correlations[1])


def shared_image_noise(ledger: Ledger, table: pd.DataFrame, outcome: str) -> Sharing | None:
    """Correlation of the image noise of the models' outcomes; None if their bits are unavailable, the outcome uses only
    part of the training images, or is none of accuracies. table: `ledger.models()`."""
    table, column = table[table[outcome].notna()], ledger.explain(outcome)
    if not column.is_accuracy or column.rest:
        return None
    bits = read_bits(ledger.path / "bits.parquet", column.outcome, list(table["model"]), column.splits)
    if bits is None:
        return None
    block = configurations(table, ledger.axes)
    run = codes(pd.DataFrame({"block": block, "seed": table["seed"].to_numpy(str)}), ["block", "seed"])
    return sharing(bits, block, run)


def ranking_error(table: pd.DataFrame, outcome: str, shared: Sharing | None) -> pd.Series:
    """Standard error of each gap from the image noise that differs between models: a shift common to all gaps cannot
    change their order."""
    return table[f"se_{outcome}"] * np.sqrt(1 - (shared.everywhere if shared else 0))
