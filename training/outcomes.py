"""Outcomes: which frozen images a model gets right, clean and under each attack. Always evaluated here, in eval mode,
on original images; never read from a training log.

For each model of a chunk and each attack, on frozen training and test images: one bit per image, accuracy p and its
standard error sqrt(p (1 - p) / n), from image sampling only. Split `train_rest` holds the frozen training images that
no measure sees. The adversarial images that measures see are training ones and are kept, so they are made once.
"""

import importlib.metadata
import io
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from training import attacks
from training.checkpoint import FileFault, load_tensors, save_tensors, write_atomically
from training.data import Splits
from training.modes import frozen
from training.planned import ATTACKED, cache_file, frozen_images, index_sha, load_planned_model, run_record, splits_of
from training.registry import Registry
from training.settings import number

# f(model, x, y, index, eps, norm) -> x_adv, in the names of study.outcomes.attacks
OUTCOME_ATTACKS = Registry("outcome attack")
SEED = 0  # of the attacks' starts: the same for all models, whatever the seed of their training
ROBUST_FLOOR = "robust_floor"
PACKAGES = ("torch", "numpy")
STRING, REAL = pa.string(), pa.float64()
COLUMNS = {
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
    "reason": STRING,  # why a foreign model was not judged
}


@OUTCOME_ATTACKS.register()
def clean(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """No attack."""
    return attacks.clean(model, x, y, eps=eps)


@OUTCOME_ATTACKS.register()
def fgsm(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """One step of size eps from the image itself."""
    return attacks.fgsm(model, x, y, eps=eps, norm=norm)


@OUTCOME_ATTACKS.register()
def pgd10(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """10 steps of eps/4 from a uniform start in the ball, keyed by (SEED, image index)."""
    noise = attacks.start(x, index, seed=SEED, eps=eps, norm=norm, stream=attacks.EVALUATION_START)
    return attacks.pgd(model, x, y, eps=eps, noise=noise, norm=norm, steps=10)


def attacked(
    model: nn.Module, images: Tensor, labels: Tensor, index: Tensor, *, attack: str, eps: float, norm: str, batch: int
) -> tuple[Tensor, Tensor]:
    """Correctness (n,) bool and adversarial images (n, c, h, w) of float images in [0, 1], `batch` at a time.

    An image whose logits are not finite counts as wrong. Raises LookupError for an unknown attack, ValueError for
    images outside [0, 1] or a model that is not in eval mode.
    """
    if any(module.training for module in model.modules()):
        raise ValueError("model: found train mode, wanted eval mode for every outcome")
    device = next((p.device for p in model.parameters()), images.device)
    right, adversarial = [], []
    with frozen(model):
        for rows in torch.arange(len(labels)).split(batch):
            x, y, ids = (part[rows].to(device) for part in (images, labels, index))
            x_adv = OUTCOME_ATTACKS[attack](model, x, y, ids, eps, norm)
            with torch.no_grad():
                logits = model(x_adv)
            right.append(((logits.argmax(1) == y) & torch.isfinite(logits).all(1)).cpu())
            adversarial.append(x_adv.cpu())
    return torch.cat(right), torch.cat(adversarial)


def evaluate(model: nn.Module, splits: Splits, study: dict) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Packed bits `SPLIT.ATTACK` (uint8) and `adversarial` (m, c, h, w) of a model; seconds by `SPLIT.ATTACK`."""
    train, test, m = frozen_images(study)
    options = {"eps": number(study["eps"]), "norm": study["norm"], "batch": int(study["outcomes"]["batch_size"])}
    tensors, seconds = {}, {}
    for name, split in (("train", train), ("test", test)):
        images = splits.floats(split.images)
        for attack in study["outcomes"]["attacks"]:
            began = time.perf_counter()
            right, adversarial = attacked(model, images, split.labels, split.index, attack=attack, **options)
            tensors[f"{name}.{attack}"] = torch.from_numpy(np.packbits(right.numpy()))
            seconds[f"{name}.{attack}"] = round(time.perf_counter() - began, 4)
            if (name, attack) == ("train", ATTACKED):
                tensors["adversarial"] = adversarial[:m].clone()
    return tensors, seconds


def model_outcomes(
    plan: dict, results: Path, model_id: str, device: torch.device | str
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """`evaluate` of a model of the plan, from its cache where that is whole; a damaged one is named on stderr and made
    again. Raises what `load_planned_model` raises."""
    file = cache_file(plan, results, model_id)
    if file.exists():
        try:
            tensors, metadata = load_tensors(file)
            return tensors, json.loads(metadata["seconds"])
        except FileFault as error:
            print(f"{error}: outcomes of {model_id} are made again", file=sys.stderr)
    model = load_planned_model(plan, results, model_id, device)
    tensors, seconds = evaluate(model, splits_of(plan["study"]), plan["study"])
    packages = json.dumps({name: importlib.metadata.version(name) for name in PACKAGES})
    save_tensors(
        file,
        tensors,
        model=model_id,
        seconds=json.dumps(seconds),
        seed=str(SEED),
        device=str(device),
        packages=packages,
    )
    return tensors, seconds


def lines(plan: dict, model_id: str, tensors: dict[str, Tensor], seconds: dict[str, float]) -> Iterator[dict]:
    """A model's rows of the table: splits train, train_rest (where it is not empty) and test, by attack.

    Flag robust_floor: PGD-10 accuracy on train or test at or below chance, 1/K.
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
            right = np.unpackbits(packed)[: len(train if source == "train" else test)][-len(index) :]
            p, own = float(right.mean()), name == source
            yield {
                "model": model_id,
                "split": name,
                "attack": attack,
                "eps": number(study["eps"]),
                "norm": study["norm"],
                "n": len(right),
                "accuracy": p,
                "se": math.sqrt(p * (1 - p) / len(right)),
                "flags": ROBUST_FLOOR if own and attack == ATTACKED and p <= chance else "",
                "seconds": seconds[f"{source}.{attack}"] if own else 0.0,
                "bits": packed.tobytes() if own else b"",
                "index_sha": index_sha(index),
                "reason": "",
            }


def failure(model_id: str, reason: str) -> dict:
    """The one row of a foreign model that could not be judged: no split, n = 0, and why."""
    empty: dict = {column: "" for column, kind in COLUMNS.items() if kind == STRING}
    return empty | {"model": model_id, "n": 0, "bits": b"", "reason": reason}


def write_table(path: Path, table: list[dict]) -> None:
    """The rows as parquet, also when there are none; missing numbers are null."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table, schema=pa.schema(COLUMNS)), buffer)
    write_atomically(path, buffer.getvalue())


def run(plan: dict, chunk: str, results: Path, out: Path, device: torch.device | str) -> None:
    """Judge the models of a chunk and write `out`. Models of collapsed runs are left out; a foreign model that does
    not load leaves a row with the reason. What is done is kept per model, so a killed job goes on where it stood.

    Raises LookupError for an unknown chunk; FileFault when a run's record or weights are missing or damaged.
    """
    models = {name: entry for name, entry in plan["models"].items() if entry["chunk"] == chunk}
    if not models:
        raise LookupError(f"chunk {chunk!r} is not in the plan of study {plan['study']['study']}")
    table, began = [], time.perf_counter()
    for done, (model_id, entry) in enumerate(models.items(), start=1):
        foreign = entry["source"] == "robustbench"
        if not foreign and run_record(plan, results, model_id)["status"] == "collapsed":
            said = "its run collapsed, no outcomes"
        else:
            try:
                found = list(lines(plan, model_id, *model_outcomes(plan, results, model_id, device)))
                said = summary(found)
            except (ValueError, LookupError, OSError) as error:
                if not foreign:
                    raise
                found, said = [failure(model_id, str(error))], f"not judged: {error}"
            table += found
        spent = time.perf_counter() - began
        left = spent / done * (len(models) - done)
        print(
            f"model {done} of {len(models)}: {model_id} {said}; {spent:.1f} s, about {left:.0f} s left", file=sys.stderr
        )
    write_table(out, table)


def summary(found: list[dict]) -> str:
    """'clean 0.981/0.957 pgd10 0.812/0.690': accuracy on train / test under each attack."""
    accuracy = {(line["split"], line["attack"]): line["accuracy"] for line in found}
    attacks = dict.fromkeys(line["attack"] for line in found)
    return " ".join(f"{a} {accuracy['train', a]:.3f}/{accuracy['test', a]:.3f}" for a in attacks)
