from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._divergence import kl
from robustgap.measures.core import Batch, measure


@measure(
    family="output",
    needs=("batch", "context"),
    expects={"adversarial": None},
    paper="Zhang et al., ICML 2019 (TRADES)",
    formula="mean_i KL( softmax f(x_i) || softmax f(x_i') )",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def kl_divergence(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Mean Kullback-Leibler divergence of the prediction under attack from the clean one.

        (1/n) sum_i sum_k p_i[k] log( p_i[k] / q_i[k] ),  p_i = softmax f(x_i),  q_i = softmax f(x_i');  in nats, >= 0
        images (n, c, h, w) -> (n,)

    x_i is the image and x_i' its PGD-10 example, so there is only an adversarial variant. x_i' maximises the
    cross-entropy of the label, not this divergence: every measure shares the same examples.
    Paper: the boundary term of Zhang et al., Theoretically Principled Trade-off between Robustness and Accuracy, ICML
    2019, whose code has this order of the arguments (the text writes a general surrogate loss) and maximises the
    divergence itself in the attack. Its bound is on robust error. Claim about the gap: none.
    """
    return kl(context.clean_logits(batch), context.logits(batch))
