import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._distances import rival_leads
from robustgap.measures._lipschitz import image_distance
from robustgap.measures.core import Batch, Missing, mean, measure
from robustgap.training.robustbench._compat import fab

STEPS = 20
RIVALS = 3  # other classes considered in each step, those of largest logit
FAILED = -1.0  # marks an image that the attack left correctly classified


def mean_of_successes(distances: Tensor) -> tuple[float, float]:
    """Mean and standard error over the images where the attack succeeded. Raises Missing where it never did."""
    if not (distances > 0).any() and (distances < 0).any():
        raise Missing("the attack changed the class of no correctly classified image")
    return mean(distances[distances >= 0])


@measure(
    family="distance",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Croce and Hein, ICML 2020 (FAB)",
    formula="mean_i min { ||d||_p : argmax f(x_i + d) != y_i, x_i + d in [0, 1]^d },  by FAB, 20 steps",
    invariances=("layer rescaling", "BatchNorm folding"),
    reduction=mean_of_successes,
)
def minimum_distance(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """Distance to the nearest image of another class, found by the minimum-norm attack FAB.

        (1/n) sum_i min { ||d||_p : argmax_k f(x_i + d)[k] != y_i,  x_i + d in [0, 1]^d }
        images (n, c, h, w) -> (n,);  in units of pixel intensity, >= 0;  an upper bound of the minimum

    p is the threat model's norm; the attack is not confined to its ball, so eps plays no part. 0 for a misclassified
    image. An image whose class FAB cannot change is left out of the mean, and a note counts such images: the mean is
    then too small. 20 steps from x_i itself, without restarts, hence without random numbers: a function of the image
    alone. In each step the boundary is linearised for the 3 other classes of largest logit; at the end the last tenth
    of the segment from x_i is bisected, because FAB steps over the boundary. On small CNNs that ends 1 to 3 % above 100
    steps with all classes, at a tenth of the cost. The attack (pyautoattack's) computes in float32.
    Clean: x_i the image; the scale of the logits changes nothing. Adversarial: x_i its PGD-10 example: the distance
    that the attack has left; the attack depends on the scale.
    Paper: Croce and Hein, Minimally Distorted Adversarial Examples with a Fast Adaptive Boundary Attack, ICML 2020:
    up to 100 steps and 9 random restarts, every class linearised. Claim about the gap: none.
    """
    x, y, logits = batch.images, batch.labels, context.logits(batch)

    def differences(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        leads, gradients, _ = rival_leads(model, images.to(x), labels, RIVALS)
        return leads.float(), gradients.float()

    moved = fab(lambda images: model(images.to(x)), differences, x, y, norm=batch.norm, steps=STEPS).to(x)
    moved = bisect_to_boundary(model, x, moved, y)
    failed = ~moved.flatten(1).isfinite().all(dim=1) | (model(moved).argmax(dim=1) == y)
    distances = image_distance(x, moved, batch.norm).masked_fill(failed, FAILED)
    distances = distances.masked_fill(logits.argmax(dim=1) != y, 0.0)
    distances = distances.masked_fill(~logits.isfinite().all(dim=1), torch.nan)
    batch.notes["could not be moved to another class and are left out"] += int((distances == FAILED).sum())
    return distances


def bisect_to_boundary(model: nn.Module, x: Tensor, moved: Tensor, y: Tensor) -> Tensor:
    """The point nearest x that is not of class y on the last tenth of the segment from x to `moved`, by 5
    bisections."""
    near = torch.full((len(x), *[1] * (x.dim() - 1)), 0.9, dtype=x.dtype, device=x.device)
    far = torch.ones_like(near)
    for _ in range(5):
        middle = (near + far) / 2
        crossed = (model(x + middle * (moved - x)).argmax(dim=1) != y).reshape(near.shape)
        near, far = torch.where(crossed, near, middle), torch.where(crossed, middle, far)
    return x + far * (moved - x)
