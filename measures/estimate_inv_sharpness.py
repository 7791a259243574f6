from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._loss_rise import mean_rise
from robustgap.measures._weights import detached_parameters, norm
from robustgap.measures.core import Batch, measure

RHO = 0.5


@measure(
    family="flatness",
    needs=("batches", "context"),
    expects={"clean": 1, "adversarial": None},
    paper="Kwon et al., ICML 2021",
    formula="L(w + rho T^2 g / ||T g||_2) - L(w),  T = diag(|w|),  g = grad L(w),  rho = 0.5",
    invariances=("layer rescaling",),
)
def estimate_inv_sharpness(model: nn.Module, batches: list[Batch], context: Context) -> float:
    """Rise of the mean loss after one ascent step of ASAM, whose length does not depend on the scale of the weights.

        L(w + e) - L(w),  e = rho T^2 g / ||T g||_2,  T = diag(|w|),  g = grad L(w)
        L(w) = (1/n) sum_i CE(f_w(x_i), y_i);  in nats

    e is the first-order maximiser over ||T^-1 e||_2 <= rho = 0.5, over all parameters together, of the gradient of the
    whole set. 0 where T g = 0. Without a standard error, and larger on fewer images, as estimate_sharpness explains.
    Costs 5 forward passes.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed while w moves.
    Paper: Kwon et al., ASAM: Adaptive Sharpness-Aware Minimization, ICML 2021; rho = 0.5 is theirs for CIFAR-10. Their
    code takes T = 1 for biases and can add a constant to |w|, both of which a rescaling of layers would show; here
    T = |w| throughout. Claim: adaptive sharpness rises with the gap (of clean accuracy), so +1.
    """
    weights, gradient = detached_parameters(model), context.mean_loss_gradient()
    scaled = {name: weight.abs() * gradient[name] for name, weight in weights.items()}
    length = norm(scaled)
    step = RHO / length if length > 0 else 0.0
    moved = {name: weight + step * weight.abs() * scaled[name] for name, weight in weights.items()}
    return mean_rise(model, moved, batches, context)
