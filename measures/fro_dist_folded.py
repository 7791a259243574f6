from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._folded import folded, folded_network
from robustgap.measures.core import measure
from robustgap.measures.fro_dist import fro_dist


@measure(
    family="norm",
    needs=("shape", "initial", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="sum_l ||W_l - W_l^0||_F^2,  each with the scale of the BatchNorm after it",
    invariances=("BatchNorm folding",),
)
def fro_dist_folded(model: nn.Module, shape: tuple[int, ...], initial: dict[str, Tensor], context: Context) -> float:
    """fro_dist with BatchNorm folded in, now and at initialisation.

        sum_l ||D_l W_l - D_l^0 W_l^0||_F^2,  D_l = diag(scale / sqrt(running_var + eps));  in float64
        initial: the state dictionary before the first training step

    Its root is the l2_dist of published code (Dziugaite et al.), which leaves biases out.
    Folded as in param_norm_folded, shape (c, h, w) as there; missing where that or fro_dist is.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 40. Claim: larger means a larger gap (of
    clean accuracy), so +1.
    """
    network, before = folded(model, shape, context), folded_network(model, shape, initial)
    return fro_dist(network.model, before.state_dict(), network)
