"""Keyed random numbers: a pure-integer reference, the distributions, independence, and nothing but the key matters."""

import numpy as np
import pytest
import torch
from scipy import stats

from robustgap.training import keyed

WORD = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
PINNED = [["0x2130748aaac80268", "0xcc78fb979ce5090"], ["0x13cd2d07d5deb1d2", "0x21b0d6efc55bf25c"]]
PINNED_ORDER = [1, 2, 9, 6, 4, 8, 5, 0, 3, 7]


def mix(z: int) -> int:
    """The finaliser of SplitMix64, on Python's unbounded integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def reference(seed: int, stream: int, image: int, count: int) -> list[int]:
    key = mix((mix((seed + GOLDEN) & WORD) + stream * GOLDEN) & WORD)
    state = mix((key + (image + 1) * GOLDEN) & WORD)
    return [mix((state + position * GOLDEN) & WORD) for position in range(1, count + 1)]


@pytest.mark.parametrize("seed, stream", [(0, 0), (0, 1), (7, 2), (-3, 5), (2**31, 1_000_003)])
def test_words_equal_exact_integer_arithmetic(seed, stream):
    """Integers modulo 2**64: the same on every device, so checking them against Python's integers is enough."""
    index = torch.tensor([0, 1, 2, 59_999, 2**40])
    words = keyed.bits(seed, stream, index, 4).numpy().view(np.uint64)
    assert words.tolist() == [reference(seed, stream, int(i), 4) for i in index]


def test_known_values():
    """Pinned: a change of these numbers would change every training, attack and augmentation."""
    words = keyed.bits(0, 1, torch.tensor([0, 5]), 2).numpy().view(np.uint64)
    assert [[hex(word) for word in row] for row in words.tolist()] == PINNED
    assert keyed.permutation(0, 1, 10).tolist() == PINNED_ORDER


def test_nothing_but_the_key_matters():
    index = torch.arange(50)
    whole = keyed.normal(3, 1, index, (2, 4))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(99)
    assert torch.equal(keyed.normal(3, 1, order, (2, 4)), whole[order])
    assert torch.equal(torch.cat([keyed.normal(3, 1, part, (2, 4)) for part in index.split(7)]), whole)
    state = torch.random.get_rng_state()
    keyed.normal(3, 1, index, (2, 4))
    assert torch.equal(torch.random.get_rng_state(), state)  # torch's global generator is left alone


def test_more_numbers_of_an_image_begin_with_the_same_ones():
    index = torch.arange(4)
    assert torch.equal(keyed.uniform(1, 2, index, (8,))[:, :3], keyed.uniform(1, 2, index, (3,)))


def test_uniform_is_uniform():
    draws = keyed.uniform(0, 3, torch.arange(2_000), (10,), -2.0, 3.0)
    assert draws.dtype == torch.float64 and float(draws.min()) >= -2 and float(draws.max()) < 3
    assert stats.kstest(draws.flatten().numpy(), stats.uniform(-2, 5).cdf).pvalue > 0.01
    for position in range(3):  # across images at one position as well
        assert stats.kstest(draws[:, position].numpy(), stats.uniform(-2, 5).cdf).pvalue > 0.01


def test_normal_is_standard_normal():
    draws = keyed.normal(0, 4, torch.arange(2_000), (10,))
    assert torch.isfinite(draws).all()
    assert stats.kstest(draws.flatten().numpy(), "norm").pvalue > 0.01


@pytest.mark.parametrize("low_bits", [0, 40])
def test_words_have_no_pattern(low_bits):
    """Bytes cut from the words, low bits included, are equally frequent."""
    words = keyed.bits(1, 1, torch.arange(5_000), 4).flatten().numpy().view(np.uint64)
    counts = np.bincount(((words >> np.uint64(low_bits)) & np.uint64(255)).astype(int), minlength=256)
    assert stats.chisquare(counts).pvalue > 0.01


def test_streams_seeds_images_and_positions_are_independent():
    n = 20_000
    index = torch.arange(n)
    base = keyed.uniform(0, 1, index, (2,))
    others = {
        "stream": keyed.uniform(0, 2, index, (2,))[:, 0],
        "seed": keyed.uniform(1, 1, index, (2,))[:, 0],
        "seed and stream swapped": keyed.uniform(1, 0, index, (2,))[:, 0],
        "image": keyed.uniform(0, 1, index + 1, (2,))[:, 0],
        "position": base[:, 1],
    }
    for name, other in others.items():
        table, _, _ = np.histogram2d(base[:, 0].numpy(), other.numpy(), bins=8, range=[[0, 1], [0, 1]])
        assert stats.chisquare(table.ravel()).pvalue > 0.005, name
        assert abs(np.corrcoef(base[:, 0], other)[0, 1]) < 4 / np.sqrt(n), name


def test_permutation_is_fair():
    orders = np.array([keyed.permutation(seed, 1, 6).tolist() for seed in range(3_000)])
    assert (np.sort(orders, axis=1) == np.arange(6)).all()
    for place in range(6):
        assert stats.chisquare(np.bincount(orders[:, place], minlength=6)).pvalue > 0.005
