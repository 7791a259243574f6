import torch
from torch import Tensor, nn
from torch.func import vmap

from robustgap.measures._context import Context
from robustgap.measures._loss_derivatives import differentiable
from robustgap.measures._weights import Weights, logits_at, weights_of
from robustgap.measures.core import Batch, Missing, measure
from robustgap.training.attacks import cross_entropy

BUDGET = 2**28  # bytes of gradients of single images at a time


@measure(
    family="gradient",
    needs=("batches", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Jiang et al., ICLR 2020",
    formula="(1/(n-1)) sum_i ||g_i - g||_2^2,  g_i = grad_w CE(f_w(x_i), y_i),  g their mean",
    invariances=(),
)
def gradient_noise(model: nn.Module, batches: list[Batch], context: Context) -> Tensor:
    """Variance of the gradients of single images: the trace of their covariance.

        (1/(n-1)) sum_i ||g_i - g||_2^2,  g_i = grad_w CE(f_w(x_i), y_i) over all parameters,  g = (1/n) sum_i g_i
        in squared nats per squared unit of weight, >= 0;  -> (n,): n/(n-1) ||g_i - g||^2 of each image

    Unbiased for the set the images are drawn from, and not divided by ||g||^2. Gradients of as many images at a time as
    fit 256 MiB are held. About 15 forward passes in time (30 for very small nets); its count, which cannot see into a
    vectorised call, holds 3 for each group of images that is vectorised. Missing for a single image.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020 (gradient noise at the end of training), which
    uses it as a stand-in for flatness and studies its sign rather than claims one. Claim about the gap: none.
    """
    weights, centre = weights_of(model), context.mean_loss_gradient()
    n = sum(len(batch.images) for batch in batches)
    if n == 1:
        raise Missing("one image: its gradient has no variance")
    size = sum(weight.numel() * weight.element_size() for weight in weights.values())
    group = max(1, BUDGET // size)
    found = [
        squared_distances(model, weights, centre, x, y)
        for batch in batches
        for x, y in zip(batch.images.split(group), batch.labels.split(group), strict=True)
    ]
    return torch.cat(found) * n / (n - 1)


def squared_distances(model: nn.Module, weights: Weights, centre: Weights, images: Tensor, labels: Tensor) -> Tensor:
    """||g_i - g||_2^2 of each image's gradient g_i from the centre g: (n, ...), (n,) -> (n,)."""

    def logits(own: dict[str, Tensor], image: Tensor) -> Tensor:
        return logits_at(model, own, image[None])[0]

    # Each image has weights of its own and the loss stays outside: torch.func.grad, and a loss inside vmap, import a
    # compiler and sympy at first use, which takes ten times as long as the measure.
    n = len(images)
    own = {name: weight.expand(n, *weight.shape).detach().requires_grad_(True) for name, weight in weights.items()}
    with differentiable():
        try:
            found = vmap(logits)(own, images)
        except RuntimeError:  # a part of the network cannot be vectorised: functions with a backward of their own, LSTM
            found = torch.cat(
                [
                    logits({name: weight[k] for name, weight in own.items()}, image)[None]
                    for k, image in enumerate(images)
                ]
            )
        total = cross_entropy(found, labels).sum()
        gradients = torch.autograd.grad(total, list(own.values()), materialize_grads=True)
    parts = [(g - centre[name]).reshape(n, -1).square().sum(dim=1) for name, g in zip(own, gradients, strict=True)]
    return torch.stack(parts).sum(dim=0)
