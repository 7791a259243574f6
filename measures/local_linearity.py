from torch import Tensor, nn

from robustgap.measures._ascent import maximum_in_ball
from robustgap.measures._context import Context
from robustgap.measures.core import Batch, measure
from robustgap.training import attacks

STREAM = 104


@measure(
    family="smoothness",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Qin et al., NeurIPS 2019",
    formula="mean_i max_{||d|| <= eps} | l(x_i + d) - l(x_i) - <d, grad l(x_i)> |,  l = CE(f(.), y_i)",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def local_linearity(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Local linearity error: the largest error of the linearised loss inside the ball.

        (1/n) sum_i max_d | l_i(x_i + d) - l_i(x_i) - <d, grad l_i(x_i)> |,  l_i(x) = CE(f(x), y_i)
        over ||d||_p <= eps with x_i + d in [0, 1]^d;  images (n, c, h, w) -> (n,);  in nats, >= 0

    p is the threat model's norm (infinity in the paper). 10 steps of eps/4 ascend the error from the best of four
    starts in the ball (measures/_ascent.py); the largest error among the iterates is kept: a lower bound of the
    maximum. 0 for eps = 0. The paper names the error gamma(eps, x), starts at random and takes the last iterate of
    projected gradient ascent. Some public code multiplies the displacements of a batch with the gradients of all its
    images, and averages that matrix.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Qin et al., Adversarial Robustness through Local Linearization, NeurIPS 2019, about robust accuracy and
    gradient obfuscation. Claim about the gap: none.
    """
    x, loss, gradient = batch.images, context.losses(batch), context.input_gradient(batch).flatten(1)

    def error(point: Tensor) -> Tensor:
        linear = loss + ((point - x).flatten(1) * gradient).sum(dim=1)
        return (attacks.cross_entropy(model(point), batch.labels) - linear).abs()

    return maximum_in_ball(batch, context, error, stream=STREAM)
