from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._norms import spectral
from robustgap.measures._over_margin import log_prod_over_margin
from robustgap.measures.core import Batch, measure


@measure(
    family="norm",
    needs=("batches", "context"),
    expects={"clean": 1, "adversarial": None},
    paper="Jiang et al., ICLR 2020",
    formula="sum_l log ||W_l||_2^2 - 2 log gamma,  gamma = 10th percentile of the logit margin",
    invariances=("layer rescaling", "logit scale"),
)
def log_prod_of_spec_over_margin(model: nn.Module, batches: list[Batch], context: Context) -> tuple[float, float]:
    """Logarithm of the product of the layers' squared spectral norms over the squared margin.

        sum_l log ||W_l||_2^2 - 2 log gamma,  gamma = 10th percentile over i of the logit margin m_i
        m_i = f(x_i)[y_i] - max_{k != y_i} f(x_i)[k] on images (n, c, h, w);  no unit, norms in float64

    W_l as in log_prod_of_spec: a convolution reshaped to a matrix, biases left out, BatchNorm NOT folded in. The
    standard error is that of gamma's 95 % interval (order statistics), carried over.
    Missing where inverse_margin or log_prod_of_spec is. Published code (Dziugaite et al., NeurIPS 2020) takes the gamma
    described in inverse_margin, and returns (value - log n) / 2: the same ranks at a fixed n.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example (missing for most models).
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 31 (there without the logarithm, which keeps
    every rank). Claim: larger means a larger gap (of clean accuracy), so +1; none for the adversarial variant, which
    that paper does not have.
    """
    return log_prod_over_margin(spectral(context), context, batches)
