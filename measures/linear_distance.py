from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._distances import linearised
from robustgap.measures.core import Batch, measure


@measure(
    family="distance",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Moosavi-Dezfooli et al., CVPR 2016 (DeepFool); Elsayed et al., NeurIPS 2018",
    formula="mean_i max(0, min_{k != y_i} (f_y - f_k)(x_i) / || grad (f_y - f_k)(x_i) ||_q)",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def linear_distance(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Linearised distance to the decision boundary: the first step of DeepFool.

        (1/n) sum_i max( 0, min_{k != y_i} ( f_y(x_i) - f_k(x_i) ) / || grad_x ( f_y - f_k )(x_i) ||_q )
        images (n, c, h, w) -> (n,);  in units of pixel intensity, >= 0;  1/p + 1/q = 1

    p is the threat model's norm: q = 1 for Linf, 2 for L2. Exact for a linear model whose boundary lies inside
    [0, 1]^d; the box is ignored. 0 for a misclassified image. k runs over the 9 other classes of largest logit
    (all of them up to 10 classes), as in DeepFool's code. One forward and up to 9 backward passes for an image.
    Clean: x_i the image; the scale of the logits changes nothing. Adversarial: x_i its PGD-10 example: the distance
    that the attack has left; the attack depends on the scale.
    Paper: Moosavi-Dezfooli et al., DeepFool, CVPR 2016 (absolute values, from the predicted class); as a margin Elsayed
    et al., Large Margin Deep Networks for Classification, NeurIPS 2018. DeepFool's code iterates and overshoots by 2 %.
    Claim about the gap: none.
    """
    return linearised(model, batch, context)[0]
