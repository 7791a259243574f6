"""Access to a plan's models, the frozen images they are evaluated on, and each model's stored outcomes.

Frozen images: a stratified order of the training (test) images, keyed by a fixed stream, of which the first
`train_images` (`test_images`) are used; the first `measure_images` of the training ones are given to measures. All are
original, labelled, un-augmented images, never validation or extra images.
"""

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn

from robustgap.training.checkpoint import (
    FileFault,
    digest,
    load_model,
    load_tensors,
    load_weights,
    read_log,
    read_record,
)
from robustgap.training.data.datasets import DATA_DIR, Split, Splits, load, stratified_order
from robustgap.training.networks.architectures import build
from robustgap.training.networks.architectures.layouts import load_public
from robustgap.training.robustbench import zoo
from robustgap.training.settings import OUTCOMES_VERSION

FROZEN_STREAM = 8  # stream of the order that selects the frozen images; never to change
ATTACKED = "pgd10"  # the attack whose adversarial examples of the measure images are kept


def data_dir(study: dict) -> Path:
    """Folder with the files of the study's data sets."""
    return Path(study.get("data_dir") or DATA_DIR)


def splits_of(study: dict) -> Splits:
    """The study's data set. Raises what `training.data.datasets.load` raises."""
    return load(study["data"], data_dir(study))


def _frozen(split: Split, count: int | None, where: str) -> Split:
    """The first `count` images (None: all) of the frozen order. Raises ValueError if there are fewer."""
    if count is not None and not 0 < count <= len(split):
        raise ValueError(f"{where}: found {count}, wanted 1 to {len(split)}, the number of images there are")
    rows = stratified_order(split.labels, FROZEN_STREAM)[:count]
    return Split(split.images[rows], split.labels[rows], split.index[rows])


def frozen_images(study: dict) -> tuple[Split, Split, int]:
    """(train, test, m): frozen images in order; the first m training images are the measure images."""
    splits, wanted = splits_of(study), study["outcomes"]
    train = _frozen(splits.train, wanted.get("train_images"), "outcomes.train_images")
    test = _frozen(splits.test, wanted.get("test_images"), "outcomes.test_images")
    m = study["measure_images"]
    if not 0 < m <= len(train):
        raise ValueError(f"measure_images: found {m}, wanted 1 to {len(train)}, the frozen training images")
    return train, test, m


def index_sha(index: Tensor) -> str:
    """First 10 hex digits of the SHA-256 of image ids (n,), as little-endian int64, in the given order."""
    return hashlib.sha256(index.numpy().astype("<i8").tobytes()).hexdigest()[:10]


def entry_of(plan: dict, model_id: str) -> dict:
    """The plan's entry for a model. Raises LookupError if there is none."""
    if model_id not in plan["models"]:
        raise LookupError(f"model {model_id!r} is not in the plan of study {plan['study']['study']}")
    return plan["models"][model_id]


class OutcomesFault(FileFault):
    """A model's stored outcomes cannot be used; the model itself may be intact."""


def run_record(plan: dict, results: Path, model_id: str) -> dict:
    """run.json of a grid model's run. Raises FileFault if it is missing or damaged."""
    entry = entry_of(plan, model_id)
    path, file = results / "runs" / entry["run"] / "run.json", f"{entry['checkpoint']}.safetensors"
    record = read_record(path)
    if record["status"] != "collapsed" and file not in record["files"]:
        raise FileFault(f"{path}: found files {', '.join(record['files']) or 'none'}, wanted {file} among them")
    return record


def collapsed(plan: dict, results: Path, model_id: str) -> bool:
    """Whether a model's run collapsed. Raises what `run_record` raises."""
    foreign = entry_of(plan, model_id)["source"] != "grid"
    return not foreign and run_record(plan, results, model_id)["status"] == "collapsed"


def load_planned_model(plan: dict, results: Path, model_id: str, device: torch.device | str = "cpu") -> nn.Module:
    """A model of the plan in eval mode: a run's checkpoint, a RobustBench model, or a public model from a file.

    Raises LookupError for an unknown model; FileFault (a ValueError) naming the file if weights or record are missing,
    differ from what training wrote, or belong to another network; what `zoo.load_model` and `load_public` raise;
    ValueError if a foreign model does not accept the study's images or has another number of classes.
    """
    entry, splits = entry_of(plan, model_id), splits_of(plan["study"])
    if entry["source"] == "robustbench":
        model = zoo.load_model(entry, _model_dir(plan)).to(device)
        _check_fit(model, splits, model_id, device)
    elif entry["source"] == "file":
        given = {key: entry[key] for key in ("width", "activation", "mean", "std") if key in entry}
        model = load_public(
            Path(entry["file"]),
            entry["architecture"],
            num_classes=splits.num_classes,
            in_channels=splits.channels,
            image_size=splits.size,
            **given,
        )
    else:
        file = f"{entry['checkpoint']}.safetensors"
        sha256 = run_record(plan, results, model_id)["files"][file]
        model = build(plan["runs"][entry["run"]]["settings"], splits)
        load_model(results / "runs" / entry["run"] / file, model, sha256)
    return model.to(device).eval()


def initial_weights(plan: dict, results: Path, model_id: str) -> dict[str, Tensor] | None:
    """Weights of a grid model before its first training step; None for a model not trained here.

    Raises FileFault if the file is missing or differs from what training wrote.
    """
    entry = entry_of(plan, model_id)
    if entry["source"] != "grid":
        return None
    sha256 = run_record(plan, results, model_id)["files"]["init.safetensors"]
    return load_weights(results / "runs" / entry["run"] / "init.safetensors", sha256)


def training_log(plan: dict, results: Path, model_id: str) -> list[dict[str, float]] | None:
    """The epochs of training behind a grid model, one dictionary each: all of them, or for the best checkpoint those up
    to it. None for a model not trained here. Raises FileFault if the log is missing or damaged."""
    entry = entry_of(plan, model_id)
    if entry["source"] != "grid":
        return None
    record = run_record(plan, results, model_id)
    last = record["best_epoch"] if entry["checkpoint"] == "best" else record["epochs"]
    sha256 = record["files"].get("log.csv")  # None: from an earlier version of training, which did not list it
    return read_log(results / "runs" / entry["run"] / "log.csv", last, sha256)[:last]


def _model_dir(plan: dict) -> Path:
    return Path(plan["study"].get("model_dir") or "models")


@torch.no_grad()
def _check_fit(model: nn.Module, splits: Splits, model_id: str, device: torch.device | str) -> None:
    image = splits.floats(splits.train.images[:1]).to(device)
    try:
        classes = model(image).shape[1]
    except Exception as error:  # a foreign network may fail in any way
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(f"{model_id}: does not take images of shape {tuple(image.shape[1:])} ({reason})") from error
    if classes != splits.num_classes:
        raise ValueError(f"{model_id}: found {classes} classes, wanted the {splits.num_classes} of {splits.name}")


def cache_file(plan: dict, results: Path, model_id: str) -> Path:
    """Where a model's outcomes are stored: outcomes/models/MODEL.CODE.safetensors.

    CODE is a hash of everything outcomes depend on: their version, threat model, attacks, frozen images and the bytes
    of the checkpoint; not the evaluation batch size.
    """
    study, entry = plan["study"], entry_of(plan, model_id)
    train, test, m = frozen_images(study)
    if entry["source"] == "robustbench":
        weights = [digest(path) for path in zoo.checkpoint_files(entry, _model_dir(plan))]
    elif entry["source"] == "file":
        if not Path(entry["file"]).is_file():
            raise FileFault(f"{entry['file']}: not found; wanted the checkpoint of {model_id}")
        loaded_as = {key: value for key, value in sorted(entry.items()) if key not in ("file", "name", "chunk")}
        weights = [digest(Path(entry["file"])), json.dumps(loaded_as)]
    else:
        weights = [run_record(plan, results, model_id)["files"][f"{entry['checkpoint']}.safetensors"]]
    made_of = {
        "version": OUTCOMES_VERSION,
        "threat": [study["norm"], study["eps"]],
        "attacks": sorted(study["outcomes"]["attacks"]),
        "images": [study["data"], index_sha(train.index), index_sha(test.index), m],
        "weights": weights,
    }
    code = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]
    return results / "outcomes" / "models" / f"{model_id}.{code}.safetensors"


def measure_batch(plan: dict, results: Path, model_id: str) -> dict[str, Tensor]:
    """A model's measure images: images float32 (m, c, h, w) in [0, 1], labels and index int64 (m,), and adversarial (m,
    c, h, w), its own PGD-10 examples from the outcomes stage.

    Raises OutcomesFault if the model's outcomes do not exist yet, or their file is truncated; FileFault if a foreign
    model has none because it could not be evaluated.
    """
    train, _, m = frozen_images(plan["study"])
    file = cache_file(plan, results, model_id)
    if not file.exists():
        kind = OutcomesFault if entry_of(plan, model_id)["source"] == "grid" else FileFault
        raise kind(
            f"{file}: not found; wanted the outcomes of {model_id}, made by `python -m robustgap.training outcomes`"
        )
    try:
        kept = load_tensors(file)[0]
    except FileFault as error:
        raise OutcomesFault(str(error)) from error
    return {
        "images": splits_of(plan["study"]).floats(train.images[:m]),
        "labels": train.labels[:m],
        "index": train.index[:m],
        "adversarial": kept["adversarial"],
    }
