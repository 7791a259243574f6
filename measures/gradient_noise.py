import torch
from torch import Tensor, nn
from torch.func import vmap

from robustgap.measures._context import Context
from robustgap.measures._loss_derivatives import differentiable
from robustgap.measures._weights import Weights, detached_parameters, logits_at
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

    Unbiased for the set the images are drawn from, and not divided by ||g||^2. As many gradients of
    single images as fit 256 MiB are in memory at a time. Takes about as long as 15 forward passes (30 for very small
    networks); the count, which cannot see into a vectorised call, is 3 for each group of images that is vectorised.
    Missing for a single image.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020 (gradient noise at the end of training), which
    uses it as a proxy for flatness and studies its sign rather than claims one. Claim about the gap: none.
    """
    weights, centre = detached_parameters(model), context.mean_loss_gradient()
    n = sum(len(batch.images) for batch in batches)
    if n == 1:
        raise Missing("one image: its gradient has no variance")
    size = sum(weight.numel() * weight.element_size() for weight in weights.values())
    group = max(1, BUDGET // size)
    distances = [
        squared_distances(model, weights, centre, x, y)
        for batch in batches
        for x, y in zip(torch.split(batch.images, group), torch.split(batch.labels, group), strict=True)
    ]
    return torch.cat(distances) * n / (n - 1)


def squared_distances(model: nn.Module, weights: Weights, centre: Weights, images: Tensor, labels: Tensor) -> Tensor:
    """||g_i - g||_2^2 of each image's gradient g_i from the centre g: (n, ...), (n,) -> (n,)."""

    def logits_of(copy: dict[str, Tensor], image: Tensor) -> Tensor:
        return logits_at(model, copy, image[None])[0]

    # Each image has its own copy of the weights, and the loss stays outside of vmap: torch.func.grad, and a loss inside
    # vmap, import a compiler and sympy at first use, which takes ten times as long as the measure.
    n = len(images)
    copies = {name: weight.expand(n, *weight.shape).detach().requires_grad_(True) for name, weight in weights.items()}
    with differentiable():
        try:
            logits = vmap(logits_of)(copies, images)
        except RuntimeError:  # some module cannot be vectorised: a function with a custom backward, an LSTM
            single = [{name: weight[k] for name, weight in copies.items()} for k in range(n)]
            logits = torch.stack([logits_of(copy, image) for copy, image in zip(single, images, strict=True)])
        total = cross_entropy(logits, labels).sum()
        gradients = torch.autograd.grad(total, list(copies.values()), materialize_grads=True)
    squares = [(g - centre[name]).reshape(n, -1).square().sum(dim=1) for name, g in zip(copies, gradients, strict=True)]
    return torch.stack(squares).sum(dim=0)
