from torch import nn

from robustgap.measures._context import Context
from robustgap.measures._norms import logarithms
from robustgap.measures._operator import operator_norms
from robustgap.measures.core import measure


@measure(
    family="norm",
    needs=("shape", "context"),
    expects={"none": 1},
    paper="Farnia et al., ICLR 2019",
    formula="sum_l log max_x ||A_l x||_2^2 / ||x||_2^2",
    invariances=("layer rescaling",),
)
def log_prod_of_operator(model: nn.Module, shape: tuple[int, ...], context: Context) -> float:
    """Logarithm of the product of the layers' squared operator norms, with true stride, padding and input size.

        sum_l log ||A_l||_2^2,  ||A||_2 = max_x ||A x||_2 / ||x||_2;  no unit, in float64
        shape (c, h, w) of one image, which is passed through the network to find the input size of each layer

    A_l is the linear map of a layer without its bias: a convolution as a map of whole images, zeros beyond the border.
    Its largest singular value comes from a Lanczos iteration on x -> A^T A x, to a relative residual of 1e-3 (norm
    within 0.05 %), or from the matrix itself up to 64 inputs. Half the value bounds the log of the Lipschitz constant
    of a chain of these layers and of 1-Lipschitz activations. log_prod_of_spec takes the norm of the reshaped kernel
    instead: of a convolution of one group never larger where some window lies wholly inside the image, and up to
    sqrt(kernel size) smaller.
    BatchNorm is NOT folded in and does not count as a layer: its scale does not enter. A layer that no image
    passes through does not count; one that is used several times counts once, at the input size of its largest norm.
    Missing where an iteration does not converge (100 restarts), for a model with weight matrices of other kinds
    (attention), and where a layer is zero. Published code (Dziugaite et al., NeurIPS 2020) treats every weight as that
    of a circular convolution of stride 1 on images of the input's size (Sedghi et al., ICLR 2019), linear layers as
    well, whose two-dimensional weight its einsum cannot handle.
    Paper: Farnia et al., Generalizable Adversarial Training via Spectral Normalization, ICLR 2019, whose bound on the
    gap of adversarial loss grows with the product, so +1; the product itself as in Jiang et al., ICLR 2020, eq. 32.
    """
    norms = context.of_model("operator_norms", lambda: operator_norms(model, shape))
    return sum(logarithms([norm**2 for norm in norms]))
