from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._margin import margin, of_margin_p10
from robustgap.measures.core import Batch, measure


def inverse_square(margins: Tensor) -> tuple[float, float]:
    """1/gamma^2 of the 10th percentile gamma, and its standard error (see of_margin_p10)."""
    return of_margin_p10(margins, lambda gamma: 1 / gamma / gamma)  # not **, which raises an error on overflow


@measure(
    family="margin",
    needs=("batch", "context"),
    expects={"clean": 1, "adversarial": None},
    paper="Jiang et al., ICLR 2020",
    formula="1 / gamma^2,  gamma = 10th percentile of f(x_i)[y_i] - max_{k != y_i} f(x_i)[k]",
    invariances=("layer rescaling", "BatchNorm folding"),
    reduction=inverse_square,
)
def inverse_margin(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Inverse square of the 10th percentile of the logit margin.

        1 / gamma^2,  gamma = 10th percentile over i of  f(x_i)[y_i] - max_{k != y_i} f(x_i)[k];  in logits^-2, > 0
        images (n, c, h, w) -> margins (n,), reduced to one number

    Missing when gamma <= 0, because there 1/gamma^2 falls as errors become more frequent: use margin_p10. Published
    code (Dziugaite et al., NeurIPS 2020) takes |gamma|, gamma being the (n // 10)-th smallest margin where we
    interpolate, and returns sqrt(value / n): the same ranks at a fixed n.
    The standard error comes from order statistics (measures/_margin.py); it is left out where they cannot tell gamma
    from 0.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example (missing for most models).
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 22. Claim: larger means a larger gap (of
    clean accuracy), so +1; none for the adversarial variant, which that paper does not have.
    """
    return margin(context.logits(batch), batch.labels)
