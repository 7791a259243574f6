"""Data sets, found by name in DATASETS.

Contract: `f(root) -> Splits`, from files that are already below `root` (`training.data.fetch.fetch` puts them
there).
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from robustgap.training.data.fetch import verified
from robustgap.training.data.formats import folders, idx, mat, pickles
from robustgap.training.data.splits import Split, Splits, stratified_cut
from robustgap.training.facts import DATA_SET_FACTS, VALIDATION
from robustgap.training.registry import Plugins

DATASETS = Plugins("data set", DATA_SET_FACTS)
DATA_DIR = Path("data")


@DATASETS.register()
def digits(root: Path | None = None) -> Splits:
    """The 1,797 handwritten digits (8 x 8, 17 grey levels) that ship with scikit-learn: the test part of the UCI
    'Optical Recognition of Handwritten Digits' data set (Alpaydin and Kaynak, 1998).

    500 training, 100 validation and 897 test images; 300 form the extra pool, whose labels are discarded.
    """
    # The package's file is read without importing the package, which would double the start-up time of every job.
    package = importlib.util.find_spec("sklearn")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("scikit-learn is not installed; the digits are read from its data files")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
    rows = torch.from_numpy(np.loadtxt(path, delimiter=",")).to(torch.int64)  # 64 pixels and the label
    images = rows[:, :-1].to(torch.uint8).reshape(-1, 1, 8, 8)
    facts = DATA_SET_FACTS["digits"]
    sizes = {"train": facts.train, "val": facts.val, "extra": facts.extra, "test": facts.test}  # must never change
    parts = stratified_cut(images, rows[:, -1], sizes)
    extra = parts["extra"]
    parts["extra"] = Split(extra.images, torch.full_like(extra.labels, -1), extra.index)
    return Splits(name="digits", levels=16, num_classes=facts.classes, **parts)


@DATASETS.register()
def digits32(root: Path | None = None) -> Splits:
    """The digits in CIFAR's form, 3 x 32 x 32 with 256 grey levels (bilinear): for networks that want that shape."""
    small = digits(root)

    def enlarge(split: Split) -> Split:
        big = F.interpolate(small.floats(split.images), size=(32, 32), mode="bilinear", align_corners=False)
        return Split((big * 255).round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous(), split.labels, split.index)

    assert small.extra is not None
    parts = {name: enlarge(getattr(small, name)) for name in ("train", "val", "test", "extra")}
    return Splits(name="digits32", levels=255, num_classes=small.num_classes, **parts)


def _paths(name: str, root: Path | None) -> list[Path]:
    """The files of a data set, each compared with its checksum. Raises what `verified` raises."""
    return [verified(root or DATA_DIR, file) for file in DATA_SET_FACTS[name].files]


def _splits(name: str, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> Splits:
    """Splits of a public data set: its test images, and one in VALIDATION of its training images for validation."""
    images, labels = train
    val = len(labels) // VALIDATION
    parts = stratified_cut(images, labels, {"val": val, "train": len(labels) - val})
    whole = Split(*test, torch.arange(len(test[1])))
    return Splits(name=name, test=whole, extra=None, levels=255, num_classes=DATA_SET_FACTS[name].classes, **parts)


@DATASETS.register()
def cifar10(root: Path | None = None) -> Splits:
    """CIFAR-10 (Krizhevsky, 2009): 49,000 training, 1,000 validation and 10,000 test images of 10 classes."""
    *train, test = _paths("cifar10", root)
    return _splits("cifar10", pickles.cifar(train, "labels"), pickles.cifar([test], "labels"))


@DATASETS.register()
def cifar100(root: Path | None = None) -> Splits:
    """CIFAR-100 (Krizhevsky, 2009): 49,000 training, 1,000 validation and 10,000 test images of 100 fine classes."""
    train, test = _paths("cifar100", root)
    return _splits("cifar100", pickles.cifar([train], "fine_labels"), pickles.cifar([test], "fine_labels"))


@DATASETS.register()
def svhn(root: Path | None = None) -> Splits:
    """Street View House Numbers, cropped digits (Netzer et al., NeurIPS workshop 2011): 71,792 training, 1,465
    validation and 26,032 test images of 10 classes; the class is the digit."""
    train, test = _paths("svhn", root)
    return _splits("svhn", mat.read_mat(train), mat.read_mat(test))


@DATASETS.register()
def mnist(root: Path | None = None) -> Splits:
    """MNIST (LeCun et al., 1998): 58,800 training, 1,200 validation and 10,000 test images, 28 x 28, of 10 digits."""
    paths = _paths("mnist", root)
    return _splits("mnist", idx.labelled(*paths[:2]), idx.labelled(*paths[2:]))


@DATASETS.register()
def fashion_mnist(root: Path | None = None) -> Splits:
    """Fashion-MNIST (Xiao et al., arXiv:1708.07747): 58,800 training, 1,200 validation and 10,000 test images, 28 x 28,
    of 10 kinds of clothes."""
    paths = _paths("fashion_mnist", root)
    return _splits("fashion_mnist", idx.labelled(*paths[:2]), idx.labelled(*paths[2:]))


@DATASETS.register()
def tiny_imagenet(root: Path | None = None) -> Splits:
    """Tiny-ImageNet-200 (Stanford CS231n, 2015): 98,000 training and 2,000 validation images, 64 x 64, of 200 classes;
    the 10,000 images of its validation folder are the test images, because the labels of its test folder are not
    public."""
    (path,) = _paths("tiny_imagenet", root)
    read = folders.read_cached(path, DATA_SET_FACTS["tiny_imagenet"].files[0].checksum)
    train, test = (read["train_images"], read["train_labels"]), (read["test_images"], read["test_labels"])
    return _splits("tiny_imagenet", train, test)


@lru_cache(maxsize=2)
def load(name: str, root: Path | None = None) -> Splits:
    """The data set registered under `name`. Raises LookupError for an unknown name, FileFault (a ValueError) naming a
    file that is missing or not the published one."""
    splits: Splits = DATASETS[name](root)
    return splits


DATASETS.load()
