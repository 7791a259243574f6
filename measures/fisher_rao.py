import math

from torch import Tensor, nn

from robustgap.measures._loss_derivatives import derivative
from robustgap.measures._weights import detached_parameters
from robustgap.measures.core import Batch, Missing, measure


def root_mean(values: Tensor) -> tuple[float, float]:
    """Square root of the mean of (n,) numbers >= 0; no standard error."""
    return math.sqrt(float(values.mean())), math.nan


@measure(
    family="flatness",
    needs=("batch",),
    expects={"clean": 1, "adversarial": None},
    paper="Liang et al., AISTATS 2019",
    formula="sqrt((1/n) sum_i <w, grad_w CE(f_w(x_i), y_i)>^2)",
    invariances=("layer rescaling",),
    reduction=root_mean,
)
def fisher_rao(model: nn.Module, batch: Batch) -> Tensor:
    """Fisher-Rao norm: length of the weights in the metric of the Fisher information.

        ||w||_fr = sqrt(w^T I w) = sqrt((1/n) sum_i <w, g_i>^2),  g_i = grad_w CE(f_w(x_i), y_i)
        I = (1/n) sum_i g_i g_i^T;  in nats, >= 0;  images (n, c, h, w) -> (n,): <w, g_i>^2

    w: all parameters. <w, g_i> is the derivative of the loss when all weights grow in proportion, so neither a matrix
    nor a gradient of single images is needed: 3 forward passes (counted) of each image, about 7 in time. For a network
    of L linear layers with ReLU and without biases, <w, g_i> = L <dCE/df, f>: the paper's closed form. Each scale of a
    normalisation layer counts as one more layer. One number for the whole set, without a standard error: a few images
    with a large loss make up most of the mean, and a sample without them estimates neither it nor its error. (On a
    small CNN after adversarial training, value +- 1.96 delta-method errors covered the value on all 1,797 images in
    61 % of samples of 128 and 67 % of samples of 256.)
    Clean: x_i the image. Adversarial: x_i its PGD-10 example, held fixed.
    Paper: Liang, Poggio, Rakhlin and Stokes, Fisher-Rao Metric, Geometry, and Complexity of Neural Networks, AISTATS
    2019; this is its empirical form, with the labels of the data (the other draws them from the model). Code that uses
    the closed form for networks with biases is off by their contribution. Claim: larger means a larger gap (of clean
    accuracy), so +1.
    """
    weights = detached_parameters(model)
    if not weights:
        raise Missing("the model has no parameters")
    return derivative(model, weights, weights, batch).square()
