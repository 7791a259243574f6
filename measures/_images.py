"""The images that a model is measured on: checked and attacked once. Covered by core.CORE_VERSION."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustgap.measures._attack import pgd10
from robustgap.measures._model_checks import check_model, require_eval
from robustgap.measures._state import fixed_state, untouched
from robustgap.measures.core import Batch, Missing
from robustgap.training import keyed
from robustgap.training.facts import NORMS

LOOK = 64  # images between two looks at the standard error, where it has a target
FIRST = 256  # images before the first look that counts: the spread of fewer may be small by chance
ORDER_STREAM = 150  # of the order in which images are taken then


@dataclass(frozen=True)
class Data:
    """The images a model is measured on, on its device and in its dtype; None: not available.

    target_se: mean-type measures stop at the second look in a row (every LOOK images, from FIRST on) at which their
    standard error is that small. Images are then in a random order keyed by their identity, so that the first n are a
    random sample.
    remark: a note beside every value that depends on images. no_adversarial: why the attack failed.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    adversarial: Tensor | None
    eps: float
    norm: str
    seed: int
    batch_size: int
    initial: dict[str, Tensor] | None = None
    log: list[dict[str, float]] | None = None
    target_se: float | None = None
    remark: str = ""
    no_adversarial: str = "the attack found a gradient that is not finite"

    def batches(self, variant: str) -> list[Batch]:
        """Evaluation batches, in the order of the images; raises Missing where adversarial images are unusable."""
        images = self.images
        if variant == "adversarial":
            if self.adversarial is None or not torch.isfinite(self.adversarial).all():
                raise Missing(f"no adversarial images: {self.no_adversarial}")
            images = self.adversarial
        block = len(images) if self.target_se is None else LOOK  # a look comes between two batches
        in_block = [min(self.batch_size, block - start) for start in range(0, block, self.batch_size)]
        blocks, rest = divmod(len(images), block)
        sizes = in_block * blocks + [min(self.batch_size, rest - start) for start in range(0, rest, self.batch_size)]
        tensors = (images, self.images, self.labels, self.index)
        chunks = zip(*(torch.split(tensor, sizes) for tensor in tensors), strict=True)
        return [Batch(x, clean, y, i, self.eps, self.norm, self.seed, variant) for x, clean, y, i in chunks]

    def select(self, rows: Tensor) -> "Data":
        """The images in those rows, in that order."""
        adversarial = None if self.adversarial is None else self.adversarial[rows]
        tensors = {name: getattr(self, name)[rows] for name in ("images", "labels", "index")}
        return replace(self, **tensors, adversarial=adversarial)


@fixed_state()
def prepare(
    model: nn.Module,
    images: Any,
    labels: Any,
    *,
    eps: float,
    norm: str = "Linf",
    seed: int = 0,
    index: Any = None,
    adversarial: Any = None,
    batch_size: int = 256,
    initial: Mapping[str, Tensor] | None = None,
    log: Sequence[Mapping[str, float]] | None = None,
    target_se: float | None = None,
) -> Data:
    """Check everything once and move the images (tensors or NumPy arrays) to the device and dtype of the model.

    index: identity of each image, which keys its random numbers; default 0 .. n-1.
    initial: the model's state dictionary at its initialisation; log: its training log, a line per epoch.
    Raises ValueError, naming what is wrong, for a model in train mode or without (n, classes) logits of at least two
    classes, anything that is not a tensor, images outside [0, 1], adversarial images outside [0, 1] or the ball, labels
    that are not classes, an unknown norm, an eps that is negative or (Linf) above 1, tensors of different lengths,
    parameters of half precision, initial weights of another model, a log without losses, a batch size below 1, or a
    target standard error that is not above 0.
    """
    require_eval(model)
    images, labels, index, adversarial = (
        torch.from_numpy(array) if isinstance(array, np.ndarray) else array
        for array in (images, labels, index, adversarial)
    )
    if labels is None:
        raise ValueError("labels: found nothing, wanted (n,) integers, or a DataLoader of (images, labels) as images")
    check_tensors(images=images, labels=labels, index=index, adversarial=adversarial)
    check_images(images)
    if norm not in NORMS:
        raise ValueError(f"norm: found {norm!r}, wanted one of {', '.join(NORMS)}")
    if not 0 <= eps < math.inf:
        raise ValueError(f"eps: found {eps}, wanted a number >= 0")
    if norm == "Linf" and eps > 1:  # 8 for 8/255
        raise ValueError(f"eps: found {formatted(eps, 1)}, wanted at most 1, the range of an image")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size: found {batch_size!r}, wanted a whole number > 0")
    if target_se is not None and not target_se > 0:
        raise ValueError(f"target_se: found {target_se}, wanted a number > 0")
    index = torch.arange(len(images)) if index is None else index
    for name, tensor in (("labels", labels), ("index", index)):
        if tensor.shape != (len(images),) or tensor.is_floating_point():
            raise ValueError(f"{name}: found {tensor.dtype} {tuple(tensor.shape)}, wanted {len(images)} integers")
    like, owner = reference_tensor(model, images)
    if like.device.type == "mps":
        raise ValueError("device: found mps, which has no float64, wanted cpu or cuda")
    if like.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{owner}: found {like.dtype}, wanted torch.float32 or torch.float64: {owner}.float()")
    images = images.detach().to(like, copy=True)  # never the caller's memory
    labels, index = (tensor.to(like.device, torch.int64, copy=True) for tensor in (labels, index))
    with untouched(model):
        remark = check_model(model, images, labels)
    if adversarial is not None:
        adversarial = checked_adversarial(adversarial.detach().to(like, copy=True), images, eps, norm)
    state = None if initial is None else initial_state(model, initial, like)
    lines = None if log is None else [log_line(line, number) for number, line in enumerate(log, 1)]
    data = Data(images, labels, index, adversarial, eps, norm, seed, batch_size, state, lines, target_se, remark)
    if target_se is None:
        return data
    return data.select(keyed.bits(seed, ORDER_STREAM, index, 1)[:, 0].argsort(stable=True))


def reference_tensor(model: nn.Module, images: Tensor) -> tuple[Tensor, str]:
    """A tensor of the device and dtype to compute in, and its owner: a weight of the model, or else the images."""
    weight = next((p for p in model.parameters() if p.is_floating_point()), getattr(model, "like", None))
    return (images, "images") if weight is None else (weight, "model")


def check_tensors(**values: object) -> None:
    """Raise ValueError unless each is a tensor or None."""
    for name, value in values.items():
        if value is not None and not isinstance(value, Tensor):
            raise ValueError(f"{name}: found {type(value).__name__}, wanted a torch.Tensor or a NumPy array")


def check_images(images: Tensor) -> None:
    """Raise ValueError unless images are (n, ...) in [0, 1]."""
    if images.dim() < 2 or len(images) == 0:
        raise ValueError(f"images: found shape {tuple(images.shape)}, wanted (n, c, h, w) with n > 0")
    require_unit_range(images, "images", "all inside [0, 1]")


def require_unit_range(images: Tensor, name: str, wanted: str) -> None:
    """Raise ValueError unless every entry lies in [0, 1]."""
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"{name}: found values from {formatted(low)} to {formatted(high, 1)}, wanted {wanted}")


def formatted(value: float, bound: float = 0.0) -> str:
    """The number with 4 digits, or with all where 4 would make it look equal to the bound."""
    return str(value) if value != bound and float(f"{value:.4g}") == bound else f"{value:.4g}"


def checked_adversarial(adversarial: Tensor, images: Tensor, eps: float, norm: str) -> Tensor:
    """The adversarial images. Raises ValueError unless they have the shape of the images and, where finite, lie in
    [0, 1] and, up to rounding, in the ball."""
    if adversarial.shape != images.shape:
        raise ValueError(f"adversarial: found shape {tuple(adversarial.shape)}, wanted {tuple(images.shape)}")
    finite = adversarial.flatten(1).isfinite().all(dim=1)
    if not finite.any():
        return adversarial
    require_unit_range(adversarial[finite], "adversarial", "[0, 1]")
    shift = (adversarial - images)[finite].flatten(1)
    distance = float((shift.abs().amax(dim=1) if norm == "Linf" else shift.norm(dim=1)).max())
    if distance > eps * (1 + 1e-4) + 1e-6:
        away = f"an image {formatted(distance, eps)} from its clean one ({norm})"
        raise ValueError(f"adversarial: found {away}, wanted at most {eps:g}")
    return adversarial


def log_line(line: Mapping[str, float], number: int) -> dict[str, float]:
    """A line of the training log. Raises ValueError, naming it, where it has no epoch or no training loss."""
    if absent := [key for key in ("epoch", "train_loss") if key not in line]:
        raise ValueError(f"log, line {number}: found {', '.join(line) or 'nothing'}, wanted {absent[0]} as well")
    return dict(line)


def initial_state(model: nn.Module, initial: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
    """The floating-point tensors of an initial state. Raises ValueError unless it fits the model."""
    state = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    for name, tensor in state.items():
        if name not in initial or initial[name].shape != tensor.shape:
            shape = f"shape {tuple(initial[name].shape)}" if name in initial else "nothing"
            raise ValueError(f"initial: found {shape} for {name}, wanted shape {tuple(tensor.shape)}, as in the model")
    return {name: initial[name].detach().to(like) for name in state}


def attack(model: nn.Module, data: Data) -> Data:
    """`data` with PGD-10 examples (step eps/4), each started at a point of the ball drawn for that image."""
    with fixed_state(), untouched(model):
        examples = [pgd10(model, batch) for batch in data.batches("clean")]
    return replace(data, adversarial=torch.cat(examples))
