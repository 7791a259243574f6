from collections.abc import Sequence

import torch
from torch import Tensor, nn

from measures._directional import hessian
from measures._noise import signs
from measures._weights import Weights, weights_of
from measures.core import Batch, Missing, mean, measure
from training import keyed

DRAWS = 10
GROUPS = 8  # of images, whose means tell what the sampling of images does
STREAM = 6_000  # and onwards: one stream of keyed numbers per parameter
GROUP_STREAM = 5_999


@measure(
    family="flatness",
    needs=("batches",),
    expects={"clean": None, "adversarial": None},
    paper="Yao et al., IEEE Big Data 2020 (PyHessian)",
    formula="tr(grad^2 L(w)) = E_v v^T grad^2 L(w) v,  v_i = +-1,  10 draws",
    invariances=(),
)
def hessian_trace(model: nn.Module, batches: list[Batch]) -> tuple[float, float]:
    """Trace of the Hessian of the mean loss with respect to all parameters, estimated.

        tr H = E_v v^T H v,  H = grad_w^2 (1/n) sum_i CE(f_w(x_i), y_i),  v with independent entries +1 or -1
        in nats per squared unit of weight

    Hutchinson's estimator: the mean over 10 draws, unbiased, each with variance 2 sum_{k != l} H_kl^2. v is keyed by
    (seed, parameter, draw). The standard error is that of the draws beside that of image sampling, which is seen from
    8 groups of images, drawn by their identity: a number for each image costs three times as much. Second derivatives
    are automatic: kinks of ReLU count as flat. BatchNorm's scales and shifts are parameters like the others. All draws
    share one pass and its gradient, counted as 3 forward passes of each image; the whole costs about 60.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed.
    Paper: Yao et al., PyHessian, 2020 (draws until the estimate settles); sharpness and
    generalization: Keskar et al., ICLR 2017, about test accuracy. Claim about the gap: none.
    """
    weights = weights_of(model)
    if not weights:
        raise Missing("the model has no parameters")
    seed = batches[0].seed
    draws = [
        {name: signs(w, seed, STREAM + place, draw).to(torch.int8) for place, (name, w) in enumerate(weights.items())}
        for draw in range(DRAWS)
    ]
    forms = torch.stack([quadratic_forms(model, weights, draws, *part) for part in grouped(batches)])
    return mean(forms)


def grouped(batches: list[Batch]) -> list[tuple[Tensor, Tensor, float, int]]:
    """The images in GROUPS groups of nearly one size, in an order drawn by their identity: (images, labels, weight that
    makes the mean over groups the mean over images, images at a time)."""
    images, labels, index = (torch.cat([getattr(b, name) for b in batches]) for name in ("images", "labels", "index"))
    order = keyed.bits(batches[0].seed, GROUP_STREAM, index, 1)[:, 0].argsort(stable=True)
    parts = order.tensor_split(min(GROUPS, len(order)))
    return [(images[p], labels[p], len(parts) / len(order), len(batches[0].images)) for p in parts]


def quadratic_forms(
    model: nn.Module,
    weights: Weights,
    draws: Sequence[Weights],
    images: Tensor,
    labels: Tensor,
    weight: float,
    size: int,
) -> Tensor:
    """weight * v^T H v of each draw v, H the Hessian of the sum of the losses: (draws,) in float64."""
    found = torch.zeros(len(draws), dtype=torch.float64, device=images.device)
    for x, y in zip(images.split(size), labels.split(size), strict=True):
        curvature = hessian(model, weights, x, y)
        for place, v in enumerate(draws):
            products = curvature.times({name: part.to(weights[name]) for name, part in v.items()})
            found[place] += sum((p.double() * v[name]).sum() for name, p in products.items())
    return weight * found
