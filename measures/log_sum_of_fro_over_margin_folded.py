from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._folded import folded
from robustgap.measures._norms import frobenius
from robustgap.measures._over_margin import log_sum_over_margin
from robustgap.measures.core import Batch, measure


@measure(
    family="norm",
    needs=("shape", "batches", "context"),
    expects={"clean": 1, "adversarial": None},
    paper="Jiang et al., ICLR 2020",
    formula="log(d (prod_l ||W_l||_F^2 / gamma^2)^(1/d)),  W_l with the scale of the BatchNorm after it",
    invariances=("layer rescaling", "logit scale", "BatchNorm folding"),
)
def log_sum_of_fro_over_margin_folded(
    model: nn.Module, shape: tuple[int, ...], batches: list[Batch], context: Context
) -> tuple[float, float]:
    """log_sum_of_fro_over_margin with BatchNorm folded in.

        log d + (1/d) (sum_l log ||D_l W_l||_F^2 - 2 log gamma),  D_l = diag(scale / sqrt(running_var + eps))

    Folded as in param_norm_folded, shape (c, h, w) as there; gamma, its error and the variants as in
    log_sum_of_fro_over_margin. Missing where either of these is.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 38. Claim: larger means a larger gap (of
    clean accuracy), so +1; none for the adversarial variant, which that paper does not have.
    """
    return log_sum_over_margin(frobenius(folded(model, shape, context)), context, batches)
