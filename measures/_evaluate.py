"""Measures of any PyTorch classifier, as one table."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from torch import Tensor, nn

from measures._code import names as all_names
from measures._compute import attack, compute, contexts, prepare
from measures.core import load
from training.settings import exact, number

if TYPE_CHECKING:
    from pandas import DataFrame


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    names: Sequence[str] | None = None,
    *,
    eps: float | str = "8/255",
    norm: str = "Linf",
    seed: int = 0,
    index: Tensor | None = None,
    adversarial: Tensor | None = None,
    batch_size: int = 256,
    initial: Mapping[str, Tensor] | None = None,
    log: Sequence[Mapping[str, float]] | None = None,
) -> "DataFrame":
    """Compute measures on one model: a row per measure and variant.

    model        images in [0, 1] in, logits (n, classes) out; in eval mode; left exactly as it was
    images       (n, c, h, w) in [0, 1]; labels (n,) integers
    names        measures to compute; default: all of them
    eps, norm    threat model: radius of the ball in the units of images (a number or a fraction), Linf or L2
    seed, index  all random numbers are keyed by (seed, identity of the image); identities default to 0 .. n-1
    adversarial  adversarial images, where they are at hand; else PGD-10 with steps of eps/4 makes them once, for all
    batch_size   images at a time; changes speed and memory, never a value
    initial      state dictionary of the model at its initialisation, for the measures of distance from it
    log          training log, a line per epoch (epoch, lr, train_loss, train_clean, train_robust, val_clean,
                 val_robust), for the measures of training

    Returns a DataFrame with columns measure, variant (clean | adversarial | none), value, se (standard error), n
    (images used), seconds, reason. Where a value is not defined or its computation failed, value is NaN and reason says
    why; a reason beside a value starts with 'note: '.
    Raises LookupError for an unknown name, ValueError for input that is not as above.
    """
    import pandas as pd

    measured = [load(name) for name in (all_names() if names is None else names)]
    eps = number(exact(eps))
    data = prepare(
        model, images, labels,
        eps=eps, norm=norm, seed=seed, index=index, adversarial=adversarial, batch_size=batch_size,
        initial=initial, log=log,
    )  # fmt: skip
    if data.adversarial is None and any("adversarial" in one.variants for one in measured):
        with suppress(Exception):  # measures that need the examples then say that there are none
            data = attack(model, data)
    shared = contexts(model, data)
    rows = [asdict(compute(one, model, data, variant, shared)) for one in measured for variant in one.variants]
    table = pd.DataFrame(rows, columns=["measure", "variant", "value", "se", "n", "seconds", "reason"])
    return table.astype({"value": float, "se": float})
