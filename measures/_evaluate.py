"""Measures of any PyTorch classifier, as one table."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from robustgap.measures._compute import compute, contexts
from robustgap.measures._images import Data, attack, check_tensors, prepare
from robustgap.measures._opaque import as_model
from robustgap.measures._state import FATAL, fixed_state, untouched
from robustgap.measures.core import select
from robustgap.training.masking import gradient_masking
from robustgap.training.settings import exact, number

if TYPE_CHECKING:
    import numpy as np
    from pandas import DataFrame

COLUMNS = ["measure", "variant", "value", "se", "n", "seconds", "forwards", "reason"]


@fixed_state()
def evaluate(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: "Tensor | np.ndarray | DataLoader[Any]",
    labels: "Tensor | np.ndarray | None" = None,
    names: str | Callable | Sequence[str | Callable] = "all",
    *,
    eps: float | str = "8/255",
    norm: str = "Linf",
    seed: int = 0,
    index: Tensor | None = None,
    adversarial: Tensor | None = None,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    initial: Mapping[str, Tensor] | None = None,
    log: Sequence[Mapping[str, float]] | None = None,
    target_se: float | None = None,
) -> "DataFrame":
    """Compute measures on one model: a row per measure and variant. Shows a progress bar on a terminal.

    model        images in [0, 1] in, logits (n, classes) out, classes >= 2; in eval mode; left exactly as it was. It
                 runs without the caller's autocast, inference mode, default dtype and default device.
                 Of a plain function, TorchScript and quantised networks only what needs no weights is computed
    images       (n, c, h, w) in [0, 1]; labels (n,) integers; tensors or NumPy arrays; the model is handed copies. Or a
                 DataLoader of pairs (images, labels), alone: all it gives is read, in its order
    names        measures, families ('margin'), or 'all', or functions of yours decorated by @measure
                 (measures/core.py), wherever they stand: one of them or a list
    eps, norm    threat model: radius of the ball in the units of images (a number or a fraction), Linf (<= 1) or L2
    seed, index  all random numbers are keyed by (seed, identity of the image); identities default to 0 .. n-1
    adversarial  adversarial images, where they are at hand; else PGD-10 with steps of eps/4 makes them once, for all
    batch_size   images at a time; changes speed and memory, never a value
    device       where to compute; default: where the model is. The model itself stays there: a copy is moved
    initial      state dictionary of the model at its initialisation, for the measures of distance from it
    log          training log, a line per epoch (epoch, lr, train_loss, train_clean, train_robust, val_clean,
                 val_robust), for the measures of training
    target_se    a measure that is a mean of numbers of single images takes them (64 at a time, in a random order keyed
                 by their identity, 256 at least) only until its standard error is at most this at two looks in a row;
                 n says how many it took. Where a few images hold most of the sum, they may not have been met by then.
                 Measures that perturb the weights take all images: one perturbation serves them all

    Forward passes, adversarial images and gradients that several measures need are computed once and shared; that never
    changes a value. Memory: all images, their adversarial ones, one batch, and 256 MiB of what is shared.

    Returns a DataFrame with columns measure, variant (clean | adversarial | none), value, se (standard error), n
    (images used), seconds, forwards (of single images; a backward pass counts as two), reason. Where a value is not
    defined or its computation failed, value is NaN and reason says why; a reason beside a value starts with 'note: '.
    A model whose gradients mislead an attack (training/masking.py), or that gives probabilities, is noted so.
    Where a few images hold most of a mean, such as the loss of a network that fits nearly all others, samples of a few
    hundred miss them, and value +- 1.96 se covers less often than 95 % (83 to 92 % seen).
    Raises LookupError for an unknown name, ValueError for input that is not as above or a model whose output is random
    or depends on the other images of a batch.
    """
    import pandas as pd

    measured = select([names] if isinstance(names, str) or callable(names) else names)
    images, labels = all_pairs(images, labels) if isinstance(images, DataLoader) else (images, labels)
    model = model if device is None or not isinstance(model, nn.Module) else on_device(model, device)
    model = as_model(model, device)
    if any(tensor.is_inference() for tensor in [*model.parameters(), *model.buffers()]):
        model = copy.deepcopy(model)  # made in inference mode: no gradient passes through these
    data = prepare(
        model, images, labels,
        eps=number(exact(eps)), norm=norm, seed=seed, index=index, adversarial=adversarial, batch_size=batch_size,
        initial=initial, log=log, target_se=target_se,
    )  # fmt: skip
    if data.adversarial is None and any("adversarial" in one.variants for one in measured):
        try:
            data = attack(model, data)
        except FATAL:
            raise
        except Exception as error:  # measures that need the examples then say why there are none
            data = replace(data, no_adversarial=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    if any(variant != "none" for one in measured for variant in one.variants):
        data = replace(data, remark="; ".join(filter(None, [data.remark, masking(model, data)])))
    shared, rows = contexts(model, data), []
    bar = tqdm([(one, variant) for one in measured for variant in one.variants], disable=None, leave=False)
    for one, variant in bar:
        bar.set_description(f"{one.name} ({variant})")
        rows.append(asdict(compute(one, model, data, variant, shared)))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float, "se": float})


def all_pairs(loader: DataLoader, labels: object) -> tuple[Tensor, Tensor]:
    """All images and labels of a loader. Raises ValueError where it gives no pairs, or labels are given twice."""
    if labels is not None:
        raise ValueError(f"labels: found {type(labels).__name__} beside a DataLoader, wanted its labels alone")
    batches = list(loader)
    if not batches or not all(isinstance(batch, list | tuple) and len(batch) == 2 for batch in batches):
        found = f"batches of {type(batches[0]).__name__}" if batches else "no batch"
        raise ValueError(f"images: found {found} in the DataLoader, wanted pairs (images, labels)")
    images, targets = zip(*batches, strict=True)
    check_tensors(images=images[0], labels=targets[0])
    return torch.cat(images), torch.cat(targets)


def masking(model: nn.Module, data: Data) -> str:
    """Why gradient attacks and gradients in the input say little about this model: '' where nothing speaks for it."""
    given = model, data.images, data.labels, data.index, data.adversarial
    with untouched(model):
        found = gradient_masking(*given, eps=data.eps, norm=data.norm, seed=data.seed, batch=data.batch_size)
    return found.evidence and f"gradient masking: {found.evidence}"


def on_device(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The model where it is there already, else a copy there. Raises ValueError for a device that is not to be had."""
    try:
        wanted = torch.empty(0, device=device).device  # "cuda" is cuda:0, or whichever is current
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device: found {device!r}, which is not to be had here: {str(error).splitlines()[0]}"
        ) from error
    there = all(tensor.device == wanted for tensor in [*model.parameters(), *model.buffers()])
    return model if there else copy.deepcopy(model).to(wanted)
