from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._loss_rise import mean_rise
from robustgap.measures._weights import detached_parameters, norm
from robustgap.measures.core import Batch, measure

RHO = 0.05


@measure(
    family="flatness",
    needs=("batches", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Foret et al., ICLR 2021",
    formula="L(w + rho g / ||g||_2) - L(w),  g = grad L(w),  rho = 0.05",
    invariances=(),
)
def estimate_sharpness(model: nn.Module, batches: list[Batch], context: Context) -> float:
    """Rise of the mean loss after one ascent step of SAM.

        L(w + e) - L(w),  e = rho g / ||g||_2,  g = grad L(w),  L(w) = (1/n) sum_i CE(f_w(x_i), y_i);  in nats

    rho = 0.05 is the global L2 length of the step over all parameters; g is the gradient over the whole set, so nothing
    depends on the evaluation batch size. 0 where g = 0. The value belongs to this set of images, so it has no
    standard error: e fits them, and near a minimum, where the gradients of single images outweigh their mean, fewer
    images give a larger value. Compare models on the same number of images.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed while w moves.
    Paper: Foret et al., Sharpness-Aware Minimization, ICLR 2021, whose bound is on test loss. Claim about the gap:
    none.
    """
    weights, gradient = detached_parameters(model), context.mean_loss_gradient()
    length = norm(gradient)
    step = RHO / length if length > 0 else 0.0
    moved = {name: weight + step * gradient[name] for name, weight in weights.items()}
    return mean_rise(model, moved, batches, context)
