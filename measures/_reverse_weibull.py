"""Upper endpoints of distributions: maximum likelihood of the reverse Weibull law, for many samples at once."""

import math

import torch
from torch import Tensor

CLOSEST, FARTHEST = 1e-3, 10.0  # range of endpoints tried, in ranges of the sample beyond its maximum
GRID = 32
MOST = 1e3  # largest shape parameter


def endpoint(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Upper endpoint a of the reverse Weibull law of highest likelihood: (n, m) -> (n,) and whether it was found, (n,).

    P(S <= s) = exp( -((a - s) / b)^c ) for s < a. The scale b has a closed form given a and c, the shape c is the root
    of a monotone function given a (bisection), and a is the best of a grid of endpoints, refined by a parabola through
    the best point and its neighbours. c >= 1, because below that the likelihood is unbounded as a nears the maximum.
    Where all numbers are equal, and where the likelihood has no maximum between 0.001 and 10 ranges beyond the largest
    number, none is found, and the maximum of the sample is returned. scipy.stats.weibull_max.fit, which the tests
    compare with, takes 50 ms for one sample.
    """
    sample = sample.double()
    largest, smallest = sample.amax(dim=1), sample.amin(dim=1)
    spread = largest - smallest
    found = spread > 1e-9 * largest.abs()
    scaled = (largest[:, None] - sample) / torch.where(found, spread, 1.0)[:, None]  # in [0, 1]
    log_grid = torch.linspace(math.log(CLOSEST), math.log(FARTHEST), GRID, dtype=torch.float64, device=sample.device)
    fit = profile_likelihood(scaled[:, None, :] + log_grid.exp()[:, None])
    best = fit.argmax(dim=1)
    found &= (best > 0) & (best < GRID - 1)
    low, middle, high = (fit.gather(1, (best + k).clamp(0, GRID - 1)[:, None])[:, 0] for k in (-1, 0, 1))
    bend = (2 * middle - low - high).clamp_min(1e-12)
    beyond = (log_grid[best] + (log_grid[1] - log_grid[0]) * ((high - low) / (2 * bend)).clamp(-0.5, 0.5)).exp()
    return torch.where(found, largest + spread * beyond, largest), found


def profile_likelihood(gap: Tensor) -> Tensor:
    """Mean log-likelihood of gaps z = a - s > 0 at the best shape c >= 1 and scale: (n, grid, m) -> (n, grid).

    log c - log mean(z^c) + (c - 1) mean(log z) - 1, where c solves  sum z^c log z / sum z^c - 1/c - mean(log z) = 0.
    """
    top = gap.amax(dim=2, keepdim=True)
    logs = (gap / top).log()
    mean = logs.mean(dim=2)
    low = torch.zeros_like(mean)
    high = torch.full_like(mean, math.log(MOST))
    for _ in range(18):
        middle = (low + high) / 2
        power = (middle.exp()[:, :, None] * logs).exp()
        above = (power * logs).sum(dim=2) / power.sum(dim=2) - (-middle).exp() - mean > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    shape = low.exp()
    powers = (shape[:, :, None] * logs).exp().mean(dim=2)
    return shape.log() - powers.log() + (shape - 1) * mean - 1 - top[:, :, 0].log()
