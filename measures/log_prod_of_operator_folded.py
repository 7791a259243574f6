from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._folded import folded
from robustgap.measures.core import measure
from robustgap.measures.log_prod_of_operator import log_prod_of_operator


@measure(
    family="norm",
    needs=("shape", "context"),
    expects={"none": 1},
    paper="Farnia et al., ICLR 2019",
    formula="sum_l log max_x ||A_l x||_2^2 / ||x||_2^2,  A_l with the scale of the BatchNorm after it",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def log_prod_of_operator_folded(model: nn.Module, shape: tuple[int, ...], context: Context) -> float:
    """log_prod_of_operator with BatchNorm folded in.

        sum_l log ||D_l A_l||_2^2,  D_l = diag(scale / sqrt(running_var + eps));  no unit, in float64

    Folded as in param_norm_folded, shape (c, h, w) as there; missing where that or log_prod_of_operator is.
    Paper: Farnia et al., Generalizable Adversarial Training via Spectral Normalization, ICLR 2019, whose bound on the
    gap of adversarial loss grows with the product, so +1; the product itself as in Jiang et al., ICLR 2020, eq. 32.
    """
    network = folded(model, shape, context)
    return log_prod_of_operator(network.model, shape, network)
