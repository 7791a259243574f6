import torch
from torch import Tensor, nn

from measures.core import Batch, Missing, measure
from training import attacks

STEPS = 10
STREAM = 102


@measure(
    family="smoothness",
    needs=("batch",),
    expects={"clean": None, "adversarial": None},
    paper="Yang et al., NeurIPS 2020 (accuracy vs robustness)",
    formula="mean_i max_{x' in B_eps(x_i)} ||f(x_i) - f(x')||_1 / ||x_i - x'||_inf",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def local_lip(model: nn.Module, batch: Batch) -> Tensor:
    """Empirical local Lipschitz constant of the logits around training images.

        (1/n) sum_i max_{x' in B_eps(x_i) and [0, 1]^d} ||f(x_i) - f(x')||_1 / ||x_i - x'||_p
        images (n, c, h, w) -> (n,);  in logits per unit of pixel intensity, >= 0

    p is the threat model's norm (infinity in the paper), B_eps its ball. 10 steps of eps/4 ascend ||f(x_i) - f(x')||_1
    (along the sign of its gradient for Linf), from a uniform start in a tenth of the ball, keyed by image, so that the
    iterates pass through all radii; the largest quotient on the way is kept: a lower bound of the maximum. (Ascending
    the quotient itself stalls for Linf: the denominator's subgradient pulls the largest pixel back.) Published code
    negates the quotient and then descends, which minimises it, and returns the last iterate. Missing for eps = 0, where
    the ball is a point.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Yang et al., A Closer Look at Accuracy vs. Robustness, NeurIPS 2020, about robust accuracy. Claim about the
    gap: none.
    """
    if batch.eps == 0:
        raise Missing("eps = 0: the ball is a point")
    x, eps, norm = batch.images, batch.eps, batch.norm
    fixed = model(x)
    start = attacks.start(x, batch.index, seed=batch.seed, eps=eps / 10, norm=norm, stream=STREAM)
    moving = attacks.project(x, x + start, eps, norm)
    best = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for _ in range(STEPS):
        gradient = attacks.input_gradient(model, moving, fixed, loss=change)
        moving = attacks.project(x, moving + eps / 4 * attacks.ascent_direction(gradient, norm), eps, norm)
        best = torch.maximum(best, change(model(moving), fixed) / distance(x, moving, norm))
    return best


def change(logits: Tensor, fixed: Tensor) -> Tensor:
    """||f(x') - f(x)||_1 of each image: (n, k), (n, k) -> (n,)."""
    return (logits - fixed).abs().sum(dim=1)


def distance(x: Tensor, moving: Tensor, norm: str) -> Tensor:
    """||x - x'|| of each image in the threat model's norm: (n, ...) -> (n,); not 0 where both agree."""
    difference = (x - moving).flatten(1)
    length = difference.abs().amax(dim=1) if norm == "Linf" else difference.norm(dim=1)
    return length.clamp_min(torch.finfo(x.dtype).tiny)
