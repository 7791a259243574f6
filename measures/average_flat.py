import torch
from torch import Tensor, nn

from robustgap.measures._attack import pgd10
from robustgap.measures._context import Context
from robustgap.measures._weights import logits_at, losses, normalization_parameters, weights_of
from robustgap.measures.core import Batch, measure
from robustgap.training import keyed

XI = 0.5  # length of the noise of a layer, relative to the layer's weights
PAIRS = 5  # of draws of opposite sign
STREAM = 2_000  # and onwards: one stream of keyed numbers per parameter


@measure(
    family="flatness",
    needs=("batches", "context"),
    expects={"clean": None, "adversarial": 1},
    paper="Stutz et al., ICCV 2021",
    formula="E_v L(w + v) - L(w),  ||v_l||_2 = 0.5 ||w_l||_2 for each layer l,  5 draws and their opposites",
    invariances=("layer rescaling",),
)
def average_flat(model: nn.Module, batches: list[Batch], context: Context) -> Tensor:
    """Mean rise of the (robust) loss under random noise on the weights, relative layer by layer.

        (1/5) sum_j (L(w + v_j) + L(w - v_j))/2 - L(w),  v_j[l] uniform on the sphere of radius xi ||w_l||_2
        xi = 0.5;  in nats;  -> (n, 5): each image's rise at each pair

    A layer is one parameter tensor (weights and biases apart), as in the authors' code; scales and shifts of
    normalisation layers stay. Noise is keyed by (seed, parameter, pair). Its spread enters the standard error.
    Draws come with their opposites (relative standard deviation over seeds .17 instead of .23, adversarial .17 instead
    of .27, on a small MLP trained on digits, at equal passes).
    A draw is made once for all images (of a ResNet-18 it costs what a forward pass of 120 costs), so target_se stops
    nothing.
    Clean: L is the mean cross-entropy. Adversarial: the robust loss, PGD-10 redone on w + v_j after each draw from the
    same starting points; L(w) is the loss on the shared PGD-10 examples.
    Paper: Stutz, Hein and Schiele, Relating Adversarially Robust Generalization to Flat Minima, ICCV 2021: v in the
    ball in the text, on the sphere in the code (the same in high dimension), new noise for each batch of 128 images,
    PGD-20 with 10 restarts, test images. Claim: flatness goes with a smaller robust gap, so +1; none for the clean
    loss, whose flatness is said to tell nothing.
    """
    weights = weights_of(model)
    before = torch.cat([context.losses(batch) for batch in batches])
    fixed = normalization_parameters(model)
    rises = []
    for pair in range(PAIRS):
        both = torch.zeros_like(before)
        for sign in (1, -1):
            moved = {
                name: weight if name in fixed else weight + sign * sphere(weight, batches[0].seed, STREAM + place, pair)
                for place, (name, weight) in enumerate(weights.items())
            }
            after = [losses(model, moved, examples(model, moved, batch), batch.labels) for batch in batches]
            both += torch.cat(after) / 2
        rises.append(both - before)
    return torch.stack(rises, dim=1)


def sphere(weight: Tensor, seed: int, stream: int, draw: int) -> Tensor:
    """Noise in a uniformly random direction, of length XI ||weight||_2."""
    index = torch.tensor([draw], device=weight.device)
    noise = keyed.normal(seed, stream, index, (weight.numel(),)).reshape(weight.shape)
    return (XI * weight.double().norm() * noise / noise.norm()).to(weight)


def examples(model: nn.Module, weights: dict[str, Tensor], batch: Batch) -> Tensor:
    """The images on which the loss at `weights` is taken: clean, or attacked anew at these weights."""
    if batch.variant == "clean":
        return batch.images
    return pgd10(lambda images: logits_at(model, weights, images), batch)
