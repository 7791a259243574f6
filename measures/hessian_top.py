import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robustgap.measures._loss_derivatives import hessian
from robustgap.measures._noise import gaussian_noise
from robustgap.measures._weights import detached_parameters, norm
from robustgap.measures.core import Batch, Missing, measure

STEPS = 80
FEWEST = 8  # steps, in case the start is nearly orthogonal to the top eigenvector
TOLERANCE = 1e-3  # of the residual, relative to the eigenvalue
STREAM = 7_000  # and onwards: one stream of keyed numbers per parameter

Vector = dict[str, Tensor]


@measure(
    family="flatness",
    needs=("batches",),
    expects={"clean": None, "adversarial": None},
    paper="Keskar et al., ICLR 2017",
    formula="lambda_max(grad^2 L(w))",
    invariances=(),
)
def hessian_top(model: nn.Module, batches: list[Batch]) -> float:
    """Largest eigenvalue of the Hessian of the mean loss with respect to all parameters.

        lambda_max(H),  H = grad_w^2 (1/n) sum_i CE(f_w(x_i), y_i);  in nats per squared unit of weight

    Lanczos on products with the Hessian of the whole set (sums over evaluation batches), from a start keyed by seed and
    parameter, for at least 8 steps and until ||H z - lambda z|| <= 0.001 |lambda| for the unit Ritz vector z: an
    eigenvalue then lies within 0.1 % of the value, and it is the largest unless the start was nearly orthogonal to the
    eigenvectors of larger ones. Three vectors of the size of the weights are kept. Missing, with the residual, where 80
    steps are not enough. The largest eigenvalue, not the largest in absolute value. Second derivatives come from
    autograd: kinks of ReLU count as flat. No standard error. A product takes about as long as 8 forward passes of each
    image; 8 to 20 products are usual, 80 the maximum. The count is 3 for all products together where the images are one
    evaluation batch, else 3 for each product.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed.
    Paper: Keskar et al., On Large-Batch Training, ICLR 2017, whose sharpness stands for the spectrum of the Hessian;
    Yao et al., PyHessian, 2020 (power iteration: the largest in absolute value). Both are about test accuracy; claim
    about the gap: none.
    """
    weights = detached_parameters(model)
    if not weights:
        raise Missing("the model has no parameters")
    start = gaussian_noise(weights, batches[0].seed, STREAM, 0)
    return lanczos(hessian_product(model, weights, batches), start)


def hessian_product(model: nn.Module, weights: Vector, batches: Sequence[Batch]) -> Callable[[Vector], Vector]:
    """v -> H v for the Hessian H of the mean cross-entropy over all images; for a single batch the graph is kept."""
    n = sum(len(batch.images) for batch in batches)
    reusable = hessian(model, weights, batches[0].images, batches[0].labels) if len(batches) == 1 else None

    def times(vector: Vector) -> Vector:
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for batch in batches:
            curvature = reusable or hessian(model, weights, batch.images, batch.labels)
            for name, product in curvature.times(vector).items():
                total[name] += product / n
        return total

    return times


def lanczos(times: Callable[[Vector], Vector], start: Vector) -> float:
    """Largest eigenvalue of a symmetric map; NaN where the map gives NaN. Raises Missing where it does not converge.

    The three-term recurrence without re-orthogonalisation: lost orthogonality repeats eigenvalues that have already
    converged, and does no harm.
    """
    length = norm(start)
    vector = {name: entries / length for name, entries in start.items()}
    previous, beta = {name: torch.zeros_like(entries) for name, entries in start.items()}, 0.0
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    for _ in range(STEPS):
        product = times(vector)
        alpha = sum(float((product[name].double() * entries.double()).sum()) for name, entries in vector.items())
        if not math.isfinite(alpha):
            return math.nan
        rest = {name: product[name] - alpha * entries - beta * previous[name] for name, entries in vector.items()}
        diagonal.append(alpha)
        values, vectors = torch.linalg.eigh(tridiagonal(diagonal, off_diagonal))
        beta = norm(rest)
        value, residual = float(values[-1]), beta * abs(float(vectors[-1, -1]))
        if residual <= TOLERANCE * abs(value) and (len(diagonal) >= FEWEST or beta <= TOLERANCE**2 * abs(value)):
            return value
        off_diagonal.append(beta)
        previous, vector = vector, {name: entries / beta for name, entries in rest.items()}
    raise Missing(f"Lanczos did not converge: eigenvalue {value:.4g} +- {residual:.2g} after {STEPS} steps")


def tridiagonal(diagonal: list[float], off_diagonal: list[float]) -> Tensor:
    """The symmetric tridiagonal matrix with this diagonal (k) and off-diagonal (k - 1), in float64."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(off_diagonal, dtype=torch.float64)
    return matrix + torch.diag(off, 1) + torch.diag(off, -1)
