from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._folded import folded
from robustgap.measures.core import measure
from robustgap.measures.fro_over_spec import fro_over_spec


@measure(
    family="norm",
    needs=("shape", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="sum_l ||W_l||_F^2 / ||W_l||_2^2,  W_l with the scale of the BatchNorm after it",
    invariances=("layer rescaling", "logit scale", "BatchNorm folding"),
)
def fro_over_spec_folded(model: nn.Module, shape: tuple[int, ...], context: Context) -> float:
    """Sum of stable ranks, fro_over_spec, with BatchNorm folded in.

        sum_l ||D_l W_l||_F^2 / ||D_l W_l||_2^2,  D_l = diag(scale / sqrt(running_var + eps));  no unit, in float64

    Folded as in param_norm_folded, shape (c, h, w) as there; missing where that or fro_over_spec is.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 33. Claim: larger means a larger gap (of
    clean accuracy), so +1.
    """
    network = folded(model, shape, context)
    return fro_over_spec(network.model, network)
