from torch import Tensor, nn

from robustgap.measures._boundary_segments import segments
from robustgap.measures._context import Context
from robustgap.measures.core import Batch, measure


@measure(
    family="margin",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Yang et al., NeurIPS 2020 (boundary thickness; a count that the paper leaves out)",
    formula="share of images that a targeted L2 PGD does not move to a random other class",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def boundary_unreached(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Share of the segments of boundary_thickness that end before the other class.

        (1/n) sum_i [ argmax_k f(x_i')[k] != b_i ];  no unit, in [0, 1];  images (n, c, h, w) -> (n,) of 0 and 1

    b_i is a class other than the predicted one, drawn at random (keyed by image), and x_i' ends a targeted L2 PGD from
    x_i towards b_i: budget 5 sqrt(d/3072) for d pixel values, 20 steps of budget/25, inside [0, 1]: at most 0.8 budget
    from x_i. These are the segments of boundary_thickness, made once for both. On those that end early the thickness
    covers only part of the way, so this share says how far boundary_thickness can be trusted.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: the segments are those of Yang et al., Boundary thickness and robustness in learning models, NeurIPS 2020,
    which counts every segment alike and does not report this share. Claim about the gap: none.
    """
    return segments(model, batch, context).unreached()
