"""The file that `python -m robustgap.measures new NAME` writes: a working measure to start from."""

TEMPLATE = '''\
from torch import Tensor, nn

from robustgap.measures.core import Batch, measure


@measure(
    family="output",
    needs=("batch",),  # measures/core.py lists what a measure can get
    expects={"clean": None, "adversarial": None},  # sign the paper claims for the gap: 1, -1, or None for no claim
    paper="",
    formula="mean_i max_k softmax(f(x_i))[k]",
)
def NAME(model: nn.Module, batch: Batch) -> Tensor:
    """Mean confidence: the largest class probability. (Describe NAME here.)

        (1/n) sum_i max_k softmax(f(x_i))[k];  no unit, in [1/classes, 1];  images (n, c, h, w) -> (n,)

    Return one number per image: the mean, its standard error, batches, missing values and the cache are taken care of.
    batch.images are clean or adversarial, depending on the variant; batch.labels are their classes. Take random numbers
    from robustgap.training.keyed, with batch.seed and batch.index; input gradients from
    robustgap.training.attacks.input_gradient.
    """
    return model(batch.images).softmax(dim=1).amax(dim=1)
'''
