"""Trains one run on disk: resume, train, evaluate, and write weights, log and record.

A run's folder holds init, last and best weights, log.csv and run.json. run.json is written last: a folder with a
run.json of the right version and intact weights and log is finished and never trained again. Until then
resume.safetensors, written after every epoch, holds the training state, and lock.N names the process training it.
"""

import math
import os
import platform
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from robustgap.training import loop
from robustgap.training.carried_state import begin
from robustgap.training.checkpoint import FileFault, save_model, save_tensors, write_json, write_log
from robustgap.training.data.splits import Split, Splits
from robustgap.training.ema import holding
from robustgap.training.jobs.lock import RunLock
from robustgap.training.jobs.provenance import made_by
from robustgap.training.jobs.resume import load_resume, save_resume
from robustgap.training.jobs.run_record import LOG, finished, make_record
from robustgap.training.modes import evaluating, full_precision
from robustgap.training.networks.architectures import build
from robustgap.training.networks.memory_format import channels_last
from robustgap.training.settings import TRAINING_VERSION, Record, Settings, run_id


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """SGD with momentum and weight decay; the loop sets the learning rate of each epoch."""
    return torch.optim.SGD(
        model.parameters(),
        lr=float(settings["lr"]),
        momentum=float(settings["momentum"]),
        weight_decay=float(settings["weight_decay"]),
    )


def check_collapse(model: nn.Module, splits: Splits) -> tuple[float, str]:
    """Clean accuracy on all n training images, and why the run counts as collapsed ('' if it does not): accuracy not
    above chance, q + 3 sqrt(q (1-q) / n) with q = 1/K."""
    images, labels = splits.train.images, splits.train.labels
    with evaluating(model), full_precision(), torch.no_grad():
        batches = zip(torch.split(images, 512), torch.split(labels, 512), strict=True)
        correct = sum(int((model(splits.floats(x)).argmax(1) == y).sum()) for x, y in batches)
    n, chance = len(labels), 1 / splits.num_classes
    accuracy = correct / n
    bound = chance + 3 * math.sqrt(chance * (1 - chance) / n)
    reason = (
        "" if accuracy > bound else f"final clean training accuracy {accuracy:.3f} is not above chance ({bound:.3f})"
    )
    return accuracy, reason


def split_to(split: Split, device: torch.device) -> Split:
    return Split(split.images.to(device), split.labels.to(device), split.index.to(device))


def splits_on_device(splits: Splits, device: torch.device) -> Splits:
    """The data set with the images used in training moved to `device`."""
    return replace(splits, train=split_to(splits.train, device), val=split_to(splits.val, device))


def train_run(
    settings: Settings,
    splits: Splits,
    extra: Split | None,
    folder: Path,
    device: torch.device,
    lock: RunLock | None = None,
) -> Record:
    """Train one run, unless it is finished, and return its record, the content of run.json.

    lock: the folder's lock, if the caller has one. Raises Held if another process is training the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock or RunLock(folder) as lock:
        record = finished(folder, settings, splits) or train_alone(settings, splits, extra, folder, device, lock)
        lock.check()
        (folder / "resume.safetensors").unlink(missing_ok=True)  # after run.json: a kill in between loses nothing
    return record


def train_alone(
    settings: Settings, splits: Splits, extra: Split | None, folder: Path, device: torch.device, lock: RunLock
) -> Record:
    """The part of `train_run` that runs while holding the folder's lock."""
    run, sidecar = run_id(settings), folder / "resume.safetensors"
    visible_gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    print(f"{run}: trains on {platform.node()}, {device.type}, CUDA_VISIBLE_DEVICES {visible_gpus}", file=sys.stderr)
    for half_written in folder.glob(".*.tmp"):
        half_written.unlink()
    model = build(settings, splits).to(device)
    model = channels_last(model) if settings["channels_last"] else model
    splits = splits_on_device(splits, device)
    extra = split_to(extra, device) if extra is not None else None
    optimizer = make_optimizer(model, settings)
    save_model(folder / "init.safetensors", model, run=run)
    progress, best, carried = loop.Progress(), None, begin(settings, model, splits)
    if sidecar.exists():
        try:
            best, state = load_resume(sidecar, run, TRAINING_VERSION, model, optimizer, carried.tensors())
            progress = loop.Progress(**state)
            print(f"{run}: resumed after epoch {progress.epoch}", file=sys.stderr)
        except FileFault as error:
            print(f"{error}: run {run} starts again", file=sys.stderr)
    if (provenance := made_by(device)) not in progress.made_by:
        progress.made_by.append(provenance)

    def after_epoch(weights: dict[str, Tensor] | None) -> None:
        lock.check()
        write_log(folder / LOG, progress.log)
        save_resume(sidecar, run, TRAINING_VERSION, model, optimizer, weights, asdict(progress), carried.tensors())
        print(progress_line(run, progress, settings), file=sys.stderr)

    reason = ""
    try:
        best = loop.train(model, optimizer, splits, extra, settings, progress, best, after_epoch, carried)
    except loop.Collapse as collapse:
        reason = str(collapse)
    with holding(model, carried.average):  # both checkpoints hold the weight average if there is one
        accuracy, chance_reason = check_collapse(model, splits)
        reason = reason or chance_reason
        lock.check()
        save_model(folder / "last.safetensors", model, run=run)
        lock.check()
        save_tensors(folder / "best.safetensors", best or model.state_dict(), run=run)
    lock.check()
    if progress.log:  # from the training state: the file on disk may have been damaged since
        write_log(folder / LOG, progress.log)
    record = make_record(run, settings, progress, accuracy, reason, folder, splits)
    lock.check()
    write_json(folder / "run.json", record)
    return record


def progress_line(run: str, progress: loop.Progress, settings: Settings) -> str:
    row, epochs_left = progress.log[-1], int(settings["epochs"]) - progress.epoch
    return (
        f"{run} epoch {progress.epoch}/{settings['epochs']} loss {row['train_loss']:.4g} "
        f"train {row['train_clean']:.3f}/{row['train_robust']:.3f} "
        f"val {row['val_clean']:.3f}/{row['val_robust']:.3f} "
        f"{row['seconds']:.2f} s, about {epochs_left * progress.seconds / progress.epoch:.0f} s left"
        + ", catastrophic overfitting"
        * int(row["catastrophic"])
    )
