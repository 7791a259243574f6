from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._pacbayes import bound, image_count, noise_scale, perturbed_vector
from robustgap.measures.core import Batch, measure


@measure(
    family="flatness",
    needs=("batches", "context"),
    expects={"clean": 1, "adversarial": None},
    paper="Jiang et al., ICLR 2020",
    formula="||w||_2^2 / (4 sigma^2) + log(n / sigma) + 10,  sigma as in pacbayes_flat",
    invariances=(),
)
def pacbayes_orig(model: nn.Module, batches: list[Batch], context: Context) -> tuple[float, float]:
    """PAC-Bayes bound with a prior around the origin.

        ||w||_2^2 / (4 sigma^2) + log(n / sigma) + 10;  no unit

    sigma: that of pacbayes_flat, with its noise, search, cost (shared), reasons for a missing value and variants. w:
    the weights that get noise, without biases and normalisation. n: the number of images.
    Paper: Jiang et al., Fantastic Generalization Measures, ICLR 2020, eq. 49. There n is the number of training images;
    it moves all models of a study alike, as does the sqrt(. / n) that Dziugaite et al., NeurIPS 2020, put around it:
    no order changes. Claim: larger means a larger gap (of clean accuracy), so +1.
    """
    weights, n = perturbed_vector(model), image_count(context)
    return noise_scale(model, context, magnitude=False).measure(lambda sigma: bound(weights, sigma, n))
