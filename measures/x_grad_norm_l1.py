from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures.core import Batch, measure


@measure(
    family="smoothness",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Simon-Gabriel et al., ICML 2019",
    formula="mean_i || d CE(f(x), y_i) / dx at x_i ||_1",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def x_grad_norm_l1(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Mean L1 norm of each image's own loss gradient, the dual of an Linf attack.

        (1/n) sum_i || grad_x CE(f(x), y_i) at x_i ||_1;  in nats per unit of pixel intensity, >= 0
        images (n, c, h, w) -> (n,)

    eps times this number is the rise of the loss under an Linf attack of small eps, to first order. The sum over all
    pixels, not their mean. As for x_grad_norm, the norm of each image's own gradient is averaged.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Simon-Gabriel et al., First-order Adversarial Vulnerability of Neural Networks and Input Dimension, ICML
    2019, about robust accuracy. Claim about the gap: none.
    """
    return context.input_gradient(batch).flatten(1).abs().sum(dim=1)
