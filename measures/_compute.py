"""Computing measures on one model: batches, attack, averaging, missing values. Covered by core.CORE_VERSION."""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from measures._attack import pgd10
from measures._context import Context
from measures.core import Batch, Measure, Missing
from training import attacks
from training.modes import buffers_kept, frozen


@dataclass(frozen=True)
class Data:
    """The images a model is measured on, already on its device and in its dtype; adversarial None: not at hand."""

    images: Tensor
    labels: Tensor
    index: Tensor
    adversarial: Tensor | None
    eps: float
    norm: str
    seed: int
    batch_size: int
    initial: dict[str, Tensor] | None = None
    log: list[dict] | None = None

    def batches(self, variant: str) -> list[Batch]:
        """Evaluation batches, in the order of the images; raises Missing where adversarial images are unusable."""
        images = self.images
        if variant == "adversarial":
            if self.adversarial is None or not torch.isfinite(self.adversarial).all():
                raise Missing("no adversarial images: the attack failed, or its gradient is not finite")
            images = self.adversarial
        notes: Counter = Counter()
        tensors = (images, self.images, self.labels, self.index)
        parts = zip(*(tensor.split(self.batch_size) for tensor in tensors), strict=True)
        return [Batch(x, clean, y, i, self.eps, self.norm, self.seed, variant, notes) for x, clean, y, i in parts]


def prepare(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    index: Tensor | None = None,
    adversarial: Tensor | None = None,
    batch_size: int = 256,
    initial: Mapping[str, Tensor] | None = None,
    log: Sequence[Mapping[str, float]] | None = None,
) -> Data:
    """The images, on the device and in the dtype of the model's parameters, after one check of everything.

    index: identity of each image, which keys its random numbers; default 0 .. n-1.
    initial: the model's state dictionary at its initialisation; log: its training log, a line per epoch.
    Raises ValueError, naming what is wrong, for a model in train mode or without (n, classes) logits, images outside
    [0, 1], labels that are not classes, an unknown norm, a negative eps or tensors of different lengths.
    """
    require_eval(model)
    if images.dim() < 2 or len(images) == 0:
        raise ValueError(f"images: found shape {tuple(images.shape)}, wanted (n, c, h, w) with n > 0")
    attacks.check_range(images)
    if norm not in attacks.NORMS:
        raise ValueError(f"norm: found {norm!r}, wanted one of {', '.join(attacks.NORMS)}")
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps: found {eps}, wanted a number >= 0")
    index = torch.arange(len(images)) if index is None else index
    for name, tensor in (("labels", labels), ("index", index)):
        if tensor.shape != (len(images),) or tensor.is_floating_point():
            raise ValueError(f"{name}: found {tensor.dtype} {tuple(tensor.shape)}, wanted {len(images)} integers")
    like = next((p for p in model.parameters() if p.is_floating_point()), images)
    images, labels, index = images.to(like), labels.to(like.device).long(), index.to(like.device).long()
    with torch.no_grad():
        logits = model(images[:1])
    if logits.dim() != 2 or len(logits) != 1:
        raise ValueError(f"model: found an output of shape {tuple(logits.shape)} for one image, wanted (1, classes)")
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        found = f"{int(labels.min())} .. {int(labels.max())}"
        raise ValueError(f"labels: found {found}, wanted 0 .. {logits.shape[1] - 1}, the model's classes")
    if adversarial is not None:
        adversarial = adversarial.to(like)
    before = None if initial is None else _initial(model, initial, like)
    lines = None if log is None else [dict(line) for line in log]
    return Data(images, labels, index, adversarial, eps, norm, seed, batch_size, before, lines)


def _initial(model: nn.Module, initial: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
    """The floating tensors of an initial state. Raises ValueError unless it is one of this model."""
    state = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    for name, tensor in state.items():
        if name not in initial or initial[name].shape != tensor.shape:
            found = f"shape {tuple(initial[name].shape)}" if name in initial else "nothing"
            raise ValueError(f"initial: found {found} for {name}, wanted shape {tuple(tensor.shape)}, as in the model")
    return {name: initial[name].detach().to(like) for name in state}


def attack(model: nn.Module, data: Data) -> Data:
    """`data` with PGD-10 examples (step eps/4), each started at a point of the ball drawn for that image."""
    parts = []
    with frozen(model), buffers_kept(model):
        for batch in data.batches("clean"):
            parts.append(pgd10(model, batch))
    return replace(data, adversarial=torch.cat(parts))


@dataclass(frozen=True)
class Row:
    """One variant of one measure on one model. value None: not defined, and reason says why.

    A reason beside a value is a remark and starts with 'note: '. seconds: wall time. forwards: passes of single images
    through the model, a backward pass counted as two. failed: the measure raised an error nobody foresaw.
    """

    measure: str
    variant: str
    value: float | None
    se: float | None
    n: int
    seconds: float
    forwards: int
    reason: str
    failed: bool = False


def contexts(model: nn.Module, data: Data) -> dict[str, Context]:
    """An empty context for each variant; adversarial only where its images can be used."""
    clean = Context(model, data.batches("clean"))
    found = {"none": clean, "clean": clean}
    with suppress(Missing):
        found["adversarial"] = Context(model, data.batches("adversarial"), clean)
    return found


def compute(
    measured: Measure, model: nn.Module, data: Data, variant: str, shared: dict[str, Context] | None = None
) -> Row:
    """Compute one variant of a measure. The model must be in eval mode (ValueError) and is left as it was found.

    shared: contexts of this model and these images, which earlier measures have filled; default: fresh ones.
    """
    require_eval(model)
    n = 0 if variant == "none" else len(data.images)
    start, value, se, reason, failed = time.perf_counter(), None, None, "", False
    with frozen(model), buffers_kept(model), torch.no_grad(), _forwards(model) as count:
        try:
            value, se, reason = _value(
                measured, model, data, variant, contexts(model, data) if shared is None else shared
            )
        except Missing as missing:
            reason = str(missing)
        except Exception as error:  # one broken measure must not lose the others
            reason, failed = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", True
    return Row(measured.name, variant, value, se, n, time.perf_counter() - start, count.total(), reason, failed)


def _value(
    measured: Measure, model: nn.Module, data: Data, variant: str, shared: dict[str, Context]
) -> tuple[float, float | None, str]:
    given, batches = _given(measured, data, variant, shared)
    notes = batches[0].notes if batches else {}
    if "batch" in measured.needs:
        found = torch.cat([measured.function(model, batch=batch, **given) for batch in batches])
    else:
        found = measured.function(model, **given)
    if isinstance(found, Tensor) and found.dim() > 0:
        if len(found) != len(data.images):
            raise ValueError(f"found {len(found)} numbers, wanted one for each of {len(data.images)} images")
        bad = int((~torch.isfinite(found.reshape(len(found), -1)).all(dim=1)).sum())
        if bad:
            raise Missing(f"not finite for {bad} of {len(found)} images")
        value, se = measured.reduction(found.double())
    elif isinstance(found, tuple):
        value, se = found
    else:
        value, se = float(found), math.nan
    if not math.isfinite(value):
        raise Missing(f"value is {value}")
    remarks = "; ".join(f"{count} of {len(data.images)} {text}" for text, count in notes.items() if count)
    return value, se if math.isfinite(se) else None, remarks and f"note: {remarks}"


def _given(
    measured: Measure, data: Data, variant: str, shared: dict[str, Context]
) -> tuple[dict[str, Any], list[Batch]]:
    """What the measure is given beside the model, and the batches it is called for. Raises Missing."""
    if variant not in shared:
        data.batches(variant)  # raises the reason
    notes: Counter = Counter()  # of this measure alone; images and labels are the context's own
    batches = [] if variant == "none" else [replace(batch, notes=notes) for batch in shared[variant].batches]
    for word, there, reason in (("initial", data.initial, "initial weights"), ("log", data.log, "training log")):
        if word in measured.needs and there is None:
            raise Missing(f"no {reason}: the model was not trained here")
    given = {"shape": tuple(data.images.shape[1:]), "batches": batches, "initial": data.initial, "log": data.log}
    given["context"] = shared[variant]
    return {word: given[word] for word in measured.needs if word in given}, batches


def require_eval(model: nn.Module) -> None:
    """Raise ValueError unless every part of the model is in eval mode."""
    for name, module in model.named_modules():
        if module.training:
            raise ValueError(f"model: found {name or 'it'} in train mode, wanted eval mode: call model.eval() first")


@contextmanager
def _forwards(model: nn.Module) -> Iterator[Counter]:
    """Counts images that pass through the model: 1 each, 3 where a gradient follows (a backward pass costs two)."""
    count: Counter = Counter()

    def hook(module: nn.Module, inputs: tuple) -> None:
        count["forwards"] += len(inputs[0]) * (3 if torch.is_grad_enabled() else 1)

    handle = model.register_forward_pre_hook(hook)
    try:
        yield count
    finally:
        handle.remove()
