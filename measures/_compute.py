"""Computing measures on one model: averaging, early stop, missing values. Covered by core.CORE_VERSION."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from robustgap.measures._context import Context
from robustgap.measures._images import FIRST, LOOK, Data
from robustgap.measures._model_checks import require_eval
from robustgap.measures._opaque import asked
from robustgap.measures._state import FATAL, fixed_state, untouched
from robustgap.measures.core import Batch, Measure, Missing, mean


@dataclass(frozen=True)
class Row:
    """One variant of one measure on one model. value None: not defined, and reason says why.

    A reason beside a value is a remark and starts with 'note: '. n: images used. seconds: wall time; forwards: passes
    of single images through the model, a backward pass counted as two; both without what earlier measures left in a
    shared context. failed: the measure raised an error nobody foresaw.
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
    with fixed_state(), untouched(model), _forwards(model) as count:
        try:
            found = contexts(model, data) if shared is None else shared
            with asked(model):
                value, se, n, reason = _value(measured, model, data, variant, found)
        except Missing as missing:
            reason = str(missing)
        except FATAL:
            raise
        except Exception as error:  # one broken measure must not lose the others
            reason, failed = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", True
    return Row(measured.name, variant, value, se, n, time.perf_counter() - start, count.total(), reason, failed)


def _value(
    measured: Measure, model: nn.Module, data: Data, variant: str, shared: dict[str, Context]
) -> tuple[float, float | None, int, str]:
    """(value, standard error, images, remarks). Raises Missing."""
    given, batches = _given(measured, data, variant, shared)
    if "batch" in measured.needs:
        found = _sample(measured, model, batches, given, data.target_se)
    else:
        found = measured.function(model, **given)
        if isinstance(found, Tensor) and found.dim() > 0 and len(found) != len(data.images):
            raise ValueError(f"found {len(found)} numbers, wanted one for each of {len(data.images)} images")
    n = 0 if variant == "none" else len(data.images)
    if isinstance(found, Tensor) and found.dim() > 0:
        n = len(found)
        bad = int((~torch.isfinite(found.reshape(n, -1)).all(dim=1)).sum())
        if bad:
            raise Missing(f"not finite for {bad} of {n} images")
        value, se = measured.reduction(found.double())
    elif isinstance(found, tuple):
        value, se = found
    else:
        value, se = float(found), math.nan
    if not math.isfinite(value):
        raise Missing(f"value is {value}")
    remarks = [f"{count} of {n} {text}" for text, count in (batches[0].notes if batches else {}).items() if count]
    if variant != "none" and data.remark:
        remarks.append(data.remark)
    if variant != "none" and n < len(data.images):
        remarks.append(f"stopped after {n} of {len(data.images)} images, standard error at most {data.target_se:g}")
    return value, se if math.isfinite(se) else None, n, "; ".join(remarks) and f"note: {'; '.join(remarks)}"


def _sample(measured: Measure, model: nn.Module, batches: list[Batch], given: dict, target: float | None) -> Tensor:
    """The numbers of all images, batch by batch; those of a mean-type measure, only until its standard error, looked
    at after every LOOK images from FIRST on, is at most `target` twice in a row. Never while all numbers are equal."""
    found, done, small = [], 0, 0
    for batch in batches:
        found.append(measured.function(model, batch=batch, **given))
        if len(found[-1]) != len(batch.images):
            raise ValueError(f"found {len(found[-1])} numbers, wanted one for each of {len(batch.images)} images")
        done += len(batch.images)
        if target is None or measured.reduction is not mean or done % LOOK or done < FIRST:
            continue
        small = small + 1 if 0 < mean(torch.cat(found).double())[1] <= target else 0
        if small == 2:
            break
    return torch.cat(found)


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
    given: dict[str, Any] = {"shape": tuple(data.images.shape[1:]), "batches": batches, "context": shared[variant]}
    given |= {"initial": data.initial, "log": data.log}
    return {word: given[word] for word in measured.needs if word in given}, batches


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
