from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._norms import frobenius
from robustgap.measures._over_margin import log_sum_over_margin
from robustgap.measures.core import Batch, measure


@measure(
    family="norm",
    needs=("batches", "context"),
    expects={"clean": 1, "adversarial": None},
    paper="Jiang et al., ICLR 2020",
    formula="log(d (prod_l ||W_l||_F^2 / gamma^2)^(1/d)),  gamma = 10th percentile of the logit margin",
    invariances=("layer rescaling", "logit scale"),
)
def log_sum_of_fro_over_margin(model: nn.Module, batches: list[Batch], context: Context) -> tuple[float, float]:
    """Logarithm of d times the d-th root of the product of squared Frobenius norms over the squared margin.

        log d + (1/d) (sum_l log ||W_l||_F^2 - 2 log gamma),  gamma = 10th percentile over i of the margin m_i
        m_i = f(x_i)[y_i] - max_{k != y_i} f(x_i)[k] on images (n, c, h, w);  no unit, norms in float64

    W_l as in log_sum_of_fro: of linear layers and convolutions, biases left out, BatchNorm NOT folded in. d counts
    linear layers and convolutions, those of shortcuts as well. The standard error is that of gamma's 95 % interval
    (order statistics), carried over.
    Missing where inverse_margin or log_sum_of_fro is. Published code (Dziugaite et al., NeurIPS 2020) takes the gamma
    described in inverse_margin, and returns (value - log n) / 2: the same ranks at a fixed n.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example (missing for most models).
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 38 (there without the logarithm, which keeps
    every rank). Claim: larger means a larger gap (of clean accuracy), so +1; none for the adversarial variant, which
    that paper does not have.
    """
    return log_sum_over_margin(frobenius(context), context, batches)
