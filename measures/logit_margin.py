from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._margin import margin
from robustgap.measures.core import Batch, measure


@measure(
    family="margin",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Kim et al., NeurIPS 2023 (with probabilities); Bartlett et al., NeurIPS 2017 (the margin of logits)",
    formula="mean_i f(x_i)[y_i] - max_{k != y_i} f(x_i)[k]",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def logit_margin(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Mean margin between the logit of the label and the largest other one.

        (1/n) sum_i ( f(x_i)[y_i] - max_{k != y_i} f(x_i)[k] );  in logits
        images (n, c, h, w) -> (n,);  negative for misclassified images

    Grows with the scale of the logits, which prob_margin bounds to [-1, 1].
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: the mean where Kim et al., Fantastic Robustness Measures, NeurIPS 2023, take probabilities. The margin
    distribution of Bartlett et al., Spectrally-normalized Margin Bounds, NeurIPS 2017, is divided by a complexity of
    the network before it says anything of generalization. Claim about the gap of the bare mean: none.
    """
    return margin(context.logits(batch), batch.labels)
