from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._pacbayes import noise_scale
from robustgap.measures.core import Batch, measure


@measure(
    family="flatness",
    needs=("batches", "context"),
    expects={"clean": 1, "adversarial": None},
    paper="Jiang et al., ICLR 2020",
    formula="1 / sigma^2,  E_u accuracy(w + u) = accuracy(w) - 0.1,  u ~ N(0, sigma^2)",
    invariances=(),
)
def pacbayes_flat(model: nn.Module, batches: list[Batch], context: Context) -> tuple[float, float]:
    """Sensitivity of the accuracy to Gaussian noise on the weights: 1 / sigma^2 of the noise that costs a tenth.

        1 / sigma^2,  sigma such that (1/n) sum_i E_u 1[f_{w+u}(x_i) = y_i] = accuracy(w) - 0.1,  u_k ~ N(0, sigma^2)
        per squared unit of weight

    Noise is added to the weights of linear layers and convolutions, not to biases or normalisation. 5 draws and their
    opposites, keyed by (seed, weight, draw) and the same at every sigma; 12 halvings of log sigma in [1e-4, 10], a
    resolution of 0.3 %. Opposites help under attack (relative standard deviation over seeds .15 instead of .17 and .16
    instead of .25 on two small MLPs trained on digits, at equal passes; clean .11 and .14 instead of .11 and .13).
    The standard error is that of the drop, from draws and images, over its slope in log sigma.
    Missing, with the reason, where accuracy is at most 0.1, where sigma lies outside that range, or where the drop
    reached is further than 0.01 from 0.1. Costs 121 forward passes of each image, shared with pacbayes_init and
    pacbayes_orig.
    Clean: accuracy on the images. Adversarial: on their PGD-10 examples, held fixed while w moves; noise may raise it
    at first, and the search then finds the one crossing that bisection leads to.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 53 (Dziugaite et al., NeurIPS 2020, report
    sqrt(value / n)). Published code draws noise with standard deviation sigma^2, perturbs biases as well, after folding
    BatchNorm into any layer before it, searches up to sigma = 2, and takes the last sigma for the result whether the
    search converged or not. Claim: larger means a larger gap (of clean accuracy), so +1.
    """
    return noise_scale(model, context, magnitude=False).measure(lambda sigma: sigma**-2)
