import torch
from torch import Tensor, nn

from robustgap.measures._attack import pgd10
from robustgap.measures._context import Context
from robustgap.measures._loss_rise import rises_under_noise
from robustgap.measures._noise import sphere_noise
from robustgap.measures._weights import detached_parameters, logits_at, losses, normalization_parameters
from robustgap.measures.core import Batch, measure

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
    normalisation layers are not moved. Noise is keyed by (seed, parameter, pair); its spread enters the standard error.
    Each draw is used with its opposite (relative standard deviation over seeds .17 instead of .23, adversarial .17
    instead of .27, on a small MLP trained on digits, at equal passes). A draw is made once for all images (for a
    ResNet-18 it costs as much as a forward pass of 120 images), so target_se has no effect.
    Clean: L is the mean cross-entropy. Adversarial: the robust loss, PGD-10 redone on w + v_j after each draw from the
    same starting points; L(w) is the loss on the shared PGD-10 examples.
    Paper: Stutz, Hein and Schiele, Relating Adversarially Robust Generalization to Flat Minima, ICCV 2021: v in the
    ball in the text, on the sphere in the code (the same in high dimension), new noise for each batch of 128 images,
    PGD-20 with 10 restarts, test images. Claim: flatness goes with a smaller robust gap, so +1; none for the clean
    loss, whose flatness they find uninformative.
    """
    weights, fixed = detached_parameters(model), normalization_parameters(model)
    before = torch.cat([context.losses(batch) for batch in batches])

    def losses_at(pair: int, sign: int) -> Tensor:
        noise = sphere_noise(weights, XI, batches[0].seed, STREAM, pair)
        moved = {name: weight if name in fixed else weight + sign * noise[name] for name, weight in weights.items()}
        return torch.cat([losses(model, moved, examples(model, moved, batch), batch.labels) for batch in batches])

    return rises_under_noise(before, losses_at, PAIRS)


def examples(model: nn.Module, weights: dict[str, Tensor], batch: Batch) -> Tensor:
    """The images for the loss at `weights`: clean, or attacked anew at these weights."""
    if batch.variant == "clean":
        return batch.images
    return pgd10(lambda images: logits_at(model, weights, images), batch)
