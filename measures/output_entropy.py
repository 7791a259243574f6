from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures.core import Batch, measure


@measure(
    family="output",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Pereyra et al., ICLR workshop 2017 (confident output distributions)",
    formula="mean_i - sum_k p_i[k] log p_i[k],  p_i = softmax(f(x_i))",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def output_entropy(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Mean entropy of the predicted distribution over classes.

        (1/n) sum_i - sum_k p_i[k] log p_i[k],  p_i = softmax(f(x_i));  in nats, in [0, log classes]
        images (n, c, h, w) -> (n,)

    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Pereyra et al., Regularizing Neural Networks by Penalizing Confident Output Distributions, ICLR workshop
    2017, about test accuracy. Jiang et al., Fantastic Generalization Measures, ICLR 2020, list its negative among their
    baseline measures, for the gap of clean accuracy and as a reference: we take that as no claim about the robust gap.
    Claim about the gap: none.
    """
    log_p = context.logits(batch).log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)
