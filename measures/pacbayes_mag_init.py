from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._pacbayes import displacement, image_count, magnitude_bound, noise_scale
from robustgap.measures.core import Batch, measure


@measure(
    family="flatness",
    needs=("batches", "context", "initial"),
    expects={"clean": 1, "adversarial": None},
    paper="Jiang et al., ICLR 2020",
    formula="(1/4) sum_k log((e^2 + (s^2 + 1) ||w - w_0||^2 / K) / (e^2 + s^2 (w - w_0)_k^2)) + log(n / s) + 10",
    invariances=(),
)
def pacbayes_mag_init(
    model: nn.Module, batches: list[Batch], context: Context, initial: dict[str, Tensor]
) -> tuple[float, float]:
    """PAC-Bayes bound with noise in proportion to the weights and a prior around the initial weights.

        (1/4) sum_k log((e^2 + (s^2 + 1) ||w - w_0||_2^2 / K) / (e^2 + s^2 (w_k - w_0k)^2)) + log(n / s) + 10;  no unit

    s: the sigma of pacbayes_mag_flat, with its noise, search, cost (shared), reasons for a missing value and variants;
    e = 0.001. w (w_0): the K trained (initial) weights that get noise, without biases and normalisation. n: the number
    of images.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 56, where n is the number of training images
    (no order changes). Its divergence is that of noise in proportion to |w - w_0|, its search that of noise in
    proportion to |w|; both are kept as published. Claim: larger means a larger gap (of clean accuracy), so +1.
    """
    moved, n = displacement(model, initial), image_count(context)
    scale = noise_scale(model, context, magnitude=True)
    return scale.measure(lambda sigma: magnitude_bound(moved, moved, sigma, n))
