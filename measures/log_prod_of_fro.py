from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._norms import frobenius, logarithms
from robustgap.measures.core import measure


@measure(
    family="norm",
    needs=("weights", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="sum_l log ||W_l||_F^2",
    invariances=("layer rescaling",),
)
def log_prod_of_fro(model: nn.Module, context: Context) -> float:
    """Logarithm of the product of the layers' squared Frobenius norms.

        sum_l log ||W_l||_F^2;  no unit, in float64

    W_l is the weight of a linear layer or convolution. Biases are left out and BatchNorm is NOT folded in, as in
    log_prod_of_spec. Missing for a model with weight matrices of other kinds (attention), and where a layer is zero.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 37. Claim: larger means a larger gap (of
    clean accuracy), so +1.
    """
    return sum(logarithms(frobenius(context)))
