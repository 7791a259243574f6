"""Published sets of extra training images, by their name in the setting extra_data.

Their authors publish no checksums. A study names the SHA-256 of the file it uses under extra_sha256; no pickle is
opened without it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from robustgap.training.checkpoint import FileFault
from robustgap.training.data.fetch import checksum, verified
from robustgap.training.data.formats import npz, pickles
from robustgap.training.data.splits import Split, Splits
from robustgap.training.facts import EXTRA_SET_FACTS, DataFile

# Image ids key the noise: no extra image may share one with an image of the data set. Must never change.
FIRST_INDEX = 10_000_000
READERS: dict[str, Callable[[Path], tuple[np.ndarray, np.ndarray]]] = {
    "ti500k": pickles.pseudo_labelled,
    "ddpm": npz.generated,
    "edm1m": npz.generated,
}


def extra_file(name: str, data: str, sha256: str = "") -> DataFile:
    """The file of a set for a data set, with the checksum that the study names.

    Raises LookupError when there is none for that data set.
    """
    if name not in EXTRA_SET_FACTS or data not in EXTRA_SET_FACTS[name].files:
        raise LookupError(f"extra_data: found {name!r}, which has no images for {data}")
    return replace(EXTRA_SET_FACTS[name].files[data], checksum=f"sha256:{sha256}" if sha256 else "")


@lru_cache(maxsize=1)
def load_extra_set(name: str, splits: Splits, root: Path, sha256: str = "") -> Split:
    """The images and labels of an extra set for the data set of `splits`. The images are held once, in the layout of
    the file: (n, 3, h, w) is a view of (n, h, w, 3), so copy rows where their memory layout matters.

    Raises FileFault naming the file when it is missing, does not have that SHA-256, is a pickle without one, or holds
    anything but images uint8 (n, h, w, 3) of the data set's size with labels 0 .. K-1; LookupError as `extra_file`.
    """
    path = verified(root, extra_file(name, splits.name, sha256))
    if not sha256 and READERS[name] is pickles.pseudo_labelled:
        raise FileFault(
            f"{path}: SHA-256 found {checksum(path, 'sha256')}, wanted one named as extra_sha256.{name} in the study: "
            "a pickle is opened only when the study says which"
        )
    images, labels = READERS[name](path)
    shape = (splits.size, splits.size, splits.channels)
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise FileFault(f"{path}: found images {images.dtype} {images.shape}, wanted uint8 (n, {str(shape)[1:]}")
    if len(labels) != len(images) or labels.size != len(images) or labels.dtype.kind not in "iu":
        raise FileFault(f"{path}: found labels {labels.dtype} {labels.shape}, wanted {len(images)} integers")
    classes = torch.from_numpy(labels.astype(np.int64).flatten())
    if len(classes) == 0 or int(classes.min()) < 0 or int(classes.max()) >= splits.num_classes:
        found = f"{int(classes.min())} to {int(classes.max())}" if len(classes) else "none"
        raise FileFault(f"{path}: found labels {found}, wanted 0 to {splits.num_classes - 1}")
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2))  # a view: a copy in that order would double the memory
    return Split(pixels, classes, FIRST_INDEX + torch.arange(len(classes)))
