"""Norms of layers as the linear maps that they are: with true stride, padding, dilation, groups and input size."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

from robustgap.measures._state import removed_afterwards
from robustgap.measures._weights import matrices, plain_layer
from robustgap.measures.core import Missing
from robustgap.training import keyed

TOLERANCE = 1e-3  # residual of the eigenpair of A^T A over its eigenvalue: the norm is then within 0.05 %
RESTARTS = 100  # of the Lanczos iteration, about 10 products with A^T A each
DENSE = 64  # inputs up to which the matrix is formed
STREAM = 170  # of the random start

Layer = nn.Linear | nn.modules.conv._ConvNd


def operator_norms(model: nn.Module, shape: tuple[int, ...]) -> list[float]:
    """Largest singular value of every linear layer and convolution that an image of that shape passes through.

    In the order of the model's modules; a layer used at several input sizes counts once, with its largest norm.
    Raises Missing where the iteration does not converge, for weights that are not finite, and for a model with weight
    matrices of other kinds.
    """
    matrices(model)  # raises for weight matrices of other kinds
    sizes: dict[str, set[tuple[int, ...]]] = {}
    with _input_sizes(model, sizes):
        model(torch.zeros(1, *shape).to(next(model.parameters())))
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, Layer) and name in sizes]
    if not layers:
        raise Missing("an image passes through no linear layer or convolution")
    for name, layer in layers:
        if not torch.isfinite(layer.weight).all():
            raise Missing(f"the weights of {name} are not finite")
    return [max(operator_norm(layer, size, name) for size in sizes[name]) for name, layer in layers]


@contextmanager
def _input_sizes(model: nn.Module, sizes: dict[str, set[tuple[int, ...]]]) -> Iterator[None]:
    """Records in `sizes` the sizes, without the batch dimension, of the inputs of each layer."""

    def record(name: str, layer: Layer, inputs: tuple[Any, ...]) -> None:
        dimensions = 1 if isinstance(layer, nn.Linear) else layer.weight.dim() - 1
        sizes.setdefault(name, set()).add(tuple(inputs[0].shape[-dimensions:]))

    handles = [
        module.register_forward_pre_hook(lambda layer, inputs, name=name: record(name, layer, inputs))
        for name, module in model.named_modules()
        if isinstance(module, Layer)
    ]
    with removed_afterwards(handles):
        yield


def operator_norm(layer: Layer, size: tuple[int, ...], name: str = "the layer") -> float:
    """max ||A x|| / ||x|| of the linear map A of a layer (its bias left out) on inputs of that size, in float64.

    Up to DENSE inputs from the matrix of A^T A; beyond, by Lanczos iteration with restarts (ARPACK) on x -> A^T A x,
    the gradient of ||A x||^2 / 2, from a random start. Raises Missing where it does not converge.
    """
    if isinstance(layer, nn.Linear):
        return float(torch.linalg.matrix_norm(layer.weight.detach().double(), ord=2))
    if not layer.weight.any():
        return 0.0
    plain = plain_layer(layer, layer.weight.detach().double(), None)

    def gram(x: Tensor) -> Tensor:
        """A^T A x of each row: (n, inputs) -> (n, inputs)."""
        with torch.enable_grad():
            x = x.reshape(-1, *size).requires_grad_()
            energy = plain.forward(x).square().sum() / 2
            return torch.autograd.grad(energy, x)[0].flatten(1)

    inputs, device = math.prod(size), layer.weight.device
    if inputs <= DENSE:
        eigenvalues = torch.linalg.eigvalsh(gram(torch.eye(inputs, dtype=torch.float64, device=device)))
        return math.sqrt(eigenvalues[-1].clamp(min=0))
    start = keyed.normal(0, STREAM, torch.zeros(1, dtype=torch.int64), (inputs,))[0]
    return math.sqrt(_largest_eigenvalue(gram, start.to(device), name))


def _largest_eigenvalue(gram: Callable[[Tensor], Tensor], start: Tensor, name: str) -> float:
    """Largest eigenvalue of a positive semidefinite map of vectors like `start`, to a relative residual of
    TOLERANCE."""
    products = 0

    def product(vector: np.ndarray) -> np.ndarray:
        nonlocal products
        products += 1
        return gram(torch.tensor(vector).reshape(1, -1).to(start.device))[0].cpu().numpy()

    operator = LinearOperator((len(start), len(start)), matvec=product, dtype=np.float64)
    options = {"k": 1, "tol": TOLERANCE, "maxiter": RESTARTS, "v0": start.cpu().numpy(), "rng": 0}
    try:
        return float(eigsh(operator, return_eigenvectors=False, **options)[0])
    except ArpackNoConvergence as error:
        raise Missing(f"the norm of {name} did not converge in {products} products with A^T A") from error
