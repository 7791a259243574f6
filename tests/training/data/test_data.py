"""Data: sizes, disjoint stratified splits, their record, and augmentation as tensor operations."""

import hashlib
import json

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits

from robustgap.training.data import splits as splits_module
from robustgap.training.data.augment import AUGMENTATIONS
from robustgap.training.data.datasets import load
from robustgap.training.data.splits import Split, Splits, stratified_cut, stratified_order

PINNED = {"train": "3215f2ac9e", "val": "c8b84c8436", "test": "029643cd05", "extra": "1f42323b85"}
SIZES = {"train": 500, "val": 100, "test": 897, "extra": 300}


def parts_of(splits):
    return {name: getattr(splits, name) for name in SIZES}


@pytest.mark.parametrize("name, shape, levels", [("digits", (1, 8, 8), 16), ("digits32", (3, 32, 32), 255)])
def test_digits_are_split_once_and_for_all(name, shape, levels):
    splits = load(name)
    parts = parts_of(splits)
    assert {key: len(part) for key, part in parts.items()} == SIZES and sum(SIZES.values()) == 1797
    every = torch.cat([part.index for part in parts.values()])
    assert torch.equal(every.sort().values, torch.arange(1797))  # disjoint, and their union is complete
    truth = torch.from_numpy(load_digits().target)
    shares = torch.bincount(truth, minlength=10) / 1797
    for key, part in parts.items():
        assert part.images.dtype == torch.uint8 and part.images.shape[1:] == shape
        labels = truth[part.index]
        assert (part.labels == (-1 if key == "extra" else labels)).all()
        counts = torch.bincount(labels, minlength=10)
        assert (counts - shares * len(part)).abs().max() <= 1, key  # stratified
    assert (splits.levels, splits.num_classes, splits.channels, splits.size) == (levels, 10, shape[0], shape[1])


def test_digits_are_the_original_images():
    splits, original = load("digits"), torch.from_numpy(load_digits().images)
    for part in parts_of(splits).values():
        assert torch.equal(part.images[:, 0].double(), original[part.index])
        floats = splits.floats(part.images)
        assert floats.dtype == torch.float32 and float(floats.min()) == 0 and float(floats.max()) == 1
        assert torch.equal(floats[:, 0].double(), original[part.index] / 16)


def test_digits32_are_the_digits_enlarged():
    """Bilinear enlargement by 4 keeps the mean of each image but for its border, and all channels are equal."""
    small, big = load("digits"), load("digits32")
    images = big.floats(big.train.images)
    assert torch.equal(images[:, 0], images[:, 1]) and torch.equal(images[:, 0], images[:, 2])
    blocks = torch.nn.functional.avg_pool2d(images[:, :1], 4)
    correlation = np.corrcoef(blocks.flatten(), small.floats(small.train.images).flatten())[0, 1]
    assert correlation > 0.95
    assert torch.equal(big.train.labels, small.train.labels) and torch.equal(big.train.index, small.train.index)


def test_mean_and_std_are_those_of_the_training_images():
    splits = load("digits")
    pixels = splits.train.images.double() / 16
    assert float(splits.mean) == pytest.approx(float(pixels.mean()), rel=1e-5)
    assert float(splits.std) == pytest.approx(float(pixels.std(correction=0)), rel=1e-5)


def test_mean_and_std_of_a_large_set_are_exact(monkeypatch):
    """From counts of grey levels, where floats of all images would take gigabytes."""
    monkeypatch.setattr(splits_module, "COUNTED", 1)
    images = torch.randint(0, 256, (50, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[:, 1] = 7
    part = Split(images, torch.zeros(50, dtype=torch.int64), torch.arange(50))
    large = Splits(name="large", train=part, val=part, test=part, extra=None, levels=255, num_classes=10)
    pixels = images.double().permute(1, 0, 2, 3).flatten(1) / 255
    torch.testing.assert_close(large.mean.double(), pixels.mean(1), rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(large.std.double(), pixels.std(1, correction=0), rtol=1e-6, atol=1e-8)
    assert float(large.std[1]) == 0


def test_the_record_names_every_image_and_its_bytes():
    splits = load("digits")
    record = json.loads(json.dumps(splits.record()))
    assert record["data"] == "digits" and record["levels"] == 16
    for name, part in parts_of(splits).items():
        said = record["splits"][name]
        assert said["n"] == len(part) and said["index"] == part.index.tolist()
        content = b"".join(t.numpy().tobytes() for t in (part.images, part.labels, part.index))
        assert said["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_splits_are_pinned():
    """Stored results belong to these very images."""
    digest = {name: part["sha256"][:10] for name, part in load("digits").record()["splits"].items()}
    assert digest == PINNED


def test_every_slice_of_a_stratified_order_is_stratified():
    labels = torch.arange(1000) % 7
    labels[:100] = 3
    order = stratified_order(labels)
    assert torch.equal(order.sort().values, torch.arange(1000))
    share = torch.bincount(labels, minlength=7) / 1000
    for first, last in ((0, 50), (13, 400), (500, 1000)):
        counts = torch.bincount(labels[order[first:last]], minlength=7)
        assert (counts - share * (last - first)).abs().max() <= 1
    assert not torch.equal(order, stratified_order(labels, stream=9))
    inside = order[labels[order] == 2]
    assert not torch.equal(inside, inside.sort().values)  # shuffled within a class


def test_cut_names_consecutive_slices():
    images, labels = torch.zeros(20, 1, 2, 2, dtype=torch.uint8), torch.arange(20) % 2
    parts = stratified_cut(images, labels, {"a": 8, "b": 12})
    assert [len(part) for part in parts.values()] == [8, 12]
    assert torch.equal(torch.cat([p.index for p in parts.values()]).sort().values, torch.arange(20))
    assert all(torch.equal(part.labels, labels[part.index]) for part in parts.values())


def test_unknown_data_set():
    with pytest.raises(LookupError, match="data set 'digit' is unknown; did you mean 'digits'"):
        load("digit")


def ramp(n, side=8):
    """Images whose pixels are all different and not 0, so that a window of one can be recognised."""
    count = 3 * side * side
    pixels = (torch.arange(1, count + 1) / (count + 1)).reshape(1, 3, side, side)
    return pixels.repeat(n, 1, 1, 1)


@pytest.mark.parametrize("side, pad", [(8, 1), (32, 4)])
def test_crop_takes_each_window_of_the_padded_image_equally_often(side, pad):
    n = 2000 if side == 8 else 300
    x, index = ramp(n, side), torch.arange(n)
    found = AUGMENTATIONS["crop"](x, index, 0, 300)
    assert found.shape == x.shape and found.dtype == x.dtype
    padded = torch.nn.functional.pad(x[:1], (pad,) * 4)[0]
    offsets = range(2 * pad + 1)
    windows = torch.stack([padded[:, i : i + side, j : j + side] for i in offsets for j in offsets])
    equal = (found.flatten(1)[:, None] == windows.flatten(1)[None]).all(2)
    assert (equal.sum(1) == 1).all()
    if side == 8:
        assert stats.chisquare(equal.sum(0).numpy()).pvalue > 0.01


def test_flip_mirrors_half_of_the_images():
    x, index = ramp(2000), torch.arange(2000)
    cropped = AUGMENTATIONS["crop"](x, index, 0, 300)
    found = AUGMENTATIONS["crop_flip"](x, index, 0, 300)
    kept = (found == cropped).flatten(1).all(1)
    mirrored = (found == cropped.flip(3)).flatten(1).all(1)
    assert (kept ^ mirrored).all()
    assert abs(int(mirrored.sum()) - 1000) < 4 * np.sqrt(500)


def test_no_augmentation_is_the_identity():
    x = ramp(3)
    assert torch.equal(AUGMENTATIONS["none"](x, torch.arange(3), 0, 300), x)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_augmentation_is_keyed_by_image_and_changes_with_the_epoch(name):
    augment, index = AUGMENTATIONS[name], torch.arange(500, 540)
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = augment(x, index, 0, 1300)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))[:11]
    assert torch.equal(augment(x[order], index[order], 0, 1300), whole[order])
    assert float(whole.min()) >= 0 and float(whole.max()) <= 1
    if name != "none":
        assert not torch.equal(augment(x, index, 0, 2300), whole)
        assert not torch.equal(augment(x, index, 1, 1300), whole)


def test_unknown_augmentation():
    with pytest.raises(LookupError, match="augmentation 'cropp' is unknown; did you mean 'crop'"):
        AUGMENTATIONS["cropp"]


def test_splits_without_a_pool_are_recorded_without_it():
    splits = load("digits")
    few = Split(splits.train.images[:2], splits.train.labels[:2], splits.train.index[:2])
    alone = Splits(name="few", train=few, val=few, test=few, extra=None, levels=16, num_classes=10)
    assert set(alone.record()["splits"]) == {"train", "val", "test"}
