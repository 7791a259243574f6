from torch import Tensor, nn
from torch.nn import functional as F

from robustgap.measures._context import Context
from robustgap.measures.core import Batch, measure


@measure(
    family="output",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Brier, Monthly Weather Review 1950",
    formula="mean_i sum_k ( p_i[k] - [k = y_i] )^2,  p_i = softmax(f(x_i))",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def brier_score(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Mean squared distance of the predicted distribution from the label.

        (1/n) sum_i sum_k ( p_i[k] - [k = y_i] )^2,  p_i = softmax(f(x_i));  no unit, in [0, 2]
        images (n, c, h, w) -> (n,)

    The sum over all classes, as published; code that averages over the classes, or takes one of two, differs by a
    factor. Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Brier, Verification of Forecasts Expressed in Terms of Probability, Monthly Weather Review 1950. Claim about
    the gap: none.
    """
    p = context.logits(batch).softmax(dim=1)
    return (p - F.one_hot(batch.labels, p.shape[1])).square().sum(dim=1)
