"""Saves and loads a run's training state: resume.safetensors, written after every epoch, from which a killed run
resumes."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustgap.training.checkpoint import FileFault, check_shapes, load_tensors, save_tensors, shapes_of


def save_resume(
    path: Path,
    run: str,
    version: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor] | None,
    progress: dict[str, Any],
    carried: dict[str, Tensor],
) -> None:
    """Save everything the next epoch needs; `carried` is stored by name, unchanged. No random state: all draws are
    keyed by (seed, epoch, image)."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for name, p in model.named_parameters():
        if "momentum_buffer" in optimizer.state[p]:
            tensors[f"momentum.{name}"] = optimizer.state[p]["momentum_buffer"]
    tensors |= {f"best.{k}": v for k, v in (best or {}).items()} | carried
    # copies: safetensors rejects tensors that share memory, as `best` does with the model in the epoch that sets it
    save_tensors(
        path, {k: v.clone() for k, v in tensors.items()}, run=run, version=str(version), progress=json.dumps(progress)
    )


def load_resume(
    path: Path, run: str, version: int, model: nn.Module, optimizer: torch.optim.Optimizer, carried: dict[str, Tensor]
) -> tuple[dict[str, Tensor] | None, dict[str, Any]]:
    """Load model, optimizer and the tensors `carried` from the file; returns (best weights or None, progress).

    Raises FileFault if the file is truncated or altered, belongs to another run or another version of training, or
    holds other tensors than this run; nothing has been loaded then.
    """
    tensors, metadata = load_tensors(path)
    if (metadata.get("run"), metadata.get("version")) != (run, str(version)):
        raise FileFault(
            f"{path}: found run {metadata.get('run')} (training version {metadata.get('version')}), "
            f"wanted {run} ({version})"
        )
    wanted = {f"model.{name}": value for name, value in model.state_dict().items()} | carried
    if any(key.startswith("best.") for key in tensors):  # there may be none yet
        wanted |= {f"best.{name}": value for name, value in model.state_dict().items()}
    momentum = {f"momentum.{name}": p for name, p in model.named_parameters()}  # some parameters may have none
    wanted |= {key: p for key, p in momentum.items() if key in tensors}
    check_shapes(path, shapes_of(tensors), shapes_of(wanted))
    parts = defaultdict[str, dict[str, Tensor]](dict)
    for key, value in tensors.items():
        kind, name = key.split(".", 1)
        parts[kind][name] = value
    model.load_state_dict(parts["model"])
    for name, p in model.named_parameters():
        if name in parts["momentum"]:
            optimizer.state[p]["momentum_buffer"] = parts["momentum"][name].to(p.device)
    for name, value in carried.items():
        value.copy_(tensors[name])
    return parts["best"] or None, json.loads(metadata["progress"])
