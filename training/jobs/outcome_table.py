"""Builds the table of outcomes, one row per model, split and attack, from a model's correctness bits."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import Tensor

from robustgap.training.checkpoint import write_atomically
from robustgap.training.jobs.frozen_images import ATTACKED, frozen_images, index_sha
from robustgap.training.jobs.plan import splits_of
from robustgap.training.masking import GRADIENT_MASKING
from robustgap.training.settings import Plan, TableRow, number

ROBUST_FLOOR = "robust_floor"
STRING, REAL = pa.string(), pa.float64()
OUTCOME_COLUMNS = {
    "model": STRING,
    "split": STRING,  # train | train_rest | test
    "attack": STRING,
    "eps": REAL,
    "norm": STRING,
    "n": pa.int64(),
    "accuracy": REAL,  # 0 to 1
    "se": REAL,
    "flags": STRING,  # joined by ';'
    "seconds": REAL,
    "bits": pa.binary(),  # np.packbits of the correctness in frozen order; empty for train_rest
    "index_sha": STRING,
    "reason": STRING,  # why a foreign model was not evaluated, or is flagged for gradient masking
}


def outcome_rows(
    plan: Plan, model_id: str, tensors: dict[str, Tensor], seconds: dict[str, float], masked: str = ""
) -> Iterator[TableRow]:
    """A model's rows of the table, by attack: splits train, train_rest (if not empty) and test.

    Flag robust_floor: PGD-10 accuracy on train or test at or below chance, 1/K. Flag gradient_masking, on the PGD-10
    row of train: `masked`, the evidence for it, is the reason.
    """
    study = plan["study"]
    train, test, m = frozen_images(study)
    chance = 1 / splits_of(study).num_classes
    for name, source, index in (
        ("train", "train", train.index),
        ("train_rest", "train", train.index[m:]),
        ("test", "test", test.index),
    ):
        for attack in study["outcomes"]["attacks"] if len(index) else ():
            packed = tensors[f"{source}.{attack}"].numpy()
            correct = np.unpackbits(packed)[: len(train if source == "train" else test)][-len(index) :]
            p, has_bits = float(correct.mean()), name == source
            masking = masked if (name, attack) == ("train", ATTACKED) else ""
            flags = [(ROBUST_FLOOR, has_bits and attack == ATTACKED and p <= chance), (GRADIENT_MASKING, bool(masking))]
            yield {
                "model": model_id,
                "split": name,
                "attack": attack,
                "eps": number(study["eps"]),
                "norm": study["norm"],
                "n": len(correct),
                "accuracy": p,
                "se": math.sqrt(p * (1 - p) / len(correct)),
                "flags": ";".join(flag for flag, holds in flags if holds),
                "seconds": seconds[f"{source}.{attack}"] if has_bits else 0.0,
                "bits": packed.tobytes() if has_bits else b"",
                "index_sha": index_sha(index),
                "reason": masking,
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
    """'clean 0.981/0.957 pgd10 0.812/0.690': accuracy on train / test under each attack."""
    accuracy = {(row["split"], row["attack"]): row["accuracy"] for row in rows}
    attacks = dict.fromkeys(row["attack"] for row in rows)
    return " ".join(f"{a} {accuracy['train', a]:.3f}/{accuracy['test', a]:.3f}" for a in attacks)
