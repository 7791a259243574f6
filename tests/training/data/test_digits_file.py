"""The digits are read from scikit-learn's file without importing it; what is read must be what it would give."""

import torch
from sklearn.datasets import load_digits

from robustgap.training.data.datasets import load


def test_every_digit_stands_in_one_split_with_its_pixels_and_label():
    splits, bunch = load("digits"), load_digits()
    parts = {"train": splits.train, "val": splits.val, "test": splits.test, "extra": splits.extra}
    index = torch.cat([part.index for part in parts.values()])
    assert torch.equal(index.sort().values, torch.arange(len(bunch.target)))
    for name, part in parts.items():
        assert torch.equal(part.images[:, 0].double(), torch.from_numpy(bunch.images)[part.index])
        if name != "extra":  # treated as unlabelled
            assert torch.equal(part.labels, torch.from_numpy(bunch.target)[part.index])
