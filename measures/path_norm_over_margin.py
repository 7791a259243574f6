from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._over_margin import margins
from robustgap.measures.core import Batch, measure
from robustgap.measures.inverse_margin import inverse_square
from robustgap.measures.path_norm import path_norm


@measure(
    family="norm",
    needs=("shape", "batches", "context"),
    expects={"clean": 1, "adversarial": None},
    paper="Jiang et al., ICLR 2020",
    formula="path_norm / gamma^2,  gamma = 10th percentile of the logit margin",
    invariances=("layer rescaling", "logit scale", "BatchNorm folding"),
)
def path_norm_over_margin(
    model: nn.Module, shape: tuple[int, ...], batches: list[Batch], context: Context
) -> tuple[float, float]:
    """Path norm over the squared margin.

        sum_k f_{w^2}(1)[k] / gamma^2,  gamma = 10th percentile over i of  m_i = f(x_i)[y_i] - max_{k != y_i} f(x_i)[k]
        shape (c, h, w) of one image, images (n, c, h, w);  no unit, >= 0, path norm in float64

    The path norm is that of path_norm: BatchNorm is the linear map that it is in eval mode, with its scale squared and
    its shift left out, as biases are. The standard error is that of gamma's interval, carried over.
    Missing where inverse_margin or path_norm is. Published code (Dziugaite et al., NeurIPS 2020) takes the gamma
    described in inverse_margin, and returns sqrt(value / n): the same ranks at a fixed n.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example (missing for most models).
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 43. Claim: larger means a larger gap (of
    clean accuracy), so +1; none for the adversarial variant, which that paper does not have.
    """
    paths = context.of_model("path_norm", lambda: path_norm(model, shape))
    inverse, se = inverse_square(margins(context, batches))
    return paths * inverse, paths * se
