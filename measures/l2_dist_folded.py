from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._folded import folded, folded_network
from robustgap.measures.core import measure
from robustgap.measures.l2_dist import l2_dist


@measure(
    family="norm",
    needs=("shape", "initial", "context"),
    expects={"none": 1},
    paper="Nagarajan and Kolter, 2019 (arXiv:1901.01672)",
    formula="||w - w^0||_2,  of weights and biases that hold the BatchNorm after them",
    invariances=("BatchNorm folding",),
)
def l2_dist_folded(model: nn.Module, shape: tuple[int, ...], initial: dict[str, Tensor], context: Context) -> float:
    """l2_dist with BatchNorm folded in, now and at initialisation.

        sqrt(sum_l ||D_l W_l - D_l^0 W_l^0||_F^2 + ||b_l - b_l^0||_2^2);  in units of the weights, in float64
        initial: the state dictionary before the first training step

    D_l = diag(scale / sqrt(running_var + eps)); a bias b_l holds the shift: D_l (bias - running_mean) + shift.
    Folded as in param_norm_folded, shape (c, h, w) as there; missing where that or l2_dist is.
    Paper: Nagarajan and Kolter, Generalization in Deep Networks: The Role of Distance from Initialization, 2019; a
    measure of the gap in Dziugaite et al., NeurIPS 2020. Claim: larger means a larger gap (of clean accuracy), so +1.
    """
    network, before = folded(model, shape, context), folded_network(model, shape, initial)
    return l2_dist(network.model, before.state_dict())
