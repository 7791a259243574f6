"""Norms of the layers' weight matrices, and their sums and products."""

import math
from collections.abc import Sequence

from torch import Tensor

from robustgap.measures._context import Context, finite
from robustgap.measures._weights import Weights, matrices
from robustgap.measures.core import Missing


def logarithms(squares: Sequence[float]) -> list[float]:
    """log of each layer's squared norm. Raises Missing where one is zero."""
    if zeros := sum(square == 0 for square in squares):
        raise Missing(f"{zeros} of {len(squares)} layers are zero, and the norm of zero has no logarithm")
    return [math.log(square) for square in squares]


def spectral(context: Context) -> list[float]:
    """||W_l||_2^2 of each layer: its largest singular value, squared."""
    return [float(values[0]) ** 2 for values in context.singular_values()]


def frobenius(context: Context) -> list[float]:
    """||W_l||_F^2 of each layer: the sum of its squared weights."""
    return [float(matrix.square().sum()) for matrix in context.matrices()]


def log_sum(logs: Sequence[float], log_square_margin: float = 0.0) -> float:
    """log of d (prod_l s_l / gamma^2)^(1/d) from the d numbers log s_l and log gamma^2.

    By the inequality of means this is the log of the smallest sum of squared norms sum_l s_l that rescaling the layers
    of a positively homogeneous network can reach: the norms are equal then, and their product is unchanged.
    """
    return math.log(len(logs)) + (sum(logs) - log_square_margin) / len(logs)


def displacements(context: Context, initial: Weights) -> list[Tensor]:
    """W_l - W_l^0, the displacement of each layer from its initial weights, as float64 matrices.

    Raises Missing where either is not finite, where layers are parametrized, and as `matrices` does.
    """
    initial_matrices = finite(matrices(context.model, initial), "initial weights")
    return [trained - start for trained, start in zip(context.matrices(), initial_matrices, strict=True)]
