from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures.core import Batch, measure


@measure(
    family="output",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": 1},
    paper="Zhang, Backes and Zhang, TMLR 2024 (arXiv:2310.04539)",
    formula="mean_i (1/K) sum_k ( f(x_i)[k] - mean_j f(x_i)[j] )^2",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def adversarial_certainty(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Mean variance of the logits over the classes, on adversarial examples.

        (1/n) sum_i Var_k( f(x_i)[k] ),  Var_k(u) = (1/K) sum_k (u_k - mean(u))^2,  K classes;  in logits^2, >= 0
        images (n, c, h, w) -> (n,)

    Adversarial: x_i the PGD-10 example of a training image, as in the paper. Clean: the same number on the image
    itself, to compare with.
    Paper: Zhang, Backes and Zhang, Generating Less Certain Adversarial Examples Improves Robust Generalization, TMLR
    2024: models that generalize better robustly are less certain about adversarial training images, and lowering the
    certainty lessens robust overfitting, so +1; none for the clean variant, which it does not have. The authors' code
    lowers another number: the mean over images of the standard deviation, with K - 1 in the denominator.
    """
    return context.logits(batch).var(dim=1, correction=0)
