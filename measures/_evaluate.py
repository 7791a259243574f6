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
from robustgap.measures._state import FATAL, fixed_state, one_line, untouched
from robustgap.measures.core import AnyFunction, select
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
    names: str | AnyFunction | Sequence[str | AnyFunction] = "all",
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
                 runs without the caller's autocast, inference mode, default dtype and default device. For plain
                 functions, TorchScript and quantised networks only measures that need no weights are computed
    images       (n, c, h, w) in [0, 1]; labels (n,) integers; tensors or NumPy arrays; the model gets copies. Or a
                 DataLoader of pairs (images, labels), without labels: all its batches are read, in its order
    names        measures, families ('margin'), 'all', or your own functions decorated with @measure
                 (measures/core.py), from any module: one of these or a list
    eps, norm    threat model: radius of the ball in the units of images (a number or a fraction), Linf (<= 1) or L2
    seed, index  all random numbers are keyed by (seed, identity of the image); identities default to 0 .. n-1
    adversarial  adversarial images, if you have them; else PGD-10 with steps of eps/4 makes them, once for all measures
    batch_size   images at a time; affects speed and memory, never a value
    device       where to compute; default: where the model is. The model itself stays there: a copy is moved
    initial      state dictionary of the model at initialisation, for measures of the distance from it
    log          training log, a line per epoch (epoch, lr, train_loss, train_clean, train_robust, val_clean,
                 val_robust), for measures of training
    target_se    measures that are means over images take images (64 at a time, at least 256, in a random order keyed by
                 their identity) only until their standard error is at most this at two looks in a row; n says how many
                 were taken. Where a few images make up most of the sum, these may not be among them. Measures that
                 perturb the weights take all images, because one perturbation serves all of them

    Forward passes, adversarial images and gradients that several measures need are computed once and shared, which
    never changes a value. Memory: all images, their adversarial examples, one batch, and 256 MiB of shared quantities.

    Returns a DataFrame with columns measure, variant (clean | adversarial | none), value, se (standard error), n
    (images used), seconds, forwards (of single images; a backward pass counts as two), reason. Where a value is not
    defined or its computation failed, value is NaN and reason says why; a reason beside a value starts with 'note: '.
    A note also says where gradients of the model mislead attacks (training/masking.py), and where its outputs look like
    probabilities.
    Where a few images make up most of a mean, such as the loss of a network that fits nearly all others, samples of a
    few hundred miss them, and value +- 1.96 se covers the truth less often than 95 % (83 to 92 % observed).
    Raises LookupError for an unknown name, ValueError for input that is not as above and for a model whose output is
    random or depends on the other images of a batch.
    """
    import pandas as pd

    measures = select([names] if isinstance(names, str) or callable(names) else names)
    images, labels = all_pairs(images, labels) if isinstance(images, DataLoader) else (images, labels)
    model = model if device is None or not isinstance(model, nn.Module) else model_on_device(model, device)
    model = as_model(model, device)
    if any(tensor.is_inference() for tensor in [*model.parameters(), *model.buffers()]):
        model = copy.deepcopy(model)  # tensors made in inference mode pass no gradient
    data = prepare(
        model, images, labels,
        eps=number(exact(eps)), norm=norm, seed=seed, index=index, adversarial=adversarial, batch_size=batch_size,
        initial=initial, log=log, target_se=target_se,
    )  # fmt: skip
    if data.adversarial is None and any("adversarial" in measure.variants for measure in measures):
        try:
            data = attack(model, data)
        except FATAL:
            raise
        except Exception as error:  # the reason for all measures that need the examples
            data = replace(data, no_adversarial=one_line(error))
    if any(variant != "none" for measure in measures for variant in measure.variants):
        data = replace(data, remark="; ".join(filter(None, [data.remark, masking_remark(model, data)])))
    shared, rows = contexts(model, data), []
    bar = tqdm([(measure, variant) for measure in measures for variant in measure.variants], disable=None, leave=False)
    for measure, variant in bar:
        bar.set_description(f"{measure.name} ({variant})")
        rows.append(asdict(compute(measure, model, data, variant, shared)))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float, "se": float})


def all_pairs(loader: "DataLoader[Any]", labels: object) -> tuple[Tensor, Tensor]:
    """All images and labels of a loader. Raises ValueError where it yields no pairs, or labels are given as well."""
    if labels is not None:
        raise ValueError(f"labels: found {type(labels).__name__} beside a DataLoader, wanted only the labels it yields")
    batches = list(loader)
    if not batches or not all(isinstance(batch, list | tuple) and len(batch) == 2 for batch in batches):
        content = f"batches of {type(batches[0]).__name__}" if batches else "no batch"
        raise ValueError(f"images: found {content} in the DataLoader, wanted pairs (images, labels)")
    images, targets = zip(*batches, strict=True)
    check_tensors(images=images[0], labels=targets[0])
    return torch.cat(images), torch.cat(targets)


def masking_remark(model: nn.Module, data: Data) -> str:
    """Evidence that the model masks its gradients, so that gradient attacks and input gradients say little; '' if
    none."""
    tensors = data.images, data.labels, data.index, data.adversarial
    with untouched(model):
        masking = gradient_masking(model, *tensors, eps=data.eps, norm=data.norm, seed=data.seed, batch=data.batch_size)
    return masking.evidence and f"gradient masking: {masking.evidence}"


def model_on_device(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The model, or a copy of it on `device` where it is elsewhere. Raises ValueError for an unavailable device."""
    try:
        wanted = torch.empty(0, device=device).device  # "cuda" is cuda:0, or whichever is current
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device: found {device!r}, wanted one that is available here: {str(error).splitlines()[0]}"
        ) from error
    in_place = all(tensor.device == wanted for tensor in [*model.parameters(), *model.buffers()])
    return model if in_place else copy.deepcopy(model).to(wanted)
