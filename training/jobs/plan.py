"""Access to a plan: its data set, its entries, the records of its runs, and its models."""

from pathlib import Path

import torch
from torch import Tensor, nn

from robustgap.training.checkpoint import FileFault, load_model, load_weights, read_log, read_record
from robustgap.training.data.datasets import DATA_DIR, load
from robustgap.training.data.splits import Splits
from robustgap.training.networks.architectures import build
from robustgap.training.networks.architectures.layouts import load_public
from robustgap.training.robustbench import zoo
from robustgap.training.settings import Entry, Plan, Record, StudyFile


def data_dir(study: StudyFile) -> Path:
    """Folder with the files of the study's data sets."""
    return Path(study.get("data_dir") or DATA_DIR)


def splits_of(study: StudyFile) -> Splits:
    """The study's data set. Raises what `training.data.datasets.load` raises."""
    return load(study["data"], data_dir(study))


def entry_of(plan: Plan, model_id: str) -> Entry:
    """The plan's entry for a model. Raises LookupError if there is none."""
    if model_id not in plan["models"]:
        raise LookupError(f"model {model_id!r} is not in the plan of study {plan['study']['study']}")
    entry: Entry = plan["models"][model_id]
    return entry


def run_record(plan: Plan, results: Path, model_id: str) -> Record:
    """run.json of a grid model's run. Raises FileFault if it is missing or damaged."""
    entry = entry_of(plan, model_id)
    path, file = results / "runs" / entry["run"] / "run.json", f"{entry['checkpoint']}.safetensors"
    record = read_record(path)
    if record["status"] != "collapsed" and file not in record["files"]:
        raise FileFault(f"{path}: found files {', '.join(record['files']) or 'none'}, wanted {file} among them")
    return record


def collapsed(plan: Plan, results: Path, model_id: str) -> bool:
    """Whether a model's run collapsed. Raises what `run_record` raises."""
    foreign = entry_of(plan, model_id)["source"] != "grid"
    return not foreign and run_record(plan, results, model_id)["status"] == "collapsed"


def load_planned_model(plan: Plan, results: Path, model_id: str, device: torch.device | str = "cpu") -> nn.Module:
    """A model of the plan in eval mode: a run's checkpoint, a RobustBench model, or a public model from a file.

    Raises LookupError for an unknown model; FileFault (a ValueError) naming the file if weights or record are missing,
    differ from what training wrote, or belong to another network; what `zoo.load_robustbench` and `load_public` raise;
    ValueError if a foreign model does not accept the study's images or has another number of classes.
    """
    entry, splits = entry_of(plan, model_id), splits_of(plan["study"])
    if entry["source"] == "robustbench":
        model = zoo.load_robustbench(entry, model_dir(plan)).to(device)
        _check_fit(model, splits, model_id, device)
    elif entry["source"] == "file":
        options = {key: entry[key] for key in ("width", "activation", "mean", "std") if key in entry}
        model = load_public(
            Path(entry["file"]),
            entry["architecture"],
            num_classes=splits.num_classes,
            in_channels=splits.channels,
            image_size=splits.size,
            **options,
        )
    else:
        file = f"{entry['checkpoint']}.safetensors"
        sha256 = run_record(plan, results, model_id)["files"][file]
        model = build(plan["runs"][entry["run"]]["settings"], splits)
        load_model(results / "runs" / entry["run"] / file, model, sha256)
    return model.to(device).eval()


def initial_weights(plan: Plan, results: Path, model_id: str) -> dict[str, Tensor] | None:
    """Weights of a grid model before its first training step; None for a model not trained here.

    Raises FileFault if the file is missing or differs from what training wrote.
    """
    entry = entry_of(plan, model_id)
    if entry["source"] != "grid":
        return None
    sha256 = run_record(plan, results, model_id)["files"]["init.safetensors"]
    return load_weights(results / "runs" / entry["run"] / "init.safetensors", sha256)


def training_log(plan: Plan, results: Path, model_id: str) -> list[dict[str, float]] | None:
    """The log of a grid model's training, one dictionary per epoch, up to its checkpoint; None for a model not trained
    here. Raises FileFault if the log is missing or damaged."""
    entry = entry_of(plan, model_id)
    if entry["source"] != "grid":
        return None
    record = run_record(plan, results, model_id)
    last = record["best_epoch"] if entry["checkpoint"] == "best" else record["epochs"]
    sha256 = record["files"].get("log.csv")  # None: from an earlier version of training, which did not list it
    return read_log(results / "runs" / entry["run"] / "log.csv", last, sha256)[:last]


def model_dir(plan: Plan) -> Path:
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
