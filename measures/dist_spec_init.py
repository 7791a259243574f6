import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._norms import displacements
from robustgap.measures.core import measure


@measure(
    family="norm",
    needs=("weights", "initial", "context"),
    expects={"none": 1},
    paper="Jiang et al., ICLR 2020",
    formula="sum_l ||W_l - W_l^0||_2^2",
)
def dist_spec_init(model: nn.Module, initial: dict[str, Tensor], context: Context) -> float:
    """Sum of the squared spectral norms of what each layer learnt.

        sum_l ||W_l - W_l^0||_2^2,  ||W||_2 the largest singular value;  in squared units of the weights, in float64
        initial: the model's state dictionary before its first training step

    A convolution is reshaped to (output channels, input channels * kernel size), as in log_prod_of_spec. Biases are
    left out. BatchNorm is NOT folded in, neither now nor at initialisation; published code (Dziugaite et al., NeurIPS
    2020) folds it into both before it subtracts, so that running statistics enter the distance.
    Missing where there are no initial weights, or not finite ones, for parametrized layers (weight_norm), and for a
    model with weight matrices of other kinds (attention).
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 41. Claim: larger means a larger gap (of
    clean accuracy), so +1.
    """
    return float(sum(torch.linalg.matrix_norm(step, ord=2).square() for step in displacements(context, initial)))
