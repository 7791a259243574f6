from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._norms import frobenius, spectral
from robustgap.measures.core import Missing, measure


@measure(
    family="norm",
    needs=("weights", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="sum_l ||W_l||_F^2 / ||W_l||_2^2",
    invariances=("layer rescaling", "logit scale"),
)
def fro_over_spec(model: nn.Module, context: Context) -> float:
    """Sum of the layers' stable ranks.

        sum_l ||W_l||_F^2 / ||W_l||_2^2;  no unit, between the number of layers and the sum of their ranks;  in float64

    W_l as in log_prod_of_spec: a convolution is reshaped to (output channels, input channels * kernel size), biases are
    left out, BatchNorm is NOT folded in (its scale differs between channels, so folding would change the value).
    Missing for a model with weight matrices of other kinds (attention), and where a layer is zero.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 33, the factor of the bound of Neyshabur et
    al. (ICLR 2018) beside the product of norms. Claim: larger means a larger gap (of clean accuracy), so +1.
    """
    squares = spectral(context)
    if zeros := squares.count(0.0):
        raise Missing(f"{zeros} of {len(squares)} layers are zero, and zero has no stable rank")
    return sum(fro / spec for fro, spec in zip(frobenius(context), squares, strict=True))
