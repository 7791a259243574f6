"""Data sets as tensors in memory, with fixed, stratified, recorded splits, found by name in DATASETS.

Contract: `f(root) -> Splits`. Images are uint8 as stored; `Splits.floats` scales them to [0, 1]. Every image keeps its
index in the original data set: noise is keyed by it, and splits.json records it.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training import keyed
from training.registry import Registry

DATASETS = Registry("data set")
SPLIT_STREAM = 7  # of the keyed order that decides the splits; fixed for ever, like the sizes below
DIGITS_SIZES = {"train": 500, "val": 100, "extra": 300, "test": 897}
CIFAR_VALIDATION = 1000


@dataclass(frozen=True)
class Split:
    """images uint8 (n, c, h, w); labels int64 (n,), -1 where treated as unlabelled; index int64 (n,)."""

    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """One data set. images / levels lies in [0, 1]; mean and std per channel are those of the training split."""

    name: str
    train: Split
    val: Split
    test: Split
    extra: Split | None
    levels: int
    num_classes: int

    def floats(self, images: Tensor) -> Tensor:
        """uint8 images (n, c, h, w) as float32 in [0, 1]."""
        return images.to(torch.float32) / self.levels

    @property
    def channels(self) -> int:
        return self.train.images.shape[1]

    @property
    def size(self) -> int:
        """Height (= width) of an image in pixels."""
        return self.train.images.shape[2]

    @property
    def mean(self) -> Tensor:
        """Per-channel mean of the training images in [0, 1], (c,)."""
        return self.floats(self.train.images).mean(dim=(0, 2, 3))

    @property
    def std(self) -> Tensor:
        """Per-channel standard deviation of the training images in [0, 1], (c,)."""
        return self.floats(self.train.images).std(dim=(0, 2, 3), correction=0)

    def record(self) -> dict:
        """What identifies the splits: sizes, indices and a SHA-256 of the bytes of each."""
        parts = {"train": self.train, "val": self.val, "test": self.test, "extra": self.extra}
        return {
            "data": self.name,
            "levels": self.levels,
            "splits": {
                name: {"n": len(part), "sha256": _digest(part), "index": part.index.tolist()}
                for name, part in parts.items()
                if part is not None
            },
        }


def _digest(split: Split) -> str:
    content = hashlib.sha256()
    for tensor in (split.images, split.labels, split.index):
        content.update(tensor.contiguous().numpy().tobytes())
    return content.hexdigest()


def stratified_order(labels: Tensor, stream: int = SPLIT_STREAM) -> Tensor:
    """An order of 0 .. n-1 of which every contiguous slice has, within one image, the class shares of the whole.

    Each class is shuffled; image number r of a class of n_c gets the position (r + 1/2) / n_c; all are sorted by it.
    """
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique().tolist():
        members = torch.nonzero(labels == label)[:, 0]
        members = members[keyed.permutation(label, stream, len(members))]
        position[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return torch.argsort(position, stable=True)


def cut(images: Tensor, labels: Tensor, sizes: dict[str, int]) -> dict[str, Split]:
    """Consecutive slices of the stratified order, by name; index is the position in `labels`. Each slice is sorted."""
    order = stratified_order(labels)
    parts, first = {}, 0
    for name, size in sizes.items():
        rows = order[first : first + size].sort().values
        parts[name] = Split(images[rows], labels[rows], rows)
        first += size
    return parts


@DATASETS.register()
def digits(root: Path | None = None) -> Splits:
    """The 1,797 handwritten digits (8 x 8, 17 grey levels) that ship with scikit-learn: the test part of the UCI
    'Optical Recognition of Handwritten Digits' data set (Alpaydin and Kaynak, 1998).

    500 training, 100 validation and 897 test images; 300 form the extra pool, whose labels are thrown away.
    """
    # The package's file is read without importing the package, which would double the start of every job.
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("scikit-learn is not installed; the digits are read from its data files")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    rows = torch.from_numpy(np.loadtxt(path, delimiter=",")).to(torch.int64)  # 64 pixels and the label
    images = rows[:, :-1].to(torch.uint8).reshape(-1, 1, 8, 8)
    parts = cut(images, rows[:, -1], DIGITS_SIZES)
    extra = parts["extra"]
    parts["extra"] = Split(extra.images, torch.full_like(extra.labels, -1), extra.index)
    return Splits(name="digits", levels=16, num_classes=10, **parts)


@DATASETS.register()
def digits32(root: Path | None = None) -> Splits:
    """The digits in CIFAR's form, 3 x 32 x 32 with 256 grey levels (bilinear): for networks that want that shape."""
    small = digits(root)

    def enlarge(split: Split) -> Split:
        big = F.interpolate(small.floats(split.images), size=(32, 32), mode="bilinear", align_corners=False)
        return Split((big * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous(), split.labels, split.index)

    assert small.extra is not None
    parts = {name: enlarge(getattr(small, name)) for name in ("train", "val", "test", "extra")}
    return Splits(name="digits32", levels=255, num_classes=10, **parts)


@DATASETS.register()
def cifar10(root: Path | None = None) -> Splits:
    """CIFAR-10 (Krizhevsky, 2009): 49,000 training, 1,000 validation (stratified) and 10,000 test images."""
    from training import cifar

    images, labels = cifar.read(root or Path("data"), train=True)
    parts = cut(images, labels, {"val": CIFAR_VALIDATION, "train": len(labels) - CIFAR_VALIDATION})
    test_images, test_labels = cifar.read(root or Path("data"), train=False)
    test = Split(test_images, test_labels, torch.arange(len(test_labels)))
    return Splits(name="cifar10", test=test, extra=None, levels=255, num_classes=10, **parts)


@lru_cache(maxsize=2)
def load(name: str, root: Path | None = None) -> Splits:
    """The data set filed under `name`. Raises LookupError for an unknown name, what its reader raises for bad files."""
    return DATASETS[name](root)
