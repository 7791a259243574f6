import math

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._distances import l2_norm, over_largest
from robustgap.measures.core import Batch, measure
from robustgap.training import attacks

STEP = 1.5  # L2 length of the finite difference for 3072 pixel values


@measure(
    family="smoothness",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Moosavi-Dezfooli et al., CVPR 2019",
    formula="mean_i || grad l(x_i + h z_i) - grad l(x_i) ||_2 / h,  z_i = sign(grad l(x_i)) / ||.||_2,  l = CE",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def input_curvature(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Mean curvature of the loss in the input along its steepest ascent, by a finite difference of gradients.

        (1/n) sum_i || grad l_i(x_i + h z_i) - grad l_i(x_i) ||_2 / h,  l_i(x) = CE(f(x), y_i)
        images (n, c, h, w) -> (n,);  in nats per squared unit of pixel intensity, >= 0; -> ||H z_i||_2 as h -> 0

    z_i of unit L2 length is the direction of steepest ascent in the threat model's norm: sign(grad l_i) / ||.||_2 for
    Linf, as in the paper, grad l_i / ||.||_2 for L2. h = 1.5 sqrt(d / 3072) for d pixel values: the paper's final 1.5
    for CIFAR-10, which moves each pixel by 7/255; it is finite on purpose, because the Hessian of a ReLU network does
    not see the kinks. x_i + h z_i is not clipped to [0, 1]. 0 where the gradient vanishes.
    Clean: x_i the image. Adversarial: x_i its PGD-10 example.
    Paper: Moosavi-Dezfooli et al., Robustness via Curvature Regularization, and Vice Versa, CVPR 2019, about robust
    accuracy. Claim about the gap: none. The paper squares the norm, and leaves out 1/h; the authors' code does not
    square it, leaves out 1/h as well and takes h = 3 by default.
    """
    x, gradient = batch.images, context.input_gradient(batch)
    h = STEP * math.sqrt(x[0].numel() / 3072)
    moved = attacks.input_gradient(model, x + h * direction(gradient, batch.norm), batch.labels)
    return l2_norm(moved - gradient) / h


def direction(gradient: Tensor, norm: str) -> Tensor:
    """Steepest ascent in the norm as a vector of L2 length 1; 0 where the gradient is."""
    steepest = gradient.sign() if norm == "Linf" else over_largest(gradient)[0]
    return steepest / attacks.flat_norm(steepest).clamp_min(torch.finfo(gradient.dtype).tiny)
