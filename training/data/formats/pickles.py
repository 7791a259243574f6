"""Pickled arrays: CIFAR's python batches, and the 500K pseudo-labelled images of Carmon et al. (NeurIPS 2019).

Only these files are unpickled, after their checksum is verified, and only NumPy arrays and builtin containers are
admitted.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustgap.training.checkpoint import FileFault


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes the bytes of an array in the pickle protocols of Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"found an encoding {encoding}, wanted latin1")
    return text.encode("latin1")


_CORE = np._core  # type: ignore[attr-defined]
_ADMITTED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _latin1,
}
for _core in ("numpy.core", "numpy._core"):  # before and since NumPy 2
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _CORE.multiarray._reconstruct
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _CORE.numeric._frombuffer


class ArrayUnpickler(pickle.Unpickler):
    """Admits NumPy arrays and builtin containers; any other global is an UnpicklingError that names it."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"found {module}.{name}, wanted NumPy arrays and containers only") from None


def read_pickle(path: Path) -> dict[str, Any]:
    """The entries of a pickled dictionary, with text for keys that Python 2 wrote as bytes.

    Raises FileFault naming the file when it holds anything else.
    """
    try:
        with path.open("rb") as file:
            content = ArrayUnpickler(file, encoding="bytes").load()
    except Exception as error:  # a malformed pickle can raise any exception
        raise FileFault(f"{path}: refused, {' '.join(str(error).split()) or type(error).__name__}") from error
    if not isinstance(content, dict):
        raise FileFault(f"{path}: found {type(content).__name__}, wanted a dictionary")
    return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def required_entry(path: Path, content: dict[str, Any], key: str) -> Any:
    """content[key]. Raises FileFault naming file and key when there is none."""
    if key not in content:
        raise FileFault(f"{path}: found entries {', '.join(content)}, wanted {key}")
    return content[key]


def cifar(paths: Sequence[Path], labels: str) -> tuple[Tensor, Tensor]:
    """CIFAR's batches in their order; `labels` is the entry with the classes: labels, or fine_labels of CIFAR-100."""
    batches = [(path, read_pickle(path)) for path in paths]
    images = [
        np.asarray(required_entry(path, batch, "data"), dtype=np.uint8).reshape(-1, 3, 32, 32)
        for path, batch in batches
    ]
    classes = [torch.tensor(required_entry(path, batch, labels), dtype=torch.int64) for path, batch in batches]
    return torch.from_numpy(np.concatenate(images)), torch.cat(classes)


def pseudo_labelled(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """`data` (n, 32, 32, 3) and `extrapolated_targets` (n,), as they are in the file."""
    content = read_pickle(path)
    return np.asarray(required_entry(path, content, "data")), np.asarray(
        required_entry(path, content, "extrapolated_targets")
    )
