from torch import Tensor, nn

from robustgap.measures._adaptive import normalized_cross_entropy, worst_rise
from robustgap.measures._context import Context
from robustgap.measures.core import Batch, measure


@measure(
    family="flatness",
    needs=("batches", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Andriushchenko et al., ICML 2023",
    formula="max_v L(w + v) - L(w),  |v_i| <= 0.002 |w_i|,  L of (f - mean f) / ||f - mean f||_2",
    invariances=("layer rescaling",),
)
def adaptive_sharpness_logit_normalised(model: nn.Module, batches: list[Batch], context: Context) -> Tensor:
    """Adaptive sharpness of the loss of centred logits of unit length.

        max_v L(w + v) - L(w)  over  |v_i| <= rho |w_i|,  L(w) = (1/n) sum_i CE(g_w(x_i), y_i)
        g = (f - m) / ||f - m||_2,  m the mean of the logits f;  in nats, >= 0;  -> (n,): each image's rise

    As adaptive_sharpness (rho = 0.002, 6 steps of sign ascent, best iterate kept, 19 forward passes of each image),
    but for the logits, whose length is bounded from below by 1e-10, and whose scale changes nothing in the clean
    variant (in the adversarial one the attack sees it).
    Clean: x_i the image. Adversarial: x_i its PGD-10 example (of the model as it is), held fixed while w moves.
    Paper: Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization, ICML 2023,
    in the form of its code, which centres the logits before it divides by their length; see adaptive_sharpness for the
    differences. Claim about the gap: none.
    """
    return worst_rise(model, batches, context, normalized_cross_entropy)
