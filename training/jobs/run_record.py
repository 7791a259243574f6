"""Reads and writes run.json: how a run was made, its result, and whether it must be trained again."""

import json
import math
import sys
from pathlib import Path

from robustgap.training.checkpoint import (
    FileFault,
    check_shapes,
    content_digest,
    file_digest,
    load_shapes,
    load_tensors,
    read_log,
    read_record,
)
from robustgap.training.data.splits import Splits
from robustgap.training.divergence import DIVERGED, diverged
from robustgap.training.loop import Progress
from robustgap.training.networks.architectures import shapes
from robustgap.training.overfitting import FLAG
from robustgap.training.settings import CHECKPOINTS, TRAINING_VERSION, Record, Settings, StudyFile, run_id

LOG = "log.csv"


def finished(folder: Path, settings: Settings, splits: Splits) -> Record | None:
    """The record of a finished run that need not be trained again, else None; a file that is damaged, or does not fit
    the run's network, is reported on stderr."""
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
            if not (folder / name).exists() or file_digest(folder / name) != sha256:
                raise FileFault(f"{folder / name}: missing or not the file that training wrote")
            if name != LOG:
                check_shapes(folder / name, load_shapes(folder / name), wanted)
        if LOG not in record["files"] and record.get("epochs"):  # from an earlier version, which did not list it
            read_log(folder / LOG, record["epochs"])
        return record
    except FileFault as error:
        print(f"{error}: training run {run} again", file=sys.stderr)
        return None


def require_same_arithmetic(study: StudyFile, folder: Path) -> None:
    """Raise ValueError if the study must be reproducible and the folder's run was trained, or started, in other
    arithmetic: its weights differ, and are not overwritten. (Damaged files are reported by the code that reads
    them.)"""
    if not study.get("reproducible"):
        return
    for name, read in (("run.json", _made_by_record), ("resume.safetensors", _made_by_sidecar)):
        if not (folder / name).exists():
            continue
        try:
            makers = read(folder / name)
        except (FileFault, ValueError, LookupError):
            continue
        if others := [maker for maker in makers or [{}] if not maker.get("reproducible")]:
            found = " on ".join(str(others[0][key]) for key in ("instructions", "cpu") if key in others[0])
            raise ValueError(
                f"{folder / name}: found a run trained in other arithmetic ({found or 'not recorded'}), wanted that of"
                f" reproducible: true; give the study another name, or remove {folder}"
            )


def _made_by_record(path: Path) -> list[Record]:
    return list(read_record(path).get("made_by", []))


def _made_by_sidecar(path: Path) -> list[Record]:
    return list(json.loads(load_tensors(path)[1]["progress"]).get("made_by", []))


def make_record(
    run: str, settings: Settings, progress: Progress, accuracy: float, reason: str, folder: Path, splits: Splits
) -> Record:
    """Content of run.json: status, reason, flags and everything that made the run."""
    last = progress.made_by[-1]
    flags = {
        "best_is_last": progress.best_epoch == progress.epoch,
        FLAG: any(row.get("catastrophic") for row in progress.log),
        DIVERGED: diverged(progress.log, len(splits.val), splits.num_classes),
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
        "device": last["device"],
        "packages": last["packages"],
        "made_by": progress.made_by,
        "files": {name: file_digest(folder / name) for name in files},
        "weights_sha256": {c: content_digest(load_tensors(folder / f"{c}.safetensors")[0], {}) for c in CHECKPOINTS},
    }
