from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._norms import log_sum, logarithms
from robustgap.measures._operator import operator_norms
from robustgap.measures.core import measure


@measure(
    family="norm",
    needs=("shape", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="log(d (prod_l max_x ||A_l x||_2^2 / ||x||_2^2)^(1/d))",
    invariances=("layer rescaling",),
)
def log_sum_of_operator(model: nn.Module, shape: tuple[int, ...], context: Context) -> float:
    """Logarithm of d times the geometric mean of the layers' squared operator norms.

        log( d (prod_l ||A_l||_2^2)^(1/d) ) = log d + (1/d) sum_l log ||A_l||_2^2;  d layers;  no unit, in float64
        shape (c, h, w) of one image

    ||A_l||_2 as in log_prod_of_operator: the norm of the layer as a linear map, with true stride, padding and input
    size, BatchNorm NOT folded in. d counts the linear layers and convolutions that an image passes through, those of
    shortcuts as well. In a grid of one depth it ranks models as log_prod_of_operator does. Missing where that is.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 35, with the reshaped kernel and without the
    logarithm. Claim: larger means a larger gap (of clean accuracy), so +1.
    """
    norms = context.of_model("operator_norms", lambda: operator_norms(model, shape))
    return log_sum(logarithms([norm**2 for norm in norms]))
