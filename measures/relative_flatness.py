from typing import Any

import torch
from torch import Tensor, nn

from robustgap.measures._state import removed_afterwards
from robustgap.measures.core import Batch, Missing, measure


@measure(
    family="flatness",
    needs=("batch",),
    expects={"clean": 1, "adversarial": None},
    paper="Petzka et al., NeurIPS 2021",
    formula="sum_{s,t} <w_s, w_t> tr H_{s,t},  w_s the rows of the last layer, H the Hessian of L in them",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def relative_flatness(model: nn.Module, batch: Batch) -> Tensor:
    """Relative flatness of the last linear layer: the trace of its Hessian, weighted by the weights themselves.

        sum_{s,t} <w_s, w_t> tr H_{s,t},  H_{s,t} = d^2 L / dw_s dw_t,  L = (1/n) sum_i CE(W phi(x_i) + b, y_i)
        = (1/n) sum_i ||phi_i||_2^2 (sum_s p_is ||w_s||_2^2 - || sum_s p_is w_s ||_2^2),  p_i = softmax(f(x_i))
        in nats, >= 0;  images (n, c, h, w) -> (n,)

    w_s: the row of class s of the weight W of the last linear layer, whose bias does not enter; phi its input. The
    second line is exact, because the Hessian of the cross-entropy in the logits is diag(p) - p p^T: one forward pass
    and no second derivatives. 0 is flat; the larger, the sharper.
    Missing where the logits are not the output of a linear layer (a convolution, or scaled afterwards).
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Petzka et al., Relative Flatness and Generalization, NeurIPS 2021 (kappa with the trace; its other form takes
    largest eigenvalues). Its code first scales each feature to unit variance, against rescalings of single neurons, to
    which this value is not invariant (to those of whole layers it is). Claim: larger means a larger gap (of clean
    accuracy), so +1.
    """
    layer, features, logits = last_layer(model, batch.images)
    weight, probabilities = layer.weight.detach(), logits.softmax(dim=1)
    # sum_s p_s ||w_s||^2 - ||sum_s p_s w_s||^2 as a sum over pairs: the difference cancels where the model is confident
    pairs = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist").square()
    spread = ((probabilities @ pairs) * probabilities).sum(dim=1) / 2
    return features.square().sum(dim=1) * spread


def last_layer(model: nn.Module, images: Tensor) -> tuple[nn.Linear, Tensor, Tensor]:
    """The linear layer whose output the logits are, its input (n, m) and the logits (n, k). Raises Missing."""
    last: dict[str, Any] = {}

    def record(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        last.update(layer=layer, features=inputs[0], output=output)

    handles = [layer.register_forward_hook(record) for layer in model.modules() if isinstance(layer, nn.Linear)]
    with removed_afterwards(handles):
        logits = model(images)
    if not last or last["output"].shape != logits.shape or not torch.equal(last["output"], logits):
        raise Missing("the logits are not the output of a linear layer")
    return last["layer"], last["features"], logits
