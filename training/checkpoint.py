"""Files of a run: atomic writes, weights as safetensors, and the sidecar from which a killed training resumes."""

import csv
import hashlib
import io
import json
import math
import os
import platform
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

Shapes = dict[str, tuple[int, ...]]  # of tensors, by name


class FileFault(ValueError):
    """A file of ours that cannot be used: truncated, corrupted, or not what its name says."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write beside `path`, then rename: readers see the old file or the new one, never a part. Raises OSError naming
    `path`, on a full disk say; what stood there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # named after machine and process: jobs of two machines may meet here
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except OSError as error:  # a write that fails does not say where
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises FileFault naming the file when it is missing or no JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise FileFault(f"{path}: not found") from error
    except ValueError as error:  # no JSON, or no text at all
        raise FileFault(f"{path}: not valid JSON ({error})") from error


def read_record(path: Path) -> dict:
    """The content of run.json. Raises FileFault naming the file when it is missing, or no record of a run."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise FileFault(f"{path}: found a JSON {type(record).__name__}, wanted the record of a run")
    for key, kind in (("status", str), ("files", dict)):
        if not isinstance(record.get(key), kind):
            raise FileFault(f"{path}: found {key} {record.get(key)!r}, wanted the record of a run")
    return record


def save_tensors(path: Path, tensors: dict[str, Tensor], **metadata: str) -> None:
    write_atomically(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata=metadata))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise FileFault(f"{path}: not found") from error
    except (SafetensorError, OSError) as error:
        raise FileFault(f"{path}: not a complete safetensors file ({error})") from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata. Raises FileFault naming the file when it is missing, truncated or no safetensors file."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def load_shapes(path: Path) -> Shapes:
    """Names and shapes of the tensors of a file, which are not read. Raises as `load_tensors`."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(value.shape) for name, value in tensors.items()}


def check_shapes(path: Path, found: Shapes, wanted: Shapes) -> None:
    """Raises FileFault naming the file and what is found and wanted, where names or shapes of tensors differ: a file
    of another version, in which layers had other names, is whole and does not fit."""
    if found != wanted:
        told = []
        for some, others in ((found, wanted), (wanted, found)):
            other = [f"{name} {shape}" for name, shape in some.items() if others.get(name) != shape]
            told.append(", ".join(other[:3]) + ", ..." * (len(other) > 3) or "none of them")
        raise FileFault(f"{path}: found {told[0]}, wanted {told[1]}: not of this network")


def save_model(path: Path, model: nn.Module, **metadata: str) -> None:
    """Parameters and buffers of `model`, with strings that say what made them."""
    save_tensors(path, model.state_dict(), **metadata)


def load_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """State dict saved by `save_model`; with `sha256`, a file that differs from it is a FileFault."""
    if sha256 is not None and path.exists():
        require_digest(path, sha256)
    return load_tensors(path)[0]


def load_model(path: Path, model: nn.Module, sha256: str | None = None) -> None:
    """Put the weights saved by `save_model` into a network. Raises FileFault as `load_weights`, and where they do not
    fit it."""
    state = load_weights(path, sha256)
    check_shapes(path, shapes_of(state), shapes_of(model.state_dict()))
    model.load_state_dict(state)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_digest(path: Path, sha256: str) -> None:
    """Raises FileFault naming the file when its SHA-256 is another."""
    if (found := digest(path)) != sha256:
        raise FileFault(f"{path}: SHA-256 found {found[:12]}..., wanted {sha256[:12]}...")


def write_log(path: Path, rows: list[dict]) -> None:
    """The training log as CSV, one line per epoch; rewritten whole, so a resumed run never repeats a line. What an
    earlier version, which began the run, did not note, is nan."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[-1]), restval=math.nan, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def read_log(path: Path, epochs: int = 0, sha256: str | None = None) -> list[dict[str, float]]:
    """The lines of a training log as numbers. Raises FileFault naming the file when it is missing or not whole, has
    fewer lines than `epochs`, or differs from `sha256`."""
    try:
        with path.open(newline="") as file:
            lines = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise FileFault(f"{path}: not found") from error
    except (TypeError, ValueError, csv.Error) as error:
        raise FileFault(f"{path}: not a complete training log ({error})") from error
    if len(lines) < epochs:
        raise FileFault(f"{path}: found {len(lines)} epochs, wanted {epochs}")
    if sha256 is not None:
        require_digest(path, sha256)
    return lines


def save_resume(
    path: Path,
    run: str,
    version: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor] | None,
    progress: dict,
    carried: dict[str, Tensor],
) -> None:
    """Everything the next epoch needs, `carried` by name and as it is. No random state: all draws are keyed by (seed,
    epoch, image)."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    for name, p in model.named_parameters():
        if "momentum_buffer" in optimizer.state[p]:
            tensors[f"momentum.{name}"] = optimizer.state[p]["momentum_buffer"]
    tensors |= {f"best.{k}": v for k, v in (best or {}).items()} | carried
    # copies: safetensors refuses tensors that share memory, as `best` does with the model in the epoch it is set
    save_tensors(
        path, {k: v.clone() for k, v in tensors.items()}, run=run, version=str(version), progress=json.dumps(progress)
    )


def load_resume(
    path: Path, run: str, version: int, model: nn.Module, optimizer: torch.optim.Optimizer, carried: dict[str, Tensor]
) -> tuple[dict[str, Tensor] | None, dict]:
    """Put model, optimizer and the tensors `carried` where the sidecar says; returns (best weights or None, progress).

    Raises FileFault when the file is truncated, belongs to another run or another version of training, or holds other
    tensors than this run has; nothing has been put anywhere then.
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
    momentum = {f"momentum.{name}": p for name, p in model.named_parameters()}  # not all parameters need have one
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
