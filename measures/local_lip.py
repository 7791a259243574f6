from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._lipschitz import steepest_change
from robustgap.measures.core import Batch, measure

STREAM = 102


@measure(
    family="smoothness",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Yang et al., NeurIPS 2020 (accuracy vs robustness)",
    formula="mean_i max_{x' in B_eps(x_i)} ||f(x_i) - f(x')||_1 / ||x_i - x'||_inf",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def local_lip(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Empirical local Lipschitz constant of the logits around training images.

        (1/n) sum_i max_{x' in B_eps(x_i) and [0, 1]^d} ||f(x_i) - f(x')||_1 / ||x_i - x'||_p
        images (n, c, h, w) -> (n,);  in logits per unit of pixel intensity, >= 0

    p is the threat model's norm (infinity in the paper), B_eps its ball. 10 steps of eps/4 ascend ||f(x_i) - f(x')||_1
    (along the sign of its gradient for Linf) from the best of four starts in a tenth of the ball (measures/_ascent.py),
    so that the iterates pass through all radii; the largest quotient among them is kept: a lower bound of the maximum.
    Published code starts at 0.001 times normal noise, negates the quotient and then descends, which minimises it, and
    returns the last iterate. Missing for eps = 0, where the ball is a point.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Yang et al., A Closer Look at Accuracy vs. Robustness, NeurIPS 2020, about robust accuracy. Claim about the
    gap: none.
    """
    return steepest_change(model, batch, context, l1_distance, stream=STREAM, radius=0.1)


def l1_distance(logits: Tensor, other: Tensor) -> Tensor:
    """||f(x) - f(x')||_1 of each image: (n, k), (n, k) -> (n,)."""
    return (other - logits).abs().sum(dim=1)
