"""DeepFool: the nearest boundary of the network's linearisation, step by step."""

import torch
from torch import Tensor, nn

from robustgap.training import attacks
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS
from robustgap.training.outcome_attacks.gradient import standing

STEPS, OVERSHOOT = 50, 0.02
ROUNDING = 1e-5  # of the largest logit: a lead that rounding could turn round, in batches of another size
LEAST_LEAD = 1e-4  # of the largest logit, which a step aims to change at least


@OUTCOME_ATTACKS.register("deepfool")
def deepfool(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str) -> Tensor:
    """x + 1.02 r, projected onto the ball of radius eps: a model is wrong where this change is no longer than eps.

    Each step adds the shortest change that reaches the boundary to the nearest other class of the linearised network,
    with f_k and w_k the lead of class k over the label and its gradient:

        k = argmin |f_k| / ||w_k||_q,   r += |f_k| / ||w_k||_2^2 w_k   (L2, q = 2)
                                        r += |f_k| / ||w_k||_1 sign(w_k)   (Linf, q = 1)

    At most 50 steps, at x + 1.02 r clipped to [0, 1], until the image is misclassified by more than rounding: where
    clipping takes part of each step, the steps end at the boundary and not beyond it. So |f_k| is at least 1e-4 of the
    largest logit (their code makes each step longer by 1e-4), and an end on the boundary is given up for x.
    Deterministic. Paper: Moosavi-Dezfooli, Fawzi and Frossard, CVPR 2016; starts from the label where they take the
    predicted class.
    """
    attacks.check_range(x)
    shift = torch.zeros_like(x)
    left = standing(model, x, y).nonzero()[:, 0] if eps else torch.empty(0, dtype=torch.long)
    for _ in range(STEPS):
        if not len(left):
            break
        shift[left] += boundary_step(model, moved(x[left], shift[left]), y[left], norm)
        left = left[~(lead(model, moved(x[left], shift[left]), y[left]) > ROUNDING)]
    ends = attacks.project(x, x + (1 + OVERSHOOT) * shift, eps, norm)
    # half, so that no end at which the loop stopped is given up by the rounding of this forward pass
    on_boundary = (lead(model, ends, y).abs() <= ROUNDING / 2) & (shift != 0).flatten(1).any(dim=1)
    return torch.where(on_boundary.reshape(-1, *[1] * (x.dim() - 1)), x, ends)


def lead(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """By how much the largest other logit leads over that of y, relative to the largest in size: (n,), > 0 where an
    image is misclassified, inf where a logit is not finite."""
    with torch.no_grad():
        logits = model(x)
    others = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
    relative = (others - logits.gather(1, y[:, None])[:, 0]) / scale(logits)
    return torch.where(torch.isfinite(logits).all(dim=1), relative, torch.inf)


def scale(logits: Tensor) -> Tensor:
    return logits.detach().abs().amax(dim=1).clamp_min(torch.finfo(logits.dtype).tiny)


def moved(x: Tensor, shift: Tensor) -> Tensor:
    return (x + (1 + OVERSHOOT) * shift).clamp(0, 1)


def boundary_step(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """The shortest change that reaches the nearest boundary of the network linearised at x: (n, c, h, w); 0 where the
    gradient of every lead is 0."""
    with torch.enable_grad():
        point = x.detach().requires_grad_(True)
        logits = model(point)
        leads = logits - logits.gather(1, y[:, None])
        classes = range(leads.shape[1])
        gradients = torch.stack([torch.autograd.grad(leads[:, k].sum(), point, retain_graph=True)[0] for k in classes])
    flat = gradients.flatten(2)
    dual = flat.abs().sum(dim=2) if norm == "Linf" else flat.norm(dim=2)
    wanted = leads.detach().abs().maximum(LEAST_LEAD * scale(logits)[:, None])
    distance = wanted.T / dual
    distance[y, torch.arange(len(y), device=y.device)] = torch.inf
    distance, nearest = distance.nan_to_num(nan=torch.inf, posinf=torch.inf).min(dim=0)
    gradient = gradients[nearest, torch.arange(len(y), device=y.device)]
    length = torch.where(distance.isfinite(), distance, 0.0).reshape(-1, *[1] * (x.dim() - 1))
    return length * attacks.ascent_direction(gradient, norm)
