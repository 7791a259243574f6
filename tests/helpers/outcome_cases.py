"""Runs attacks of outcomes as a job does, and models to run them on."""

import importlib
from typing import Any

import pytest
import torch
from oracles import draw, linear
from torch import Tensor, nn

from robustgap.training.jobs.judging import judged_parts

SHAPE = (1, 8, 8)
EPS = {"Linf": 0.02, "L2": 0.06}


class Linear64(nn.Module):
    """Two layers with tanh between, of 8 x 8 images, in float64."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Linear(64, 12).double()
        self.last = nn.Linear(12, 10).double()
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(scale * torch.randn(p.shape, generator=generator, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x.double().flatten(1))))


def parts(
    model: nn.Module, x: Tensor, y: Tensor, index: Tensor, *, attack: str, eps: float, norm: str, batch: int = 512,
    **extra: Any,
) -> dict[str, tuple[Tensor, Tensor]]:  # fmt: skip
    """Correctness (n,) and attacked images of each part of an attack, '' last, in the order in which they come."""
    options: dict[str, Any] = {"attack": attack, "eps": eps, "norm": norm, "batch": batch, "keep": len(y)}
    made = judged_parts(model, x, y, index, **options, extra=extra)
    return {part.value: (part.judged.correct, part.adversarial) for part in made}


def attacked(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Correctness (n,) and attacked images of an attack as a whole."""
    return parts(model, x, y, index, **options)[""]


def bits(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, attack: str, norm: str, size: int = 128) -> Tensor:
    return attacked(model, x, y, index, attack=attack, eps=EPS[norm], norm=norm, batch=size)[0]


def centred(classes: int, *, scale: float = 2.0, seed: int = 1) -> nn.Module:
    """A linear model of 8 x 8 images that is undecided at a grey one; in float32, as the library computes."""
    weight = scale * draw(classes, 64, seed=seed)
    return linear(weight, -0.5 * weight.sum(1)).float()


def lead_and_reach(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """Lead of class y over each other class k, over the dual norm of its gradient: the distance to the boundary of k,
    (n, k); infinite for y itself."""
    logits, weight = model(x), model[1].weight
    gradients = weight[y][:, None] - weight[None]
    size = gradients.abs().sum(2) if norm == "Linf" else gradients.norm(dim=2)
    distance = (logits.gather(1, y[:, None]) - logits) / size
    return distance.masked_fill(nn.functional.one_hot(y, len(weight)).bool(), torch.inf).detach()


def limit_library(monkeypatch: pytest.MonkeyPatch, *, queries: int, steps: int = 100) -> None:
    """AutoAttack with fewer queries of Square and steps of the others, here and where the library is called by
    itself: an image that stays robust costs seconds."""
    library = importlib.import_module("pyautoattack").AutoAttack
    whole = library._set_version

    def limited(self, version="standard"):
        whole(self, version)
        self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = steps
        self.square.n_queries = queries

    monkeypatch.setattr(library, "_set_version", limited)
