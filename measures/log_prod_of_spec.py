from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._norms import logarithms, spectral
from robustgap.measures.core import measure


@measure(
    family="norm",
    needs=("weights", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="sum_l log ||W_l||_2^2",
    invariances=("layer rescaling",),
)
def log_prod_of_spec(model: nn.Module, context: Context) -> float:
    """Logarithm of the product of the layers' squared spectral norms.

        sum_l log ||W_l||_2^2,  ||W||_2 the largest singular value;  no unit, in float64

    W_l is the weight of a linear layer, or of a convolution reshaped to (output channels, input channels * kernel
    size): the published approximation, not the norm of the convolution as an operator; stride and padding do not enter.
    Biases are left out and BatchNorm is NOT folded in: its scale does not enter (published code multiplies it
    into the convolution before it, which is wrong where another layer stands between them).
    Missing for a model with weight matrices of other kinds (attention), and where a layer is zero.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 32. Claim: larger means a larger gap (of
    clean accuracy), so +1.
    """
    return sum(logarithms(spectral(context)))
