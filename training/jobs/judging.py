"""Judges a model under an attack, image by image, always in eval mode and in float32."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustgap.training import attacks
from robustgap.training.facts import ATTACK_FACTS
from robustgap.training.jobs.device import device_of
from robustgap.training.modes import frozen, full_precision
from robustgap.training.networks.in_parts import InParts
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS


class Judged(NamedTuple):
    """What a model makes of attacked images, each (n,), on the CPU.

    correct     classified as the label, with finite logits
    loss        cross-entropy of the label, in nats
    confidence  largest probability
    predicted   class of the largest logit
    distortion  mean square of the change, ||x_adv - x||_2^2 / d
    """

    correct: Tensor
    loss: Tensor
    confidence: Tensor
    predicted: Tensor
    distortion: Tensor

    def part(self, rows: slice) -> "Judged":
        return Judged(*(values[rows] for values in self))

    def summary(self, labels: Tensor, target: int | None) -> dict[str, float]:
        """Means over images, NaN over none: `loss`; `confidence_right` and `confidence_wrong`, over images classified
        rightly and wrongly; `success`, the share of images of other classes that are classified as `target`;
        `distortion`, the root of the mean square."""
        values = self.confidence.double()
        success = float("nan")
        if target is not None:
            success = mean((self.predicted == target)[labels != target].double())
        return {
            "loss": mean(self.loss.double()),
            "confidence_right": mean(values[self.correct]),
            "confidence_wrong": mean(values[~self.correct]),
            "success": success,
            "distortion": mean(self.distortion.double()) ** 0.5,
        }


class JudgedPart(NamedTuple):
    """value: which part of an attack that has parts, '' for the attack itself; adversarial: the first images kept."""

    value: str
    judged: Judged
    adversarial: Tensor
    seconds: float


def mean(values: Tensor) -> float:
    """The mean of values (n,); NaN if there are none."""
    return float(values.mean()) if len(values) else float("nan")


@torch.no_grad()
def judge(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> Judged:
    """`Judged` of one batch: images and attacked images (n, c, h, w), labels (n,)."""
    logits = model(x_adv)
    predicted = logits.argmax(1)
    correct = (predicted == y) & torch.isfinite(logits).all(1)
    confidence = torch.softmax(logits, dim=1).amax(dim=1)
    change = (x_adv - x).flatten(1).square().mean(dim=1)
    values = (correct, attacks.cross_entropy(logits, y), confidence, predicted, change)
    return Judged(*(column.cpu() for column in values))


def judged_parts(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    index: Tensor,
    *,
    attack: str,
    eps: float,
    norm: str,
    batch: int,
    keep: int = 0,
    extra: Mapping[str, Any] | None = None,
) -> list[JudgedPart]:
    """The parts of an attack on float images (n, c, h, w) in [0, 1], made and judged in batches of `batch`; the attack
    itself comes last. An attack that wants all images at once sees the model in parts of that size. keep: how many
    attacked images to return. extra: what the facts of the attack ask for.

    Raises LookupError for an unknown attack, ValueError for images outside [0, 1] or a model not in eval mode.
    """
    if any(module.training for module in model.modules()):
        raise ValueError("model: found train mode, wanted eval mode for every outcome")
    function, whole = OUTCOME_ATTACKS[attack], ATTACK_FACTS[attack].whole
    together, attacked_model = (len(labels), InParts(model, batch).eval()) if whole else (batch, model)
    device = device_of(model)
    pieces: dict[str, list[tuple[Judged, Tensor]]] = {}
    seconds: dict[str, float] = {}
    with frozen(model), full_precision():
        for rows in torch.split(torch.arange(len(labels)), together):
            x, y, ids = (tensor[rows].to(device) for tensor in (images, labels, index))
            began = time.perf_counter()
            for value, x_adv, spent in parts_of(function(attacked_model, x, y, ids, eps, norm, **extra or {})):
                for part in torch.split(torch.arange(len(y)), batch):
                    kept = x_adv[part][: max(0, keep - int(rows[part[0]]))].cpu()
                    pieces.setdefault(value, []).append((judge(model, x[part], x_adv[part], y[part]), kept))
                spent = time.perf_counter() - began if spent is None else spent
                seconds[value] = seconds.get(value, 0.0) + spent
                began = time.perf_counter()
    return [
        JudgedPart(
            value,
            Judged(*map(torch.cat, zip(*(judged for judged, _ in listed), strict=True))),
            torch.cat([kept for _, kept in listed]),
            seconds[value],
        )
        for value, listed in pieces.items()
    ]


def parts_of(result: Any) -> Iterator[tuple[str, Tensor, float | None]]:
    """(part, attacked images, seconds) of what an attack returns: images, or its parts as they are made, which may know
    their own seconds, if they were made earlier."""
    if isinstance(result, Tensor):
        yield "", result, None
        return
    for part in result:
        yield part.value, part.x_adv, part.seconds


def attacked(
    model: nn.Module, images: Tensor, labels: Tensor, index: Tensor, *, attack: str, eps: float, norm: str, batch: int
) -> tuple[Tensor, Tensor]:
    """Correctness (n,) bool and attacked images (n, c, h, w): `judged_parts` of an attack without parts."""
    options: dict[str, Any] = {"attack": attack, "eps": eps, "norm": norm, "batch": batch, "keep": len(labels)}
    last = judged_parts(model, images, labels, index, **options)[-1]
    return last.judged.correct, last.adversarial
