"""Computing measures on one model: averaging, early stopping, missing values. Covered by core.CORE_VERSION."""

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
from robustgap.measures._opaque import measuring
from robustgap.measures._state import FATAL, fixed_state, one_line, removed_afterwards, untouched
from robustgap.measures.core import Batch, Measure, Missing, mean


@dataclass(frozen=True)
class Row:
    """One variant of one measure on one model. value None: not defined, and reason says why.

    A reason beside a value is a remark and starts with 'note: '. n: images used. seconds: wall time; forwards: forward
    passes of single images, a backward pass counted as two; what earlier measures left in a shared context costs
    nothing. failed: the measure raised an unexpected error.
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
    by_variant = {"none": clean, "clean": clean}
    with suppress(Missing):
        by_variant["adversarial"] = Context(model, data.batches("adversarial"), clean)
    return by_variant


def compute(
    measure: Measure, model: nn.Module, data: Data, variant: str, shared: dict[str, Context] | None = None
) -> Row:
    """Compute one variant of a measure. The model must be in eval mode (else ValueError) and is left unchanged.

    shared: contexts of this model and these images, perhaps filled by earlier measures; default: fresh ones.
    """
    require_eval(model)
    n = 0 if variant == "none" else len(data.images)
    start, value, se, reason, failed = time.perf_counter(), None, None, "", False
    with fixed_state(), untouched(model), _forwards(model) as count:
        try:
            shared = contexts(model, data) if shared is None else shared
            with measuring(model):
                value, se, n, reason = _value(measure, model, data, variant, shared)
        except Missing as missing:
            reason = str(missing)
        except FATAL:
            raise
        except Exception as error:  # a broken measure must not stop the others
            reason, failed = one_line(error), True
    return Row(measure.name, variant, value, se, n, time.perf_counter() - start, count.total(), reason, failed)


def _value(
    measure: Measure, model: nn.Module, data: Data, variant: str, shared: dict[str, Context]
) -> tuple[float, float | None, int, str]:
    """(value, standard error, images, remarks). Raises Missing."""
    arguments, batches = _arguments(measure, data, variant, shared)
    if "batch" in measure.needs:
        result = _per_image(measure, model, batches, arguments, data.target_se)
    else:
        result = measure.function(model, **arguments)
        if isinstance(result, Tensor) and result.dim() > 0:
            _require_length(result, len(data.images))
    n = 0 if variant == "none" else len(data.images)
    if isinstance(result, Tensor) and result.dim() > 0:
        n = len(result)
        if bad := int((~torch.isfinite(result.reshape(n, -1)).all(dim=1)).sum()):
            raise Missing(f"not finite for {bad} of {n} images")
        value, se = measure.reduction(result.double())
    elif isinstance(result, tuple):
        value, se = result
    else:
        value, se = float(result), math.nan
    if not math.isfinite(value):
        raise Missing(f"value is {value}")
    remarks = [f"{count} of {n} {text}" for text, count in (batches[0].notes if batches else {}).items() if count]
    if variant != "none" and data.remark:
        remarks.append(data.remark)
    if variant != "none" and n < len(data.images):
        remarks.append(f"stopped after {n} of {len(data.images)} images, standard error at most {data.target_se:g}")
    return value, se if math.isfinite(se) else None, n, "; ".join(remarks) and f"note: {'; '.join(remarks)}"


def _per_image(
    measure: Measure, model: nn.Module, batches: list[Batch], arguments: dict[str, Any], target_se: float | None
) -> Tensor:
    """The numbers of all images, computed batch by batch. A mean-type measure stops once its standard error, looked at
    after every LOOK images from FIRST on, is at most `target_se` twice in a row, but never while all numbers are equal.
    """
    numbers, done, small = [], 0, 0
    for batch in batches:
        numbers.append(measure.function(model, batch=batch, **arguments))
        _require_length(numbers[-1], len(batch.images))
        done += len(batch.images)
        if target_se is None or measure.reduction is not mean or done % LOOK or done < FIRST:
            continue
        small = small + 1 if 0 < mean(torch.cat(numbers).double())[1] <= target_se else 0
        if small == 2:
            break
    return torch.cat(numbers)


def _require_length(numbers: Tensor, images: int) -> None:
    if len(numbers) != images:
        raise ValueError(f"found {len(numbers)} numbers, wanted one for each of {images} images")


def _arguments(
    measure: Measure, data: Data, variant: str, shared: dict[str, Context]
) -> tuple[dict[str, Any], list[Batch]]:
    """The arguments of the measure besides the model, and the batches it is called for. Raises Missing."""
    if variant not in shared:
        data.batches(variant)  # raises the reason
    notes: Counter[str] = Counter()  # of this measure alone; images and labels are shared with the context
    batches = [] if variant == "none" else [replace(batch, notes=notes) for batch in shared[variant].batches]
    for need, value, what in (("initial", data.initial, "initial weights"), ("log", data.log, "training log")):
        if need in measure.needs and value is None:
            raise Missing(f"no {what}: the model was not trained here")
    available: dict[str, Any] = {"shape": tuple(data.images.shape[1:]), "batches": batches, "context": shared[variant]}
    available |= {"initial": data.initial, "log": data.log}
    return {need: available[need] for need in measure.needs if need in available}, batches


@contextmanager
def _forwards(model: nn.Module) -> Iterator[Counter[str]]:
    """Counts images that pass through the model: 1 each, 3 where a gradient follows (a backward pass costs two)."""
    count: Counter[str] = Counter()

    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        count["forwards"] += len(inputs[0]) * (3 if torch.is_grad_enabled() else 1)

    with removed_afterwards([model.register_forward_pre_hook(hook)]):
        yield count
