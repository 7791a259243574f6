"""The scale of weight noise that costs a tenth of the accuracy, and the PAC-Bayes bounds at that scale."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._noise import gaussian_noise
from robustgap.measures._weights import detached_parameters, logits_at, normalization_parameters
from robustgap.measures.core import Missing, mean

DROP = 0.1  # of the accuracy
TOLERANCE = 0.01  # of the drop
LOWEST, HIGHEST = 1e-4, 10.0  # range of the search for sigma
STEPS = 12  # halvings of log sigma: a relative resolution of 0.3 %
DRAWS = 10  # of magnitude-aware noise, independent; plain noise: half as many and their opposites
EPSILON = 1e-3  # smallest standard deviation of the magnitude-aware noise
BUDGET = 2**28  # bytes of noise to keep between steps; more is drawn anew
STREAM = 5_000  # and onwards: one stream of keyed numbers per perturbed weight

Noise = Callable[[int], dict[str, Tensor]]


@dataclass(frozen=True)
class Scale:
    """sigma, and the standard error of log sigma from the draws of noise and from image sampling."""

    sigma: float
    error: float

    def measure(self, value: Callable[[float], float]) -> tuple[float, float]:
        """value(sigma) and its standard error, from the slope of value in log sigma."""
        step = 1e-3
        slope = (value(self.sigma * math.exp(step)) - value(self.sigma * math.exp(-step))) / (2 * step)
        return value(self.sigma), abs(slope) * self.error


def perturbed_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that get noise: all parameters but biases and those of normalisation layers. Raises Missing."""
    parameters = detached_parameters(model)
    biases = {name for name in parameters if "bias" in name.rpartition(".")[2]}  # bias_ih_l0 of an LSTM
    fixed = biases | normalization_parameters(model)
    weights = {name: weight for name, weight in parameters.items() if name not in fixed}
    if not weights:
        raise Missing("the model has no weights besides biases and normalisation")
    return weights


def perturbed_vector(model: nn.Module) -> Tensor:
    """All perturbed weights as one float64 vector w."""
    return torch.cat([weight.double().flatten() for weight in perturbed_weights(model).values()])


def displacement(model: nn.Module, initial: Mapping[str, Tensor]) -> Tensor:
    """w - w_0 over the perturbed weights, as one float64 vector."""
    weights = perturbed_weights(model)
    return torch.cat([(weight.double() - initial[name].double()).flatten() for name, weight in weights.items()])


def image_count(context: Context) -> int:
    return sum(len(batch.images) for batch in context.batches)


def noise_scale(model: nn.Module, context: Context, magnitude: bool) -> Scale:
    """The sigma at which noise costs DROP of the accuracy; searched for once, for all measures that use a context.

    Noise on each perturbed weight: N(0, sigma^2), in draws and their opposites, or with magnitude
    N(0, sigma^2 w_i^2 + EPSILON^2). Accuracy is the mean over DRAWS draws, the same (scaled) at every sigma, so that
    bisection of log sigma finds a crossing of one curve.
    Raises Missing, with the reason, where accuracy is too low to drop, and where the search does not converge.
    """
    return context.once(("pacbayes noise scale", magnitude), lambda: search_noise_scale(model, context, magnitude))


def search_noise_scale(model: nn.Module, context: Context, magnitude: bool) -> Scale:
    """See noise_scale."""
    weights, labels = perturbed_weights(model), torch.cat([batch.labels for batch in context.batches])
    before = correct(torch.cat([context.logits(batch) for batch in context.batches]), labels, strict=True)
    if float(before.double().mean()) <= DROP:
        raise Missing(f"accuracy {float(before.double().mean()):.3f} cannot fall by {DROP}")
    signs = (1,) if magnitude else (1, -1)
    noise = draw_noise(weights, context.batches[0].seed, DRAWS // len(signs))

    def drops(sigma: float) -> Tensor:
        """1, 0 or -1 for each image and draw: (n, DRAWS); the mean of a draw and its opposite: (n, DRAWS / 2)."""
        columns = []
        for draw in range(DRAWS // len(signs)):
            u, after = noise(draw), []
            for sign in signs:
                moved = {name: w + sign * deviation(w, sigma, magnitude) * u[name] for name, w in weights.items()}
                logits = torch.cat([logits_at(model, moved, batch.images) for batch in context.batches])
                after.append(correct(logits, labels))
            columns.append(before - torch.stack(after).mean(dim=0))
        return torch.stack(columns, dim=1)

    return bisect(drops, f", where no noise is below {EPSILON:g}" * magnitude)


def bisect(drops: Callable[[float], Tensor], floor: str = "") -> Scale:
    """The sigma at which the mean of drops(sigma), (n, draws), crosses DROP. Raises Missing where none is found.

    floor: what the message adds where even the smallest sigma is too large.
    """
    low, high = math.log(LOWEST), math.log(HIGHEST)
    mean_drop: dict[float, float] = {}  # by log sigma
    above = None  # the drops at `high`
    for _ in range(STEPS):
        middle = (low + high) / 2
        values = drops(math.exp(middle))
        mean_drop[middle] = float(values.mean())
        if mean_drop[middle] < DROP:
            low = middle
        else:
            high, above = middle, values
    if above is None:
        raise Missing(f"accuracy does not fall by {DROP} for any sigma up to {HIGHEST:g}")
    if low not in mean_drop:
        raise Missing(f"accuracy falls by more than {DROP} even at sigma = {LOWEST:g}{floor}")
    nearest = min(mean_drop[low], mean_drop[high], key=lambda drop: abs(drop - DROP))
    if abs(nearest - DROP) > TOLERANCE:
        sides = f"{mean_drop[low]:.3f} or {mean_drop[high]:.3f} on either side of sigma = {math.exp(low):.4g}"
        raise Missing(f"the search for sigma did not converge: accuracy falls by {sides}")
    centre = (low + high) / 2
    other = min((x for x in mean_drop if abs(x - centre) > 0.1), key=lambda x: abs(x - centre))
    slope = (mean_drop[other] - DROP) / (other - centre)
    return Scale(math.exp(centre), mean(above)[1] / slope if slope > 0 else math.nan)


def deviation(weight: Tensor, sigma: float, magnitude: bool) -> Tensor | float:
    """Standard deviation of the noise on a weight."""
    return (sigma**2 * weight.square() + EPSILON**2).sqrt() if magnitude else sigma


def correct(logits: Tensor, labels: Tensor, strict: bool = False) -> Tensor:
    """1 where the label has the largest logit and all logits are finite, else 0: (n,) in float64.

    strict: raises Missing for logits that are not finite.
    """
    finite = torch.isfinite(logits).all(dim=1)
    if strict and not finite.all():
        raise Missing(f"logits are not finite for {int((~finite).sum())} of {len(finite)} images")
    return ((logits.argmax(dim=1) == labels) & finite).double()


def draw_noise(weights: Mapping[str, Tensor], seed: int, draws: int) -> Noise:
    """Standard normal noise for each weight as a function of the draw, kept in memory where all of it fits BUDGET."""

    def make(draw: int) -> dict[str, Tensor]:
        return gaussian_noise(weights, seed, STREAM, draw)

    if draws * sum(weight.numel() * weight.element_size() for weight in weights.values()) > BUDGET:
        return make
    return [make(draw) for draw in range(draws)].__getitem__


def bound(reference: Tensor, sigma: float, n: int) -> float:
    """||reference||_2^2 / (4 sigma^2) + log(n / sigma) + 10."""
    return float(reference.square().sum()) / (4 * sigma**2) + math.log(n / sigma) + 10


def magnitude_bound(reference: Tensor, moved: Tensor, sigma: float, n: int) -> float:
    """(1/4) sum_i log((e^2 + (sigma^2 + 1) ||reference||^2 / k) / (e^2 + sigma^2 moved_i^2)) + log(n / sigma) + 10,
    for k weights and e = EPSILON."""
    above = EPSILON**2 + (sigma**2 + 1) * float(reference.square().mean())
    below = EPSILON**2 + sigma**2 * moved.square()
    return float((math.log(above) - below.log()).sum()) / 4 + math.log(n / sigma) + 10
