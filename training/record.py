"""run.json: what made a run and what became of it; and whether it need not be trained again."""

import importlib.metadata
import math
import platform
import sys
from pathlib import Path

import torch

from training.architectures import shapes
from training.checkpoint import FileFault, check_shapes, digest, load_shapes, read_log, read_record
from training.loop import Progress
from training.overfitting import FLAG
from training.settings import CHECKPOINTS, TRAINING_VERSION, run_id
from training.splits import Splits

PACKAGES = ("torch", "numpy", "safetensors")
LOG = "log.csv"


def finished(folder: Path, settings: dict, splits: Splits) -> dict | None:
    """The record of a run that need not be trained again, else None; a file that is damaged, or does not fit the run's
    network, is named on stderr."""
    run = run_id(settings)
    if not (folder / "run.json").exists():
        return None
    try:
        record = read_record(folder / "run.json")
        if (record.get("run"), record.get("version")) != (run, TRAINING_VERSION):
            raise FileFault(
                f"{folder / 'run.json'}: found run {record.get('run')} (training version {record.get('version')}),"
                f" wanted {run} ({TRAINING_VERSION})"
            )
        wanted = shapes(settings, splits)
        for name, sha256 in record["files"].items():
            if not (folder / name).exists() or digest(folder / name) != sha256:
                raise FileFault(f"{folder / name}: missing or not the file that training wrote")
            if name != LOG:
                check_shapes(folder / name, load_shapes(folder / name), wanted)
        if LOG not in record["files"] and record.get("epochs"):  # of an earlier version, which did not list it
            read_log(folder / LOG, record["epochs"])
        return record
    except FileFault as error:
        print(f"{error}: training run {run} again", file=sys.stderr)
        return None


def make_record(
    run: str, settings: dict, progress: Progress, accuracy: float, reason: str, folder: Path, device: torch.device
) -> dict:
    """What run.json says: status, reason, flags and everything that made the run."""
    flags = {
        "best_is_last": progress.best_epoch == progress.epoch,
        FLAG: any(row.get("catastrophic") for row in progress.log),
    }
    files = [f"{c}.safetensors" for c in ("init", *CHECKPOINTS)] + [LOG] * bool(progress.log)
    return {
        "run": run,
        "settings": settings,
        "version": TRAINING_VERSION,
        "status": "collapsed" if reason else "finished",
        "reason": reason,
        "flags": [flag for flag, holds in flags.items() if holds],
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "seconds": round(progress.seconds, 3),
        "accuracy": {"train_clean": accuracy if math.isfinite(accuracy) else None},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "files": {name: digest(folder / name) for name in files},
    }
