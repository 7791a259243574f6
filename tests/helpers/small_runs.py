"""Small runs on the digits, trained for real in a second."""

import csv
import json
from pathlib import Path

import pytest
import torch

from robustgap.training import loop
from robustgap.training.checkpoint import read_json
from robustgap.training.data.datasets import load
from robustgap.training.jobs.lock import RunLock
from robustgap.training.jobs.run import train_run
from robustgap.training.settings import complete, run_id

CPU = torch.device("cpu")


def settings_of(**given):
    base = {"data": "digits", "architecture": "cnn", "width": 4, "eps": "1/10", "inner_steps": 1, "epochs": 3}
    return complete({**base, "augmentation": "none", **given})


def train(tmp_path, **given):
    """Train a small run; its folder and record."""
    settings = settings_of(**given)
    folder = tmp_path / run_id(settings)
    return folder, train_run(settings, load("digits"), None, folder, CPU)


def elsewhere(folder: Path, number: int = 1) -> RunLock:
    """A lock held by a process of another machine."""
    held = RunLock(folder)
    said = {**json.loads(held.content), "machine": "another", "host": "n7", "pid": 4711, "job": "17"}
    held.content, held.number = json.dumps(said).encode(), number
    (folder / f"lock.{number}").write_bytes(held.content)
    return held


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read_log(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def same_weights(a, b):
    return all((a / f"{c}.safetensors").read_bytes() == (b / f"{c}.safetensors").read_bytes() for c in ("last", "best"))


def without_seconds(folder):
    record = read_json(folder / "run.json")
    del record["seconds"], record["files"]["log.csv"]  # whose lines have seconds too
    return record, [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(folder)]


def interrupted(tmp_path, monkeypatch, epochs, **given):
    """Train until `epochs` are behind, then stop; the folder."""
    settings = settings_of(**given)
    folder, original = tmp_path / run_id(settings), loop.epoch_scores
    left = iter(range(epochs))

    def scores(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "epoch_scores", scores)
        train_run(settings, load("digits"), None, folder, CPU)
    return folder
