"""Reader of CIFAR-10's python batches: checksum first, then an unpickler that admits arrays and containers only."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = "cifar-10-batches-py"
# MD5 of each batch as published by its authors (https://www.cs.toronto.edu/~kriz/cifar.html) and used by torchvision.
TRAIN = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
}
TEST = {"test_batch": "40351d587109b95175f43aff81a1287e"}
_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Admits NumPy arrays and builtin containers; any other global is an UnpicklingError that names it."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"found {module}.{name}, wanted NumPy arrays and containers only") from None


def fetch(root: Path) -> None:
    """Download and unpack the archive into `root` with torchvision, which checks its MD5."""
    from training.zoo import import_torchvision

    source = import_torchvision().datasets.CIFAR10
    utils = import_torchvision().datasets.utils
    try:
        utils.download_and_extract_archive(source.url, str(root), filename=source.filename, md5=source.tgz_md5)
    except Exception as error:  # torchvision raises several kinds, from URLError to RuntimeError
        raise FileNotFoundError(
            f"{root / FOLDER}: not found and could not be downloaded ({error}); put the unpacked CIFAR-10 there, "
            "or name another folder in the study's data_dir"
        ) from error


def read(root: Path, train: bool, checksums: dict[str, str] | None = None) -> tuple[Tensor, Tensor]:
    """Images uint8 (n, 3, 32, 32) and labels int64 (n,), batches in order.

    Raises FileNotFoundError when the files are neither there nor to be had, ValueError naming file, expected and found
    checksum when one is truncated or altered.
    """
    wanted = checksums or (TRAIN if train else TEST)
    if not (root / FOLDER).is_dir():
        fetch(root)
    images, labels = [], []
    for name, checksum in wanted.items():
        path = root / FOLDER / name
        content = path.read_bytes()
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != checksum:
            raise ValueError(f"{path}: MD5 found {found}, wanted {checksum}; delete the folder to download it again")
        batch = ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        images.append(torch.from_numpy(np.array(batch[b"data"], dtype=np.uint8)).reshape(-1, 3, 32, 32))
        labels.append(torch.tensor(batch[b"labels"], dtype=torch.int64))
    return torch.cat(images), torch.cat(labels)
