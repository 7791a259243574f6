import torch
from torch import Tensor, nn

from robustgap.measures._loss_derivatives import hessian
from robustgap.measures._noise import rademacher_noise
from robustgap.measures._weights import Weights, detached_parameters
from robustgap.measures.core import Batch, Missing, mean, measure
from robustgap.training import keyed

GROUPS = 16  # of images, each with its own draws: the spread of their means shows the sampling error of both
DRAWS = 3  # of each group
STREAM = 6_000  # and onwards: one stream of keyed numbers per parameter
GROUP_STREAM = 5_999


@measure(
    family="flatness",
    needs=("batches",),
    expects={"clean": None, "adversarial": None},
    paper="Yao et al., IEEE Big Data 2020 (PyHessian)",
    formula="tr(grad^2 L(w)) = E_v v^T grad^2 L(w) v,  v_i = +-1,  3 draws for each of 16 groups of images",
    invariances=(),
)
def hessian_trace(model: nn.Module, batches: list[Batch]) -> tuple[float, float]:
    """Trace of the Hessian of the mean loss with respect to all parameters, estimated.

        tr H = E_v v^T H v,  H = grad_w^2 (1/n) sum_i CE(f_w(x_i), y_i),  v with independent entries +1 or -1
        in nats per squared unit of weight

    Hutchinson's estimator, with separate draws for each of 16 random groups of images (keyed by their identity): the
    mean over groups of (1/3) sum_j v_gj^T H_g v_gj, H_g the Hessian of the mean loss of group g; unbiased. Groups are
    independent in images and draws, so the spread of their numbers gives the standard error, s / sqrt(16); it was about
    a sixth of the value for 128 images on a small ResNet. v is keyed by (seed, parameter, group, draw). Second
    derivatives come from autograd: kinks of ReLU count as flat. BatchNorm's scales and shifts are parameters like the
    others. The draws of a group share one pass and its gradient, counted as 3 forward passes of each image; the whole
    takes about as long as 30.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed.
    Paper: Yao et al., PyHessian, 2020 (draws until the estimate settles); sharpness and generalization: Keskar et al.,
    ICLR 2017, about test accuracy. Claim about the gap: none.
    """
    weights = detached_parameters(model)
    if not weights:
        raise Missing("the model has no parameters")
    groups = enumerate(image_groups(batches))
    return mean(torch.stack([quadratic_form(model, weights, batches[0].seed, g, *group) for g, group in groups]))


def image_groups(batches: list[Batch]) -> list[tuple[Tensor, Tensor, float, int]]:
    """The images in GROUPS random groups of nearly equal size, keyed by their identity: (images, labels, weight with
    which the mean over groups is the mean over images, images at a time)."""
    images, labels, index = (torch.cat([getattr(b, name) for b in batches]) for name in ("images", "labels", "index"))
    order = keyed.bits(batches[0].seed, GROUP_STREAM, index, 1)[:, 0].argsort(stable=True)
    groups = order.tensor_split(min(GROUPS, len(order)))
    return [(images[rows], labels[rows], len(groups) / len(order), len(batches[0].images)) for rows in groups]


def quadratic_form(
    model: nn.Module, weights: Weights, seed: int, group: int, images: Tensor, labels: Tensor, weight: float, size: int
) -> Tensor:
    """weight * v^T H v, averaged over the draws v of that group, H the Hessian of the summed loss: () float64."""
    total = torch.zeros((), dtype=torch.float64, device=images.device)
    draws = [rademacher_noise(weights, seed, STREAM, group * DRAWS + draw) for draw in range(DRAWS)]
    for x, y in zip(torch.split(images, size), torch.split(labels, size), strict=True):
        curvature = hessian(model, weights, x, y)
        for v in draws:
            total += sum((product.double() * v[name]).sum() for name, product in curvature.times(v).items())
    return weight * total / DRAWS
