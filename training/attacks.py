"""Gradient attacks inside a norm ball, as plain functions found by name in ATTACKS.

Contract: `f(model, x, y, *, eps, noise, loss, **options) -> x_adv`.

x       (n, c, h, w) in [0, 1]; anything outside is a ValueError. y (n,) int64.
eps     radius of the ball, in the units of x. eps = 0 returns x, exactly.
noise   (n, c, h, w): displacement of the start from x, projected onto the ball first; None starts at x. It is drawn
        by the caller (see `start`), keyed by image, so results depend on neither batch size nor order.
loss    (logits, y) -> (n,), maximised (minimised with targeted=True, where y holds the wanted class).

The model is attacked in the mode it is in; callers hand it over in eval mode. No parameter gradient is accumulated.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgap.training import keyed
from robustgap.training.facts import NORMS
from robustgap.training.registry import Registry

ATTACKS = Registry("attack")
START, EVALUATION_START = 1, 2  # streams of keyed noise

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """-log softmax(logits)_y for each example: (n, k), (n,) -> (n,).

    In float64: where the label leads by 17 or more, float32 rounds its probability to 1, and the remaining gradient is
    wrong, or 0, so an attack has nothing to follow.
    """
    return F.cross_entropy(logits.double(), y, reduction="none").to(logits)


def flat_norm(x: Tensor) -> Tensor:
    """L2 norm of each example, broadcastable to x: (n, ...) -> (n, 1, ...)."""
    return x.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.dim() - 1))  # type: ignore[no-any-return]


def project(x: Tensor, x_adv: Tensor, eps: float, norm: str) -> Tensor:
    """The point of {z : ||z - x||_norm <= eps} and of [0, 1]^d reached from x_adv by projecting on the ball, then
    clipping to the box. The ball comes first and clipping never leaves it, because x itself lies in the box."""
    delta = x_adv - x
    if norm == "Linf":
        delta = delta.clamp(-eps, eps)
    elif norm == "L2":
        delta = delta * (eps / flat_norm(delta).clamp_min(1e-12)).clamp(max=1.0)
    else:
        raise ValueError(f"norm: found {norm!r}, wanted one of {', '.join(NORMS)}")
    return (x + delta).clamp(0.0, 1.0)


def ascent_direction(grad: Tensor, norm: str) -> Tensor:
    """Steepest ascent of unit length: sign(g) for Linf, g / ||g||_2 for L2 (0 where the gradient vanishes)."""
    if norm == "Linf":
        return grad.sign()
    return grad / flat_norm(grad).clamp_min(torch.finfo(grad.dtype).tiny)


def start(x: Tensor, index: Tensor, *, seed: int, eps: float, norm: str, stream: int = START) -> Tensor:
    """Uniform draw from the ball of radius eps around 0, keyed by (seed, stream, image index), of the shape of x."""
    shape = x.shape[1:]
    if norm == "Linf":
        draw = keyed.uniform(seed, stream, index, shape, -1.0, 1.0)
    else:
        direction = keyed.normal(seed, stream, index, shape)
        radius = keyed.uniform(seed, stream + 1_000_003, index, (1,)) ** (1.0 / direction[0].numel())
        draw = direction / flat_norm(direction) * radius.reshape(-1, *[1] * len(shape))
    return (eps * draw).to(x)


def input_gradient(model: nn.Module, x: Tensor, y: Tensor, loss: Loss = cross_entropy) -> Tensor:
    """Gradient of sum_i loss(model(x_i), y_i) with respect to x: each example's own gradient, (n, c, h, w)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        return torch.autograd.grad(loss(model(x), y).sum(), x)[0]


def check_range(x: Tensor) -> None:
    """Raise ValueError unless every entry of x lies in [0, 1]."""
    low, high = float(x.min()), float(x.max())
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(f"images: found values from {low:.4g} to {high:.4g}, wanted all inside [0, 1]")


@ATTACKS.register()
def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    noise: Tensor | None,
    loss: Loss = cross_entropy,
    norm: str = "Linf",
    steps: int = 10,
    step: float | None = None,
    targeted: bool = False,
) -> Tensor:
    """Projected gradient ascent (Madry et al., ICLR 2018): x <- P(x + step * direction(grad)), last iterate.

    step: length of one step in the units of x; default eps/4, and eps for a single step.
    """
    check_range(x)
    return climb(model, x, y, eps=eps, noise=noise, loss=loss, norm=norm, steps=steps, step=step, targeted=targeted)


def climb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    noise: Tensor | None,
    loss: Loss,
    norm: str,
    steps: int,
    step: float | None = None,
    targeted: bool = False,
) -> Tensor:
    """`pgd` on images that are known to lie in [0, 1]: checking would make the host wait for the device."""
    if eps == 0:
        return x.clone()
    step = (eps if steps == 1 else eps / 4) if step is None else step
    sign = -1.0 if targeted else 1.0
    x_adv = x.clone() if noise is None else project(x, x + noise, eps, norm)
    for _ in range(steps):
        grad = input_gradient(model, x_adv, y, loss)
        x_adv = project(x, x_adv + sign * step * ascent_direction(grad, norm), eps, norm)
    return x_adv


@ATTACKS.register()
def fgsm(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, noise: Tensor | None = None, **options: Any) -> Tensor:
    """One step of size eps from x (from x + noise where given) (Goodfellow et al., ICLR 2015; L2: its dual)."""
    return pgd(model, x, y, eps=eps, noise=noise, steps=1, step=eps, **options)  # type: ignore[no-any-return]


@ATTACKS.register()
def clean(model: nn.Module, x: Tensor, y: Tensor, *, eps: float, noise: Tensor | None = None) -> Tensor:
    """No attack: x itself. Lets clean accuracy go through the same code as every robust one."""
    check_range(x)
    return x
