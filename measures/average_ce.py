from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures.core import Batch, measure


@measure(
    family="output",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Kim et al., NeurIPS 2023",
    formula="mean_i -log softmax(f(x_i))[y_i]",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def average_ce(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Mean cross-entropy of the model on training images.

        (1/n) sum_i -log softmax(f(x_i))[y_i],  in nats, >= 0;  images (n, c, h, w) -> (n,)

    Clean: x_i the image. Adversarial: x_i its PGD-10 example, so the value is the robust training loss.
    Paper: Kim et al., Fantastic Robustness Measures, NeurIPS 2023. Claim about the gap: none; it is the loss that
    training lowers, and the gap grows once it is fitted, but the paper studies the sign rather than claims one. Jiang
    et al., Fantastic Generalization Measures, ICLR 2020, list cross-entropy among their baseline measures, for the gap
    of clean accuracy and as a reference: we take that as no claim about the robust gap.
    """
    return context.losses(batch)
