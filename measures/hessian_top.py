import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robustgap.measures._loss_derivatives import hessian
from robustgap.measures._noise import normal
from robustgap.measures._weights import norm, weights_of
from robustgap.measures.core import Batch, Missing, measure

STEPS = 80
FEWEST = 8  # steps, lest the start be nearly orthogonal to the top of a spectrum with little below it
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
    parameter, for at least 8 steps and until ||H z - lambda z|| <= 0.001 |lambda| for its unit vector z: an eigenvalue
    then lies within 0.1 % of the value, and it is the largest unless the start was nearly orthogonal to the vectors of
    larger ones. Three vectors of the size of the weights are kept. Missing, with the residual, where 80 steps are not
    enough. The largest, not the largest in absolute value. Second derivatives are automatic: kinks of ReLU count as
    flat. No standard error. A product costs about 8 forward passes of each image in time; 8 to 20 are usual, 80 the
    most. The count holds 3 for all products where the images are one evaluation batch, else 3 for each.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed.
    Paper: Keskar et al., On Large-Batch Training, ICLR 2017, whose sharpness stands for the spectrum of the Hessian;
    Yao et al., PyHessian, 2020 (power iteration: the largest in absolute value). Both are about test accuracy; claim
    about the gap: none.
    """
    weights = weights_of(model)
    if not weights:
        raise Missing("the model has no parameters")
    seed = batches[0].seed
    start = {name: normal(weight, seed, STREAM + place, 0) for place, (name, weight) in enumerate(weights.items())}
    return lanczos(product(model, weights, batches), start)


def product(model: nn.Module, weights: Vector, batches: Sequence[Batch]) -> Callable[[Vector], Vector]:
    """v -> H v for the Hessian H of the mean cross-entropy over all images; of a single batch the graph is kept."""
    n = sum(len(batch.images) for batch in batches)
    kept = hessian(model, weights, batches[0].images, batches[0].labels) if len(batches) == 1 else None

    def times(vector: Vector) -> Vector:
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for batch in batches:
            curvature = kept or hessian(model, weights, batch.images, batch.labels)
            for name, part in curvature.times(vector).items():
                total[name] += part / n
        return total

    return times


def lanczos(times: Callable[[Vector], Vector], start: Vector) -> float:
    """Largest eigenvalue of a symmetric map; nan where the map gives nan. Raises Missing without convergence.

    The three-term recurrence without re-orthogonalisation: lost orthogonality repeats eigenvalues that have already
    converged, and harms none.
    """
    length = norm(start)
    vector = {name: part / length for name, part in start.items()}
    previous, beta = {name: torch.zeros_like(part) for name, part in start.items()}, 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(STEPS):
        product = times(vector)
        alpha = sum(float((product[name].double() * part.double()).sum()) for name, part in vector.items())
        if not math.isfinite(alpha):
            return math.nan
        rest = {name: product[name] - alpha * part - beta * previous[name] for name, part in vector.items()}
        diagonal.append(alpha)
        values, vectors = torch.linalg.eigh(tridiagonal(diagonal, beside))
        beta = norm(rest)
        value, residual = float(values[-1]), beta * abs(float(vectors[-1, -1]))
        if residual <= TOLERANCE * abs(value) and (len(diagonal) >= FEWEST or beta <= TOLERANCE**2 * abs(value)):
            return value
        beside.append(beta)
        previous, vector = vector, {name: part / beta for name, part in rest.items()}
    raise Missing(f"Lanczos did not converge: eigenvalue {value:.4g} +- {residual:.2g} after {STEPS} steps")


def tridiagonal(diagonal: list[float], beside: list[float]) -> Tensor:
    """The symmetric matrix with these numbers on its diagonal (k) and beside it (k - 1), in float64."""
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    off = torch.tensor(beside, dtype=torch.float64)
    return matrix + torch.diag(off, 1) + torch.diag(off, -1)
