from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._folded import folded
from robustgap.measures.core import measure
from robustgap.measures.log_sum_of_operator import log_sum_of_operator


@measure(
    family="norm",
    needs=("shape", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="log(d (prod_l max_x ||A_l x||_2^2 / ||x||_2^2)^(1/d)),  A_l with the scale of the BatchNorm after it",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def log_sum_of_operator_folded(model: nn.Module, shape: tuple[int, ...], context: Context) -> float:
    """log_sum_of_operator with BatchNorm folded in.

        log d + (1/d) sum_l log ||D_l A_l||_2^2,  D_l = diag(scale / sqrt(running_var + eps));  d layers;  no unit

    Folded as in param_norm_folded, shape (c, h, w) as there; missing where that or log_sum_of_operator is.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 35. Claim: larger means a larger gap (of
    clean accuracy), so +1.
    """
    network = folded(model, shape, context)
    return log_sum_of_operator(network.model, shape, network)
