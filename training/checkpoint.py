"""Files of a run: atomic writes, weights as safetensors, records and logs."""

import csv
import hashlib
import io
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from robustgap.training.settings import Record, TableRow

Shapes = dict[str, tuple[int, ...]]  # of tensors, by name
ABOUT, CONTENT = "about", "sha256"  # metadata of our safetensors files: strings as JSON; among them the digest


class FileFault(ValueError):
    """A file of a study that cannot be used: truncated, corrupted, or not what its name says."""


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write beside `path`, then rename: readers see the old file or the new one, never part of one, even after a crash.
    Raises OSError naming `path`, such as on a full disk; the old file then stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # named after machine and process: jobs on two machines may write here
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())  # otherwise the name may survive a power failure without the content
        os.replace(temporary, path)
    except OSError as error:  # a failed write does not name the file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Raises FileFault naming the file when it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileFault(f"{path}: not found") from error
    except ValueError as error:  # not JSON, or not even text
        raise FileFault(f"{path}: not valid JSON ({error})") from error


def read_record(path: Path) -> Record:
    """The content of run.json. Raises FileFault naming the file when it is missing, or not the record of a run."""
    record = read_json(path)
    if not isinstance(record, dict):
        raise FileFault(f"{path}: found a JSON {type(record).__name__}, wanted the record of a run")
    for key, kind in (("status", str), ("files", dict)):
        if not isinstance(record.get(key), kind):
            raise FileFault(f"{path}: found {key} {record.get(key)!r}, wanted the record of a run")
    return record


def content_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of strings, and of names, dtypes, shapes and bytes of tensors on the CPU."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_tensors(path: Path, tensors: dict[str, Tensor], **metadata: str) -> None:
    """Write tensors and strings as one safetensors file, with a digest of everything, which the format lacks. The same
    content gives the same bytes; the strings are stored as one, because safetensors writes several in arbitrary order.
    """
    content = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    about = json.dumps({**metadata, CONTENT: content_digest(content, metadata)})
    write_atomically(path, save(content, metadata={ABOUT: about}))


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
    """Tensors and metadata. Raises FileFault naming the file when it is missing, truncated, not a safetensors file, or
    does not hold the bytes that were saved."""
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata() or {})
    if ABOUT not in metadata and not any(CONTENT in text for text in metadata.values()):  # of an earlier version
        return tensors, metadata
    try:
        metadata = json.loads(metadata[ABOUT])
        wanted = metadata.pop(CONTENT)
    except (ValueError, KeyError, AttributeError) as error:
        raise FileFault(f"{path}: found no digest of the content ({error!r})") from error
    if (digest := content_digest(tensors, metadata)) != wanted:
        raise FileFault(f"{path}: SHA-256 of the content found {digest[:12]}..., wanted {wanted[:12]}...")
    return tensors, metadata


def load_shapes(path: Path) -> Shapes:
    """Names and shapes of the tensors in a file, without reading the tensors. Raises as `load_tensors`."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def shapes_of(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(value.shape) for name, value in tensors.items()}


def check_shapes(path: Path, found: Shapes, wanted: Shapes) -> None:
    """Raises FileFault naming the file, what is found and what is wanted, where names or shapes of tensors differ: a
    file from another version, with other layer names, may be intact and still not fit."""
    if found != wanted:
        differences = []
        for some, others in ((found, wanted), (wanted, found)):
            other = [f"{name} {shape}" for name, shape in some.items() if others.get(name) != shape]
            differences.append(", ".join(other[:3]) + ", ..." * (len(other) > 3) or "none of them")
        raise FileFault(f"{path}: found {differences[0]}, wanted {differences[1]}: not of this network")


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


def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def require_digest(path: Path, sha256: str) -> None:
    """Raises FileFault naming the file when its SHA-256 differs."""
    if (digest := file_digest(path)) != sha256:
        raise FileFault(f"{path}: SHA-256 found {digest[:12]}..., wanted {sha256[:12]}...")


def write_log(path: Path, rows: list[TableRow]) -> None:
    """The training log as CSV, one line per epoch; rewritten whole, so a resumed run never repeats a line. Values that
    an earlier version, which began the run, did not record are nan."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[-1]), restval=math.nan, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def read_log(path: Path, epochs: int = 0, sha256: str | None = None) -> list[dict[str, float]]:
    """The lines of a training log as numbers. Raises FileFault naming the file when it is missing or incomplete, has
    fewer lines than `epochs`, or differs from `sha256`."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
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
