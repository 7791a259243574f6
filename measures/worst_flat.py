from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._weight_ascent import ascend
from robustgap.measures._weights import detached_parameters, normalization_parameters
from robustgap.measures.core import Batch, measure
from robustgap.training import attacks

XI = 0.003  # largest length of the perturbation of a layer, relative to the layer's weights
STEPS = 20


@measure(
    family="flatness",
    needs=("batches", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Stutz et al., ICCV 2021",
    formula="max_v max_d mean_i CE(f_{w+v}(x_i + d_i), y_i) - L(w),  ||v_l||_2 <= 0.003 ||w_l||_2,  d_i in B_eps",
    invariances=("layer rescaling",),
)
def worst_flat(model: nn.Module, batches: list[Batch], context: Context) -> Tensor:
    """Rise of the (robust) loss at the jointly worst perturbation of weights and images, relative layer by layer.

        max_{v, d} (1/n) sum_i CE(f_{w+v}(x_i + d_i), y_i) - L(w);  in nats, >= 0;  -> (n,): each image's rise there
        ||v_l||_2 <= xi ||w_l||_2 for each layer l, xi = 0.003;  ||d_i||_p <= eps, x_i + d_i in [0, 1]

    20 steps of projected gradient ascent from v = 0: each moves every layer by xi ||w_l|| / 4 along its gradient over
    the whole set, and projects it onto its ball; the iterate with the largest mean loss is kept, so the value is a
    lower bound of the maximum. A layer is one parameter tensor; scales and shifts of normalisation layers do not move.
    Clean: d_i = 0 and L the mean cross-entropy. Adversarial: L(w) is the loss on the PGD-10 examples, where d_i starts
    and moves on by eps/4 in each step, together with v. Costs 61 forward passes of each image.
    Paper: Stutz, Hein and Schiele, Relating Adversarially Robust Generalization to Flat Minima, ICCV 2021. xi = 0.5 is
    theirs for the average case. For the worst case they take 0.003 in the code and for curves over training, and
    0.00075 to compare models, where they find larger ones noisier. They give each batch of 128 images a perturbation of
    its own, which makes the mean larger and dependent on the batch size, start at random points, take the largest of 10
    attempts, and keep the last iterate. Flatness is found to lower the robust gap on average, less clearly in the worst
    case: we take that as no claim about the gap.
    """
    weights = detached_parameters(model)
    radii = {name: XI * weights[name].norm() for name in weights.keys() - normalization_parameters(model)}
    before = torch.cat([context.losses(batch) for batch in batches])

    def move_weights(step: int, moved: dict[str, Tensor], gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: weight + clipped(moved[name] - weight + radii[name] / 4 * unit(gradient[name]), radii[name])
            for name, weight in weights.items()
            if name in radii
        }

    def move_images(number: int, images: Tensor, gradient: Tensor) -> Tensor:
        batch = batches[number]
        step = batch.eps / 4 * attacks.ascent_direction(gradient, batch.norm)
        return attacks.project(batch.clean, images + step, batch.eps, batch.norm)

    after = ascend(
        model,
        {name: weight for name, weight in weights.items() if name in radii},
        [batch.images for batch in batches],
        [batch.labels for batch in batches],
        attacks.cross_entropy,
        move_weights,
        move_images if batches[0].variant == "adversarial" else None,
        STEPS,
        context,
    )
    return after - before


def unit(tensor: Tensor) -> Tensor:
    """The tensor divided by its L2 norm; 0 where that is 0."""
    length: Tensor = tensor.norm()
    return tensor / length.clamp_min(torch.finfo(tensor.dtype).tiny)


def clipped(tensor: Tensor, radius: Tensor) -> Tensor:
    """The nearest tensor of L2 norm at most `radius`."""
    length: Tensor = tensor.norm()
    return tensor * (radius / length.clamp_min(torch.finfo(tensor.dtype).tiny)).clamp(max=1.0)
