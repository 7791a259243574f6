"""Random tensors of the shapes of weights, keyed by (seed, stream, draw); weight number k has stream + k."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from robustgap.training import keyed


def gaussian_noise(weights: Mapping[str, Tensor], seed: int, stream: int, draw: int) -> dict[str, Tensor]:
    """Independent N(0, 1) numbers for every weight."""
    return {name: noise.to(weights[name]) for name, noise in _drawn(keyed.normal, weights, seed, stream, draw).items()}


def rademacher_noise(weights: Mapping[str, Tensor], seed: int, stream: int, draw: int) -> dict[str, Tensor]:
    """Independent +1 and -1 for every weight, each with probability 1/2."""
    uniform = _drawn(keyed.uniform, weights, seed, stream, draw)
    return {name: torch.where(uniform[name] < 0.5, -1.0, 1.0).to(weight) for name, weight in weights.items()}


def sphere_noise(weights: Mapping[str, Tensor], radius: float, seed: int, stream: int, draw: int) -> dict[str, Tensor]:
    """For every weight w a vector of length radius ||w||_2 in a uniformly random direction."""
    normal = _drawn(keyed.normal, weights, seed, stream, draw)
    return {
        name: (radius * weight.double().norm() * normal[name] / normal[name].norm()).to(weight)
        for name, weight in weights.items()
    }


def _drawn(
    distribution: Callable[..., Tensor], weights: Mapping[str, Tensor], seed: int, stream: int, draw: int
) -> dict[str, Tensor]:
    """Numbers from a distribution of training.keyed for every weight, in float64."""
    noise = {}
    for k, (name, weight) in enumerate(weights.items()):
        index = torch.tensor([draw], device=weight.device)
        noise[name] = distribution(seed, stream + k, index, (weight.numel(),)).reshape(weight.shape)
    return noise
