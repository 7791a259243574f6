import torch
from torch import Tensor, nn

from measures._context import Context
from measures._noise import normal
from measures._weights import losses, weights_of
from measures.core import Batch, measure

RHO = 0.1  # standard deviation of a weight's noise, relative to the weight
DRAWS = 10
STREAM = 4_000  # and onwards: one stream of keyed numbers per parameter


@measure(
    family="flatness",
    needs=("batches", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Andriushchenko et al., ICML 2023",
    formula="E_v L(w + v) - L(w),  v_i ~ N(0, (0.1 w_i)^2),  10 draws",
    invariances=("layer rescaling",),
)
def adaptive_sharpness_average(model: nn.Module, batches: list[Batch], context: Context) -> Tensor:
    """Mean rise of the loss under random noise on the weights, each in proportion to itself.

        (1/10) sum_j L(w + v_j) - L(w),  v_j[i] ~ N(0, rho^2 w_i^2) for every parameter i,  rho = 0.1;  in nats
        L(w) = (1/n) sum_i CE(f_w(x_i), y_i);  -> (n, 10): each image's rise at each draw

    The elementwise adaptive average-case l2 sharpness, over all parameters (biases and normalisation too). Noise is
    keyed by (seed, parameter, draw); its spread enters the standard error. Costs 11 forward passes of each image. A
    draw is made once for all images, so target_se stops nothing: see average_flat.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed (average_flat redoes the attack).
    Paper: Andriushchenko et al., A Modern Look at the Relationship between Sharpness and Generalization, ICML 2023:
    rho from 0.05 to 0.4 for ResNets, 20 draws for each batch of 128. Claim about the gap: none.
    """
    weights = weights_of(model)
    before = torch.cat([context.losses(batch) for batch in batches])
    rises = []
    for draw in range(DRAWS):
        moved = {
            name: weight * (1 + RHO * normal(weight, batches[0].seed, STREAM + place, draw))
            for place, (name, weight) in enumerate(weights.items())
        }
        after = [losses(model, moved, batch.images, batch.labels) for batch in batches]
        rises.append(torch.cat(after) - before)
    return torch.stack(rises, dim=1)
