from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._weights import norm
from robustgap.measures.core import Batch, measure


@measure(
    family="gradient",
    needs=("batches", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Zhao et al., ICML 2022",
    formula="|| grad_w (1/n) sum_i CE(f_w(x_i), y_i) ||_2",
    invariances=(),
)
def w_grad_norm(model: nn.Module, batches: list[Batch], context: Context) -> float:
    """L2 norm of the gradient of the mean loss over the whole set with respect to all parameters.

        || grad_w (1/n) sum_i CE(f_w(x_i), y_i) ||_2;  in nats per unit of weight, >= 0

    One number for the whole set, so without a standard error: with n images the square of this norm exceeds that of the
    population by gradient_noise / n on average, so near a minimum it is mostly noise. Compare models on the same number
    of images. Gradients are summed over evaluation batches before the norm is taken: the mean of per-batch norms, as in
    some code, depends on the batch size. All parameters count, BatchNorm's scales and shifts included.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed.
    Paper: Zhao, Zhang and Hu, Penalizing Gradient Norm for Efficiently Improving Generalization, ICML 2022, about test
    accuracy; used by Kim et al., NeurIPS 2023. Claim about the gap: none.
    """
    return norm(context.mean_loss_gradient())
