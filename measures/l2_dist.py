from torch import Tensor, nn

from robustgap.measures._weights import detached_parameters, norm
from robustgap.measures.core import measure


@measure(
    family="norm",
    needs=("weights", "initial"),
    expects={"none": 1},
    paper="Nagarajan and Kolter, 2019 (arXiv:1901.01672)",
    formula="||w - w^0||_2",
)
def l2_dist(model: nn.Module, initial: dict[str, Tensor]) -> float:
    """L2 distance of all parameters from their initial values.

        ||w - w^0||_2;  in units of the weights, >= 0, summed in float64
        initial: the model's state dictionary before its first training step

    w is the vector of all parameters: weights, biases, and the scales and shifts of BatchNorm, which is NOT folded in;
    its running statistics are not parameters and do not count. Published code (Dziugaite et al., NeurIPS 2020) folds
    BatchNorm and leaves biases out: there l2_dist is the square root of fro_dist and adds nothing to it.
    Missing where there are no initial weights.
    Paper: Nagarajan and Kolter, Generalization in Deep Networks: The Role of Distance from Initialization, 2019; a
    measure of the gap in Dziugaite et al., NeurIPS 2020. Claim: larger means a larger gap (of clean accuracy), so +1.
    """
    weights = detached_parameters(model)
    return norm({name: weight.double() - initial[name].double() for name, weight in weights.items()})
