import torch
from torch import Tensor, nn

from robustgap.measures._boundary_segments import budget, segment_ends, segments, undecided_length
from robustgap.measures._context import Context
from robustgap.measures.core import Batch, Missing, mean, measure

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
    no image reaches it. One number from the images that cross, so target_se has no effect. Costs 62 forward passes of
    each image for each budget that is tried, and 128 for one that crosses.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Yang et al., Boundary thickness and robustness in learning models, NeurIPS 2020, whose segments mostly cross:
    see boundary_thickness. Thin boundaries go with a large robust generalization gap, so -1; none for the adversarial
    variant, which it does not have.
    """
    lengths = torch.cat([thickness(model, batch, context) for batch in batches]).double()
    crossing = lengths[~lengths.isnan()]
    if not len(crossing):
        raise Missing(f"none of {len(lengths)} segments reaches the other class, with {2**DOUBLINGS} times the budget")
    left_out = len(lengths) - len(crossing)
    batches[0].notes["segments reach the other class with no budget: left out"] += left_out
    return mean(crossing)


def thickness(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Thickness at each image, NaN where no segment crosses: (n,). Raises Missing where logits are not finite."""
    path, x = segments(model, batch, context), batch.images
    if bad := int((~torch.isfinite(context.logits(batch)).all(dim=1)).sum()):
        raise Missing(f"logits are not finite for {bad} of {len(x)} images")
    end, short = path.end.clone(), path.logits.argmax(dim=1) != path.target
    for doubling in range(1, DOUBLINGS + 1):
        rows = short.nonzero()[:, 0]
        if not len(rows):
            break
        end[rows] = segment_ends(model, x[rows], path.target[rows], budget(x) * 2**doubling)
        short[rows] = model(end[rows]).argmax(dim=1) != path.target[rows]
    lengths = torch.full((len(x),), torch.nan, dtype=x.dtype, device=x.device)
    rows = (~short).nonzero()[:, 0]
    if len(rows):
        lengths[rows] = undecided_length(model, x[rows], end[rows], path.predicted[rows], path.target[rows], {})
    return lengths
