from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._margin import margin, quantile
from robustgap.measures.core import Batch, measure


def p10(margins: Tensor) -> tuple[float, float]:
    """The 10th percentile and its standard error."""
    return quantile(margins, 0.1)


@measure(
    family="margin",
    needs=("batch", "context"),
    expects={"clean": -1, "adversarial": None},
    paper="Jiang et al., ICLR 2020 (the percentile inside inverse_margin, with its sign)",
    formula="10th percentile over i of f(x_i)[y_i] - max_{k != y_i} f(x_i)[k]",
    invariances=("layer rescaling", "BatchNorm folding"),
    reduction=p10,
)
def margin_p10(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Signed 10th percentile of the logit margin.

        gamma = 10th percentile over i of  m_i = f(x_i)[y_i] - max_{k != y_i} f(x_i)[k];  in logits
        images (n, c, h, w) -> margins (n,), reduced by linear interpolation of order statistics

    Negative when more than a tenth of the images are misclassified, as is usual under attack: unlike inverse_margin it
    keeps its meaning there. Standard error from order statistics (measures/_margin.py).
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: the gamma of Jiang et al., Fantastic Generalization Measures, ICLR 2020. Claim: a larger clean margin goes
    with a smaller gap (of clean accuracy), so -1; none for the adversarial variant, which that paper does not have.
    """
    return margin(context.logits(batch), batch.labels)
