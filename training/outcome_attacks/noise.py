"""Random noise of an attack's size, as control: what a fall of accuracy by chance would look like."""

from torch import Tensor, nn

from robustgap.training import attacks, keyed
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS, SEED

UNIFORM_STREAM, GAUSSIAN_STREAM = 320, 321


@OUTCOME_ATTACKS.register("uniform_noise")
def uniform_noise(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """A uniform draw from the ball of radius eps around x, clipped to [0, 1]."""
    attacks.check_range(x)
    noise = attacks.start(x, index, seed=SEED, eps=eps, norm=norm, stream=UNIFORM_STREAM)
    return attacks.project(x, x + noise, eps, norm)


@OUTCOME_ATTACKS.register("gaussian_noise")
def gaussian_noise(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """Gaussian noise, the same for every pixel, scaled to the norm eps, then clipped to [0, 1]."""
    attacks.check_range(x)
    noise = keyed.normal(SEED, GAUSSIAN_STREAM, index, x.shape[1:])
    flat = noise.flatten(1)
    size = flat.abs().amax(dim=1) if norm == "Linf" else flat.norm(dim=1)
    scaled = eps * noise / size.reshape(-1, *[1] * (x.dim() - 1))
    return attacks.project(x, x + scaled.to(x), eps, norm)
