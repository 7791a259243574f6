from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._pacbayes import noise_scale
from robustgap.measures.core import Batch, measure


@measure(
    family="flatness",
    needs=("batches", "context"),
    expects={"clean": 1, "adversarial": None},
    paper="Jiang et al., ICLR 2020",
    formula="1 / sigma^2,  E_u accuracy(w + u) = accuracy(w) - 0.1,  u_k ~ N(0, sigma^2 w_k^2 + 0.001^2)",
    invariances=(),
)
def pacbayes_mag_flat(model: nn.Module, batches: list[Batch], context: Context) -> tuple[float, float]:
    """Sensitivity of the accuracy to noise in proportion to the weights: 1 / sigma^2 of the noise that costs a tenth.

        1 / sigma^2,  sigma such that (1/n) sum_i E_u 1[f_{w+u}(x_i) = y_i] = accuracy(w) - 0.1
        u_k ~ N(0, sigma^2 w_k^2 + e^2),  e = 0.001;  no unit

    The magnitude-aware twin of pacbayes_flat: the same search, standard error, reasons for a missing value and
    variants; 121 forward passes of each image, shared with pacbayes_mag_init and pacbayes_mag_orig. Its 10 draws are
    independent: opposites gave steadier adversarial values (relative standard deviation over seeds .20 and .19 instead
    of .21 and .27, on the networks of pacbayes_flat) and less steady clean ones (.15 and .18 instead of .14 and .16).
    Nearly invariant to rescaling of layers and to BatchNorm folding as long as sigma |w_k| is large compared with e,
    which it is not for weights of 0.005; missing where e alone costs a tenth.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 61 (Dziugaite et al., NeurIPS 2020, report
    sqrt(value / n)). Published code takes sigma^2 w_k^2 + e^2, a variance, for the standard deviation; see
    pacbayes_flat for its other differences. Claim: larger means a larger gap (of clean accuracy), so +1.
    """
    return noise_scale(model, context, magnitude=True).measure(lambda sigma: sigma**-2)
