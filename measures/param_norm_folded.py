from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._folded import folded
from robustgap.measures.core import measure
from robustgap.measures.param_norm import param_norm


@measure(
    family="norm",
    needs=("shape", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="sum_l ||W_l||_F^2,  W_l with the scale of the BatchNorm after it",
    invariances=("BatchNorm folding",),
)
def param_norm_folded(model: nn.Module, shape: tuple[int, ...], context: Context) -> float:
    """param_norm with BatchNorm folded in.

        sum_l ||D_l W_l||_F^2,  D_l = diag(scale / sqrt(running_var + eps));  in squared units of weights, in float64
        shape (c, h, w) of one image, which is passed through the network to trace its graph

    A BatchNorm, in eval mode, is folded into the convolution or linear layer of which it alone takes the output, so
    that the value is a property of the function: scaling a layer before BatchNorm together with its statistics changes
    nothing. Missing, naming the module, where the graph does not allow that (pre-activation networks), and where
    param_norm is. Published code (Dziugaite et al., NeurIPS 2020) folds into whatever layer is listed before.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 42. Claim: larger means a larger gap (of
    clean accuracy), so +1.
    """
    network = folded(model, shape, context)
    return param_norm(network.model, network)
