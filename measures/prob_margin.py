from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._margin import margin
from robustgap.measures.core import Batch, measure


@measure(
    family="margin",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Kim et al., NeurIPS 2023",
    formula="mean_i p_i[y_i] - max_{k != y_i} p_i[k],  p_i = softmax(f(x_i))",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def prob_margin(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Mean margin between the probability of the label and the largest other one.

        (1/n) sum_i ( p_i[y_i] - max_{k != y_i} p_i[k] ),  p_i = softmax(f(x_i));  no unit, in [-1, 1]
        images (n, c, h, w) -> (n,);  negative for misclassified images

    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Kim et al., Fantastic Robustness Measures, NeurIPS 2023. Claim about the gap: none.
    """
    return margin(context.logits(batch).softmax(dim=1), batch.labels)
