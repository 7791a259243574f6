from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._folded import folded
from robustgap.measures.core import measure
from robustgap.measures.log_sum_of_spec import log_sum_of_spec


@measure(
    family="norm",
    needs=("shape", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="log(d (prod_l ||W_l||_2^2)^(1/d)),  W_l with the scale of the BatchNorm after it",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def log_sum_of_spec_folded(model: nn.Module, shape: tuple[int, ...], context: Context) -> float:
    """log_sum_of_spec with BatchNorm folded in.

        log d + (1/d) sum_l log ||D_l W_l||_2^2,  D_l = diag(scale / sqrt(running_var + eps));  d layers;  no unit

    Folded as in param_norm_folded, shape (c, h, w) as there; missing where that or log_sum_of_spec is.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 35. Claim: larger means a larger gap (of
    clean accuracy), so +1.
    """
    network = folded(model, shape, context)
    return log_sum_of_spec(network.model, network)
