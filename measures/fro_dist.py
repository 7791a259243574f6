from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._norms import displacements
from robustgap.measures.core import measure


@measure(
    family="norm",
    needs=("weights", "initial", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="sum_l ||W_l - W_l^0||_F^2",
)
def fro_dist(model: nn.Module, initial: dict[str, Tensor], context: Context) -> float:
    """Squared Frobenius distance of all linear layers and convolutions from their initial weights.

        sum_l ||W_l - W_l^0||_F^2;  in squared units of the weights, >= 0, in float64
        initial: the model's state dictionary before its first training step

    Biases are left out. BatchNorm is NOT folded in, neither now nor at initialisation: its scales and shifts do not
    enter. Published code (Dziugaite et al., NeurIPS 2020) folds it into both before it subtracts, so that
    running statistics enter the distance. l2_dist is the same distance with all parameters in it.
    Missing where there are no initial weights, or not finite ones, for parametrized layers (weight_norm), and for a
    model with weight matrices of other kinds (attention).
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 40. Claim: larger means a larger gap (of
    clean accuracy), so +1.
    """
    return float(sum(step.square().sum() for step in displacements(context, initial)))
