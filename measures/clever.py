import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._distances import dual_norm, linearised
from robustgap.measures._reverse_weibull import endpoint
from robustgap.measures.core import Batch, Missing, measure
from robustgap.training import attacks

BLOCKS, SAMPLES = 16, 4  # number of maxima that are fitted, and points of the ball for each
STREAM = 10_000  # and onwards: one stream of keyed numbers per point


@measure(
    family="distance",
    needs=("batch", "context"),
    expects={"clean": None, "adversarial": None},
    paper="Weng et al., ICLR 2018 (CLEVER)",
    formula="mean_i g(x_i) / L_i,  g = f_y - f_k,  L_i = Weibull endpoint of 16 maxima of 4 || grad g(x_i + u) ||_q",
    invariances=("layer rescaling", "BatchNorm folding"),
)
def clever(model: nn.Module, batch: Batch, context: Context) -> Tensor:
    """CLEVER-style estimate of the distance to the boundary, by extreme values of the gradient in the ball.

        (1/n) sum_i g_i(x_i) / L_i,  g_i(x) = f(x)[y_i] - f(x)[k_i];  0 for a misclassified image
        L_i estimates  max over ||u||_p <= eps of || grad g_i(x_i + u) ||_q,  1/p + 1/q = 1
        images (n, c, h, w) -> (n,);  in units of pixel intensity, >= 0

    k_i is the class whose boundary is nearest when f is linearised at x_i, among the 9 other classes of largest logit,
    as in linear_distance. 64 points u, uniform in the ball of the threat model (L_p, radius eps) and
    keyed by image, then clipped to the box, are cut into 16 blocks of 4; a reverse Weibull law is fitted to the 16
    largest gradient norms by maximum likelihood (measures/_reverse_weibull.py), and its endpoint is L_i. Where there is
    no such endpoint the largest norm is used, and a note says for how many images. Missing for eps = 0, where the ball
    is a point. Exact for a linear model. Otherwise an estimate and no certificate: L_i is a fit, the distance
    extrapolates beyond eps, and another class may be nearer than k_i.
    Clean: x_i the image; the scale of the logits changes nothing. Adversarial: x_i its PGD-10 example; the attack sees
    the scale.
    Paper: Weng et al., Evaluating the Robustness of Neural Networks: An Extreme Value Theory Approach, ICLR 2018. It
    fits 500 maxima of 1024 points for each class k and takes the smallest bound over all classes, so ours, for one
    class, can be larger; and it caps the bound at the radius of the ball: with our radius the cap would leave nothing
    but the share of images beyond it. Its code fits by scipy from several starts and keeps the best by a
    Kolmogorov-Smirnov test. Claim about the gap: none.
    """
    if batch.eps == 0:
        raise Missing("eps = 0: the ball is a point")
    near, rival = linearised(model, batch, context)
    right = ~(near <= 0)  # not near > 0: NaN must stay NaN
    bounds = torch.zeros_like(near)
    if right.any():
        bounds[right] = sampled_bounds(model, batch, right, rival[right], context.logits(batch)[right])
    return bounds


def sampled_bounds(model: nn.Module, batch: Batch, rows: Tensor, rival: Tensor, logits: Tensor) -> Tensor:
    """g_i(x_i) / L_i of the images in those rows, against their rival classes: (m,)."""
    x, labels = batch.images[rows], batch.labels[rows]

    def lead(scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.gather(1, labels[:, None]) - scores.gather(1, rival[:, None]))[:, 0]

    slopes = []
    for point in range(BLOCKS * SAMPLES):
        stream = STREAM + point
        start = attacks.start(x, batch.index[rows], seed=batch.seed, eps=batch.eps, norm=batch.norm, stream=stream)
        moved = attacks.project(x, x + start, batch.eps, batch.norm)
        slopes.append(dual_norm(attacks.input_gradient(model, moved, labels, loss=lead), batch.norm))
    largest = torch.stack(slopes, dim=1).reshape(len(x), BLOCKS, SAMPLES).amax(dim=2)
    limit, found = endpoint(largest)
    batch.notes["have no Weibull endpoint: their largest gradient is taken"] += int((~found).sum())
    return (lead(logits, labels) / limit).to(batch.images)
