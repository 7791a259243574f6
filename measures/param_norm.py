from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._norms import frobenius
from robustgap.measures.core import measure


@measure(
    family="norm",
    needs=("weights", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="sum_l ||W_l||_F^2",
)
def param_norm(model: nn.Module, context: Context) -> float:
    """Sum of the squared weights of all linear layers and convolutions.

        sum_l ||W_l||_F^2;  in squared units of the weights, >= 0, in float64

    Biases are left out. BatchNorm is NOT folded in: its scales and shifts do not enter. Published code
    (Dziugaite et al., NeurIPS 2020) leaves biases out too, but first multiplies the scale of every BatchNorm into the
    layer listed before it. Missing for a model with weight matrices of other kinds (attention).
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 42. Claim: larger means a larger gap (of
    clean accuracy), so +1.
    """
    return sum(frobenius(context))
