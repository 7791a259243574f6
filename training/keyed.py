"""Random numbers keyed by (seed, stream, image index): the same image gets the same numbers in any batch and order.

A counter-based generator: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) applied to a key made from
seed, stream and image index, and to the position inside the image. Integer arithmetic modulo 2**64, so results agree
between devices; nothing touches torch's global random state. `stream` separates uses (attack start, augmentation,
draw number ...) so that no two of them share numbers.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX1
    z = (z ^ _shift(z, 27)) * _MIX2
    return z ^ _shift(z, 31)


def bits(seed: int, stream: int, index: Tensor, count: int) -> Tensor:
    """`count` 64-bit words for each image: index (n,) int64 -> (n, count) int64."""
    # filled on the device: copying a tensor there would make the host wait
    first, second = (torch.full((), word, dtype=torch.int64, device=index.device) for word in (seed, stream))
    key = _mix(_mix(first + _GOLDEN) + second * _GOLDEN)
    image = _mix(key + (index.to(torch.int64) + 1) * _GOLDEN)
    position = torch.arange(1, count + 1, dtype=torch.int64, device=index.device) * _GOLDEN
    return _mix(image[:, None] + position[None, :])


def uniform(seed: int, stream: int, index: Tensor, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Tensor:
    """U[low, high) in float64 of shape (n, *shape), n = len(index)."""
    words = bits(seed, stream, index, math.prod(shape))
    unit = _shift(words, 11).to(torch.float64) * 2.0**-53
    return (low + (high - low) * unit).reshape(len(index), *shape)


def normal(seed: int, stream: int, index: Tensor, shape: Sequence[int]) -> Tensor:
    """N(0, 1) in float64 of shape (n, *shape), by Box-Muller, from two uniforms per number."""
    count = math.prod(shape)
    unit = uniform(seed, stream, index, (2, count))
    radius = torch.sqrt(-2.0 * torch.log1p(-unit[:, 0]))
    return (radius * torch.cos(2 * math.pi * unit[:, 1])).reshape(len(index), *shape)


def permutation(seed: int, stream: int, n: int, device: torch.device | str = "cpu") -> Tensor:
    """A random order of 0 .. n-1, as int64 (n,)."""
    words = bits(seed, stream, torch.arange(n, device=device), 1)[:, 0]
    return torch.argsort(words, stable=True)
