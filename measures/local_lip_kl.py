from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._divergence import kl
from robustgap.measures._lipschitz import steepest_change
from robustgap.measures.core import Batch, measure

STREAM = 103


@measure(
    family="smoothness",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Yang et al., NeurIPS 2020 (accuracy vs robustness; its code)",
    formula="mean_i max_{x' in B_eps(x_i)} KL( softmax f(x_i) || softmax f(x') ) / ||x_i - x'||_inf",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def local_lip_kl(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Empirical local Lipschitz constant of the predicted distribution, in Kullback-Leibler divergence.

        (1/n) sum_i max_{x' in B_eps(x_i) and [0, 1]^d} KL( p(x_i) || p(x') ) / ||x_i - x'||_p,  p = softmax f
        images (n, c, h, w) -> (n,);  in nats per unit of pixel intensity, >= 0

    p is the threat model's norm (infinity in the paper's code), B_eps its ball. As local_lip, with the numerator that
    TRADES regularises: 10 steps of eps/4 ascend the divergence from the best of four starts in the ball
    (measures/_ascent.py), and the largest quotient among the iterates is kept: a lower bound of the maximum. The
    divergence grows like the square of the distance, so the quotient is largest at the border of the ball, where these
    iterates are, and unlike that of local_lip it depends on eps. Published code (an option of the paper's local
    Lipschitz function) starts at 0.001 times normal noise, negates the quotient and then descends, adds 1e-6 to every
    pixel difference, and returns the last iterate. Missing for eps = 0, where the ball is a point.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Yang et al., A Closer Look at Accuracy vs. Robustness, NeurIPS 2020, about robust accuracy. Claim about the
    gap: none.
    """
    return steepest_change(model, batch, context, kl, stream=STREAM, radius=1.0)
