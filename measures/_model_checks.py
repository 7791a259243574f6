"""What a model must be for its measures to mean anything, checked once. Covered by core.CORE_VERSION."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robustgap.measures._state import FATAL


def check_model(model: nn.Module, images: Tensor, labels: Tensor) -> str:
    """Raise ValueError unless the model gives logits of two classes or more that are a function of the image, leaves
    the image as it is, and the labels are among its classes. Returns a remark on the precision it computes in."""
    given = images[:1].clone()
    version = given._version
    halves: dict[torch.dtype, str] = {}
    with _low_precision(model, halves):
        logits = called(model, given)
    if given._version != version or not torch.equal(given, images[:1]):
        raise ValueError(
            "model: found that it writes into its input, wanted the images left alone: in forward, first x = x.clone()"
        )
    if not isinstance(logits, Tensor):
        raise ValueError(f"model: found a {type(logits).__name__}, wanted logits (n, classes)")
    if logits.dim() != 2 or len(logits) != 1:
        raise ValueError(f"model: found an output of shape {tuple(logits.shape)} for one image, wanted (1, classes)")
    if logits.shape[1] < 2:  # margins, softmax and other classes have no meaning
        raise ValueError(f"model: found {logits.shape[1]} class, wanted at least 2")
    if logits.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"model: found logits in {logits.dtype}, wanted torch.float32 or torch.float64")
    room = 1e-3 * float(logits.abs().nan_to_num().max())
    few = images[:4]  # of one image, dropout may draw the same for all of three classes twice
    beside = model(few)
    for what, found, wanted in (
        ("changes from call to call", model(few), beside),
        ("depends on the other images", beside[:1], logits),
    ):
        if not torch.allclose(found, wanted, rtol=0.0, atol=room, equal_nan=True):
            raise ValueError(
                f"model: found an output that {what}, wanted a function of the image (dropout, BatchNorm?)"
            )
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        found = f"{int(labels.min())} .. {int(labels.max())}"
        raise ValueError(f"labels: found {found}, wanted 0 .. {logits.shape[1] - 1}, the model's classes")
    return "; ".join(f"the model computes in {dtype} ({name})" for dtype, name in halves.items())


def called(model: nn.Module, images: Tensor) -> object:
    """model(images). Raises ValueError, with what it raised, where it cannot take such images."""
    try:
        return model(images)
    except FATAL:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        shape = f"(n, {', '.join(map(str, images.shape[1:]))})"
        raise ValueError(f"model: found that it cannot take images {shape}: {type(error).__name__}: {said}") from error


@contextmanager
def _low_precision(model: nn.Module, found: dict[torch.dtype, str]) -> Iterator[None]:
    """Notes each floating dtype below float32 that a module gives back, and the first such module."""

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.dtype.itemsize < 4:
            found.setdefault(output.dtype, name)

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name or "its output", output))
        for name, module in model.named_modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def require_eval(model: nn.Module) -> None:
    """Raise ValueError unless every part of the model is in eval mode."""
    for name, module in model.named_modules():
        if module.training:
            raise ValueError(f"model: found {name or 'it'} in train mode, wanted eval mode: call model.eval() first")
