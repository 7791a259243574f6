import math

import torch
from torch import Tensor, nn

from robustgap.measures._boundary_segments import STEPS, segments
from robustgap.measures._context import Context
from robustgap.measures.boundary_thickness import ALPHA, BETA, POINTS
from robustgap.measures.core import Batch, Missing, mean, measure
from robustgap.training import attacks

DOUBLINGS = 4  # of the budget, at most


@measure(
    family="margin",
    needs=("batches", "context"),
    expects={"clean": -1, "adversarial": None},
    paper="Yang et al., NeurIPS 2020 (boundary thickness)",
    formula="mean_i ||x_i - x_i'||_2 |{t: 0 < p_a(x(t)) - p_b(x(t)) < 0.75}|,  budget doubled until x_i' is of class b",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def boundary_thickness_crossing(model: nn.Module, batches: list[Batch], context: Context) -> tuple[float, float]:
    """Boundary thickness on segments that do cross the boundary: the budget doubles until they do.

        (1/m) sum_i ||x_i - x_i'||_2 (1/128) #{k: alpha < p_a(x(t_k)) - p_b(x(t_k)) < beta},  the m images that cross
        x(t) = t x_i + (1 - t) x_i',  t_k = k/127,  k = 0 .. 127,  p = softmax(f),  alpha = 0, beta = 0.75
        images (n, c, h, w);  L2 length in units of pixel intensity, >= 0

    a, b and the attack are those of boundary_thickness: a targeted L2 PGD from x_i towards b, 20 steps of budget/25
    inside [0, 1], so that x_i' lies at most 0.8 budget away. The budget starts at 5 sqrt(d/3072) for d pixel values; an
    image that does not end in class b is attacked anew from x_i with twice the budget, up to 4 times (to 16 times the
    budget), and x_i' is the first end in class b. Where class b is never reached the image is missing: it is left out
    of the mean, and a note says how many are (those furthest from b, so the mean is of the others alone). Missing where
    no image reaches it. One number from the images that cross, so target_se stops nothing. Costs 62 forward passes of
    each image for each budget that is tried, and 128 of one that crosses.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Yang et al., Boundary thickness and robustness in learning models, NeurIPS 2020, whose segments mostly cross:
    see boundary_thickness. Thin boundaries go with a large robust generalization gap, so -1; none for the adversarial
    variant, which it does not have.
    """
    found = [thickness(model, batch, context) for batch in batches]
    lengths = torch.cat(found).double()
    crossing = lengths[~lengths.isnan()]
    if not len(crossing):
        raise Missing(f"none of {len(lengths)} segments reaches the other class, with {2**DOUBLINGS} times the budget")
    left_out = len(lengths) - len(crossing)
    batches[0].notes["segments reach the other class with no budget: left out"] += left_out
    return mean(crossing)


def thickness(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Of each image, NaN where no segment crosses: (n,). Raises Missing where logits are not finite."""
    path, x = segments(model, batch, context), batch.images
    if bad := int((~torch.isfinite(context.logits(batch)).all(dim=1)).sum()):
        raise Missing(f"logits are not finite for {bad} of {len(x)} images")
    end, short = path.end.clone(), path.logits.argmax(dim=1) != path.other
    budget = 5.0 * math.sqrt(x[0].numel() / 3072)
    for doubling in range(1, DOUBLINGS + 1):
        left = short.nonzero()[:, 0]
        if not len(left):
            break
        wide = budget * 2**doubling
        given = {"eps": wide, "noise": None, "norm": "L2", "steps": STEPS, "step": wide / 25, "targeted": True}
        end[left] = attacks.pgd(model, x[left], path.other[left], **given)
        short[left] = model(end[left]).argmax(dim=1) != path.other[left]
    lengths = torch.full((len(x),), torch.nan, dtype=x.dtype, device=x.device)
    across = (~short).nonzero()[:, 0]
    if len(across):
        lengths[across] = undecided(model, x[across], end[across], path.own[across], path.other[across])
    return lengths


def undecided(model: nn.Module, x: Tensor, end: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Length of the part of each segment from `end` to x on which alpha < p_own - p_other < beta: (n,)."""
    inside = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for t in torch.linspace(0, 1, POINTS, dtype=torch.float64).tolist():
        p = model(t * x + (1 - t) * end).softmax(dim=1)
        difference = (p.gather(1, own[:, None]) - p.gather(1, other[:, None]))[:, 0]
        inside += (difference > ALPHA) & (difference < BETA)
    return (x - end).flatten(1).norm(dim=1) * inside / POINTS
