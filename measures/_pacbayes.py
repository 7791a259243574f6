"""The scale of weight noise that costs a tenth of the accuracy, and what PAC-Bayes measures make of it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._noise import normal
from robustgap.measures._weights import logits_at, normalization_parameters, weights_of
from robustgap.measures.core import Missing, mean

DROP = 0.1  # of the accuracy
TOLERANCE = 0.01  # of the drop that is reached
LOWEST, HIGHEST = 1e-4, 10.0  # sigma is searched for between these
STEPS = 12  # halvings of log sigma: a relative resolution of 0.3 %
DRAWS = 10  # of independent noise; without magnitude of half as many and their opposites
EPSILON = 1e-3  # smallest standard deviation of the magnitude-aware noise
BUDGET = 2**28  # bytes of noise kept between steps; more is drawn anew
STREAM = 5_000  # and onwards: one stream of keyed numbers per perturbed weight

Noise = Callable[[int], dict[str, Tensor]]


@dataclass(frozen=True)
class Scale:
    """sigma, and the standard error of log sigma that comes from the draws of noise and from image sampling."""

    sigma: float
    error: float

    def measure(self, value: Callable[[float], float]) -> tuple[float, float]:
        """value(sigma) and its standard error, by the slope of value over log sigma."""
        step = 1e-3
        slope = (value(self.sigma * math.exp(step)) - value(self.sigma * math.exp(-step))) / (2 * step)
        return value(self.sigma), abs(slope) * self.error


def perturbed_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that get noise: all parameters but biases and those of normalisation layers. Raises Missing."""
    fixed = normalization_parameters(model)
    biases = {name for name in weights_of(model) if "bias" in name.rpartition(".")[2]}  # bias_ih_l0 of an LSTM
    found = {name: weight for name, weight in weights_of(model).items() if name not in fixed | biases}
    if not found:
        raise Missing("the model has no weights besides biases and normalisation")
    return found


def flat(tensors: Mapping[str, Tensor]) -> Tensor:
    """All entries of all tensors as one float64 vector."""
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()])


def distance(weights: Mapping[str, Tensor], initial: Mapping[str, Tensor]) -> Tensor:
    """w - w_0 over the perturbed weights, as one float64 vector."""
    return flat({name: weight.double() - initial[name].double() for name, weight in weights.items()})


def image_count(context: Context) -> int:
    return sum(len(batch.images) for batch in context.batches)


def noise_scale(model: nn.Module, context: Context, magnitude: bool) -> Scale:
    """The sigma at which noise costs DROP of the accuracy, searched for once for all measures of a context.

    Noise on each perturbed weight: N(0, sigma^2), in draws and their opposites, or N(0, sigma^2 w_i^2 + EPSILON^2) with
    magnitude. Accuracy is the mean over DRAWS draws, the same at every sigma (scaled), so bisection of log sigma finds
    a crossing of one curve.
    Raises Missing, with the reason, where accuracy is too low to drop, or the search does not converge.
    """
    return context.once(("pacbayes noise scale", magnitude), lambda: search(model, context, magnitude))


def search(model: nn.Module, context: Context, magnitude: bool) -> Scale:
    """See noise_scale."""
    weights, labels = perturbed_weights(model), torch.cat([batch.labels for batch in context.batches])
    before = correct(torch.cat([context.logits(batch) for batch in context.batches]), labels, strict=True)
    if float(before.double().mean()) <= DROP:
        raise Missing(f"accuracy {float(before.double().mean()):.3f} cannot fall by {DROP}")
    signs = (1,) if magnitude else (1, -1)
    noise = draw_noise(weights, context.batches[0].seed, DRAWS // len(signs))

    def drops(sigma: float) -> Tensor:
        """1, 0 or -1 for each image and draw: (n, DRAWS); the mean of a draw and its opposite: (n, DRAWS / 2)."""
        found = []
        for draw in range(DRAWS // len(signs)):
            u, right = noise(draw), []
            for sign in signs:
                moved = {name: w + sign * deviation(w, sigma, magnitude) * u[name] for name, w in weights.items()}
                logits = torch.cat([logits_at(model, moved, batch.images) for batch in context.batches])
                right.append(correct(logits, labels))
            found.append(before - torch.stack(right).mean(dim=0))
        return torch.stack(found, dim=1)

    return bisect(drops, f", where no noise is below {EPSILON:g}" * magnitude)


def bisect(drops: Callable[[float], Tensor], floor: str = "") -> Scale:
    """The sigma at which the mean of drops(sigma), (n, draws), crosses DROP. Raises Missing where none is found;
    floor: what to add where even the smallest is too large."""
    low, high, seen = math.log(LOWEST), math.log(HIGHEST), {}
    reached = None
    for _ in range(STEPS):
        middle = (low + high) / 2
        values = drops(math.exp(middle))
        seen[middle] = float(values.mean())
        if seen[middle] < DROP:
            low = middle
        else:
            high, reached = middle, values
    if reached is None:
        raise Missing(f"accuracy does not fall by {DROP} for any sigma up to {HIGHEST:g}")
    if low not in seen:
        raise Missing(f"accuracy falls by more than {DROP} at sigma = {LOWEST:g} already{floor}")
    nearest = min(seen[low], seen[high], key=lambda drop: abs(drop - DROP))
    if abs(nearest - DROP) > TOLERANCE:
        found = f"accuracy falls by {seen[low]:.3f} or {seen[high]:.3f} on either side of sigma = {math.exp(low):.4g}"
        raise Missing(f"the search for sigma did not converge: {found}")
    centre = (low + high) / 2
    other = min((place for place in seen if abs(place - centre) > 0.1), key=lambda place: abs(place - centre))
    slope = (seen[other] - DROP) / (other - centre)
    return Scale(math.exp(centre), mean(reached)[1] / slope if slope > 0 else math.nan)


def deviation(weight: Tensor, sigma: float, magnitude: bool) -> Tensor | float:
    """Standard deviation of the noise on a weight."""
    return (sigma**2 * weight.square() + EPSILON**2).sqrt() if magnitude else sigma


def correct(logits: Tensor, labels: Tensor, strict: bool = False) -> Tensor:
    """1 where the label has the largest logit, else 0, also where a logit is not finite (n,) in float64.

    Raises Missing for logits that are not finite, if strict.
    """
    finite = torch.isfinite(logits).all(dim=1)
    if strict and not finite.all():
        raise Missing(f"logits are not finite for {int((~finite).sum())} of {len(finite)} images")
    return ((logits.argmax(dim=1) == labels) & finite).double()


def draw_noise(weights: Mapping[str, Tensor], seed: int, draws: int) -> Noise:
    """Standard normal noise for each weight as a function of the draw, kept in memory where all of it fits BUDGET."""

    def make(draw: int) -> dict[str, Tensor]:
        return {
            name: normal(weight, seed, STREAM + place, draw) for place, (name, weight) in enumerate(weights.items())
        }

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
