from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._distances import l2_norm
from robustgap.measures.core import Batch, measure


@measure(
    family="smoothness",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Kim et al., NeurIPS 2023",
    formula="mean_i || d CE(f(x), y_i) / dx at x_i ||_2",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def x_grad_norm(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Mean L2 norm of each image's own loss gradient.

        (1/n) sum_i || grad_x CE(f(x), y_i) at x_i ||_2;  in nats per unit of pixel intensity, >= 0
        images (n, c, h, w) -> (n,)

    The norm of each image's gradient is averaged; the norm of the gradient of a batch's mean loss would depend on the
    batch size, and gradients of different images would cancel.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Kim et al., Fantastic Robustness Measures, NeurIPS 2023; before it Ross and Doshi-Velez, AAAI 2018, and
    Simon-Gabriel et al., ICML 2019, about robust accuracy. Claim about the gap: none.
    """
    return l2_norm(context.input_gradient(batch))
