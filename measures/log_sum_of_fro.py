from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._norms import frobenius, log_sum, logarithms
from robustgap.measures.core import measure


@measure(
    family="norm",
    needs=("weights", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="log(d (prod_l ||W_l||_F^2)^(1/d))",
    invariances=("layer rescaling",),
)
def log_sum_of_fro(model: nn.Module, context: Context) -> float:
    """Logarithm of d times the geometric mean of the layers' squared Frobenius norms.

        log( d (prod_l ||W_l||_F^2)^(1/d) ) = log d + (1/d) sum_l log ||W_l||_F^2;  d layers;  no unit, in float64

    W_l as in log_prod_of_fro: biases are left out, BatchNorm is NOT folded in. It is not the sum of the norms (that is
    param_norm), but the smallest sum that rescaling the layers of a ReLU network can reach. d counts linear layers and
    convolutions, those of shortcuts as well. In a grid of one depth it ranks models as log_prod_of_fro does.
    Missing for a model with weight matrices of other kinds (attention), and where a layer is zero.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 39 (there without the logarithm, which keeps
    every rank; with it in Dziugaite et al., NeurIPS 2020). Claim: larger means a larger gap (of clean accuracy), so +1.
    """
    return log_sum(logarithms(frobenius(context)))
