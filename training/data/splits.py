"""Images in memory, and the fixed, stratified, recorded way they are split.

Images are uint8 as stored; `Splits.floats` scales them to [0, 1]. Every image keeps its index in the original data
set: noise is keyed by it, and splits.json records it.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from robustgap.training import keyed
from robustgap.training.settings import Record

SPLIT_STREAM = 7  # of the keyed order that decides the splits; must never change
COUNTED = 2**24  # from this many pixels on, means are computed from counts of grey levels, not from floats


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
        return channel_moments(self.train, self.levels)[0]

    @property
    def std(self) -> Tensor:
        """Per-channel standard deviation of the training images in [0, 1], (c,)."""
        return channel_moments(self.train, self.levels)[1]

    def record(self) -> Record:
        """What identifies the splits: sizes, indices and a SHA-256 of the bytes of each."""
        parts = {"train": self.train, "val": self.val, "test": self.test, "extra": self.extra}
        return {
            "data": self.name,
            "levels": self.levels,
            "splits": {
                name: {"n": len(part), "sha256": split_digest(part), "index": part.index.tolist()}
                for name, part in parts.items()
                if part is not None
            },
        }


@lru_cache(maxsize=4)
def channel_moments(split: Split, levels: int) -> tuple[Tensor, Tensor]:
    """Per-channel mean and standard deviation of images / levels, float32 (c,) each."""
    images = split.images
    if images.numel() < COUNTED:
        x = images.to(torch.float32) / levels
        return x.mean(dim=(0, 2, 3)), x.std(dim=(0, 2, 3), correction=0)
    # floats of a large set would take gigabytes and round; counts of its 256 levels are exact
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    level = torch.arange(256, dtype=torch.float64, device=images.device) / levels
    mean = (share * level).sum(dim=1)
    variance = (share * (level - mean[:, None]) ** 2).sum(dim=1)
    return mean.float(), variance.sqrt().float()


def split_digest(split: Split) -> str:
    """SHA-256 of the bytes of images, labels and index."""
    content = hashlib.sha256()
    for tensor in (split.images, split.labels, split.index):
        content.update(tensor.contiguous().numpy().tobytes())
    return content.hexdigest()


def stratified_order(labels: Tensor, stream: int = SPLIT_STREAM) -> Tensor:
    """An order of 0 .. n-1 in which every contiguous slice has the class shares of the whole, to within one image.

    Each class is shuffled; image number r of a class of n_c gets the position (r + 1/2) / n_c; all are sorted by it.
    """
    position = torch.empty(len(labels), dtype=torch.float64)
    for label in torch.unique(labels).tolist():
        members = torch.nonzero(labels == label)[:, 0]
        members = members[keyed.permutation(label, stream, len(members))]
        position[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return torch.argsort(position, stable=True)


def stratified_cut(images: Tensor, labels: Tensor, sizes: dict[str, int]) -> dict[str, Split]:
    """Consecutive slices of the stratified order, by name; index is the position in `labels`. Each slice is sorted."""
    order = stratified_order(labels)
    parts, first = {}, 0
    for name, size in sizes.items():
        rows = order[first : first + size].sort().values
        parts[name] = Split(images[rows], labels[rows], rows)
        first += size
    return parts
