"""Builds the table of outcomes, one row per model, split and outcome, from a model's correctness bits."""

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from robustgap.training.checkpoint import write_atomically
from robustgap.training.jobs.frozen_images import ATTACKED, index_sha, outcome_images
from robustgap.training.jobs.outcome_id import of_entry
from robustgap.training.jobs.plan import splits_of
from robustgap.training.masking import GRADIENT_MASKING
from robustgap.training.settings import Plan, TableRow, number

ROBUST_FLOOR = "robust_floor"
STRING, REAL = pa.string(), pa.float64()
OUTCOME_COLUMNS = {
    "model": STRING,
    "split": STRING,  # train | train_rest | test
    "outcome": STRING,  # its id
    "attack": STRING,
    "norm": STRING,
    "eps": REAL,
    "target": STRING,
    "options": STRING,  # joined by ';'
    "n": pa.int64(),
    "accuracy": REAL,  # 0 to 1
    "se": REAL,
    "loss": REAL,  # these as in `Judged.summary`
    "confidence_right": REAL,
    "confidence_wrong": REAL,
    "success": REAL,
    "distortion": REAL,
    "signs": STRING,  # why not to trust the attack
    "flags": STRING,  # joined by ';'
    "seconds": REAL,
    "bits": pa.binary(),  # np.packbits of the correctness in frozen order; empty for train_rest
    "index_sha": STRING,
    "reason": STRING,  # why a foreign model was not evaluated, or is flagged for gradient masking
}


def outcome_rows(
    plan: Plan,
    model_id: str,
    tensors: dict[str, Tensor],
    outcomes: list[dict[str, Any]],
    numbers: dict[str, dict[str, float]],
    signs: dict[str, str],
) -> Iterator[TableRow]:
    """A model's rows of the table, by split: train, train_rest (if not empty) and test; from the fields of
    `training.jobs.outcomes.Outcomes`.

    Flag robust_floor: PGD-10 accuracy on train or test at or below chance, 1/K. Flag gradient_masking, on the PGD-10
    row of train: the evidence for it is the reason.
    """
    study = plan["study"]
    chance = 1 / splits_of(study).num_classes
    judged = [(outcome, outcome_images(study, outcome)) for outcome in (of_entry(entry, study) for entry in outcomes)]
    for split in ("train", "train_rest", "test"):
        for outcome, (train, test, m) in judged:
            index = {"train": train.index, "train_rest": train.index[m:], "test": test.index}[split]
            if not len(index):
                continue
            packed = tensors[f"{split.removesuffix('_rest')}.{outcome.id}"].numpy()
            correct = np.unpackbits(packed)[: len(test if split == "test" else train)][-len(index) :]
            p, has_bits, base = float(correct.mean()), split != "train_rest", outcome.id == ATTACKED
            masked = signs.get(outcome.id, "") if base and split == "train" else ""
            flags = [(ROBUST_FLOOR, has_bits and base and p <= chance), (GRADIENT_MASKING, bool(masked))]
            yield {
                "model": model_id,
                "split": split,
                "outcome": outcome.id,
                "attack": outcome.attack,
                "norm": outcome.norm,
                "eps": number(outcome.eps),
                "target": outcome.target,
                "options": outcome.option_text(),
                "n": len(correct),
                "accuracy": p,
                "se": math.sqrt(p * (1 - p) / len(correct)),
                "signs": "" if base else signs.get(outcome.id, ""),
                "flags": ";".join(flag for flag, holds in flags if holds),
                **numbers[f"{split}.{outcome.id}"],
                "bits": packed.tobytes() if has_bits else b"",
                "index_sha": index_sha(index),
                "reason": masked,
            }


def failed_row(model_id: str, reason: str) -> TableRow:
    """The single row of a foreign model that could not be evaluated: no split, n = 0, and the reason."""
    empty: TableRow = {column: "" for column, kind in OUTCOME_COLUMNS.items() if kind == STRING}
    return empty | {"model": model_id, "n": 0, "bits": b"", "reason": reason}


def write_outcomes(path: Path, table: list[TableRow]) -> None:
    """Write the rows as parquet, even if there are none; missing numbers are null."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table, schema=pa.schema(OUTCOME_COLUMNS)), buffer)
    write_atomically(path, buffer.getvalue())


def accuracies_text(rows: list[TableRow]) -> str:
    """'clean 0.981/0.957 pgd10 0.812/0.690': accuracy on train / test under each outcome."""
    accuracy = {(row["split"], row["outcome"]): row["accuracy"] for row in rows}
    ids = dict.fromkeys(row["outcome"] for row in rows)
    return " ".join(f"{name} {accuracy['train', name]:.3f}/{accuracy['test', name]:.3f}" for name in ids)
