"""Random tensors of the shapes of weights, keyed by (seed, stream, draw); weight number k has stream + k."""

from collections.abc import Mapping

import torch
from torch import Tensor

from robustgap.training import keyed


def gaussian_noise(weights: Mapping[str, Tensor], seed: int, stream: int, draw: int) -> dict[str, Tensor]:
    """Independent N(0, 1) numbers for every weight."""
    return {
        name: keyed.normal(seed, stream + k, _index(draw, weight), (weight.numel(),)).reshape(weight.shape).to(weight)
        for k, (name, weight) in enumerate(weights.items())
    }


def rademacher_noise(weights: Mapping[str, Tensor], seed: int, stream: int, draw: int) -> dict[str, Tensor]:
    """Independent +1 and -1 for every weight, each with probability 1/2."""
    signs = {}
    for k, (name, weight) in enumerate(weights.items()):
        uniform = keyed.uniform(seed, stream + k, _index(draw, weight), (weight.numel(),))
        signs[name] = torch.where(uniform < 0.5, -1.0, 1.0).reshape(weight.shape).to(weight)
    return signs


def sphere_noise(weights: Mapping[str, Tensor], radius: float, seed: int, stream: int, draw: int) -> dict[str, Tensor]:
    """For every weight w a vector of length radius ||w||_2 in a uniformly random direction."""
    vectors = {}
    for k, (name, weight) in enumerate(weights.items()):
        noise = keyed.normal(seed, stream + k, _index(draw, weight), (weight.numel(),)).reshape(weight.shape)
        vectors[name] = (radius * weight.double().norm() * noise / noise.norm()).to(weight)
    return vectors


def _index(draw: int, weight: Tensor) -> Tensor:
    return torch.tensor([draw], device=weight.device)
