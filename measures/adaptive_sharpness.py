from torch import Tensor, nn

from robustgap.measures._adaptive import worst_rise
from robustgap.measures._context import Context
from robustgap.measures.core import Batch, measure
from robustgap.training.attacks import cross_entropy


@measure(
    family="flatness",
    needs=("batches", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Andriushchenko et al., ICML 2023",
    formula="max_v L(w + v) - L(w),  |v_i| <= 0.002 |w_i|",
    invariances=("layer rescaling",),
)
def adaptive_sharpness(model: nn.Module, batches: list[Batch], context: Context) -> Tensor:
    """Largest rise of the mean loss when every weight may change by a fixed share of itself.

        max_v L(w + v) - L(w)  over  |v_i| <= rho |w_i| for every parameter i,  L(w) = (1/n) sum_i CE(f_w(x_i), y_i)
        in nats, >= 0;  -> (n,): each image's rise at that v

    The elementwise adaptive worst-case l_inf sharpness, rho = 0.002, over all parameters (biases and normalisation
    too). 6 steps of sign ascent over the whole set, step lengths falling linearly from 2 rho |w_i| to 0, from v = 0;
    the best iterate is kept, so the value is a lower bound of the maximum. Costs 19 forward passes of each image.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed while w moves.
    Paper: Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization, ICML 2023:
    rho from 0.001 to 0.008 for ResNets; 20 steps of Auto-PGD with momentum and halved steps; the mean
    over batches of 128 of each batch's own maximum (m-sharpness), which depends on the batch size. It finds no stable
    relation to test error: claim about the gap: none.
    """
    return worst_rise(model, batches, context, cross_entropy)
