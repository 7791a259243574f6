"""Checks, made once, that a model is one whose measures are meaningful. Covered by core.CORE_VERSION."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robustgap.measures._state import FATAL, one_line, removed_afterwards


def check_model(model: nn.Module, images: Tensor, labels: Tensor) -> str:
    """Raise ValueError unless the model returns logits of at least two classes that are a function of the image, leaves
    the image unchanged, and has the labels among its classes. Returns a remark on the precision it computes in."""
    image = images[:1].clone()
    version = image._version
    low_precision: dict[torch.dtype, str] = {}
    with _record_low_precision(model, low_precision):
        logits = called(model, image)
    if image._version != version or not torch.equal(image, images[:1]):
        raise ValueError(
            "model: found that it writes into its input, wanted the images left alone: in forward, first x = x.clone()"
        )
    if not isinstance(logits, Tensor):
        raise ValueError(f"model: found a {type(logits).__name__}, wanted logits (n, classes)")
    if logits.dim() != 2 or len(logits) != 1:
        raise ValueError(f"model: found an output of shape {tuple(logits.shape)} for one image, wanted (1, classes)")
    if logits.shape[1] < 2:  # margins, softmax and other classes would have no meaning
        raise ValueError(f"model: found {logits.shape[1]} class, wanted at least 2")
    if logits.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"model: found logits in {logits.dtype}, wanted torch.float32 or torch.float64")
    tolerance = 1e-3 * float(logits.abs().nan_to_num().max())
    few = images[:4]  # several: for one image, dropout may draw the same for all of three classes twice
    together = model(few)
    for fault, output, wanted in (
        ("changes from call to call", model(few), together),
        ("depends on the other images", together[:1], logits),
    ):
        if not torch.allclose(output, wanted, rtol=0.0, atol=tolerance, equal_nan=True):
            raise ValueError(
                f"model: found an output that {fault}, wanted a function of the image (dropout, BatchNorm?)"
            )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"labels: found {low} .. {high}, wanted 0 .. {logits.shape[1] - 1}, the model's classes")
    return "; ".join(f"the model computes in {dtype} ({name})" for dtype, name in low_precision.items())


def called(model: nn.Module, images: Tensor) -> object:
    """model(images). Raises ValueError, with the model's own error, where it cannot take such images."""
    try:
        return model(images)
    except FATAL:
        raise
    except Exception as error:
        shape = f"(n, {', '.join(map(str, images.shape[1:]))})"
        raise ValueError(f"model: found that it cannot take images {shape}: {one_line(error)}") from error


@contextmanager
def _record_low_precision(model: nn.Module, first_module: dict[torch.dtype, str]) -> Iterator[None]:
    """Records each floating-point dtype below float32 that a module returns, with the name of the first such module."""

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.dtype.itemsize < 4:
            first_module.setdefault(output.dtype, name)

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name or "its output", output))
        for name, module in model.named_modules()
    ]
    with removed_afterwards(handles):
        yield


def require_eval(model: nn.Module) -> None:
    """Raise ValueError unless every module of the model is in eval mode."""
    for name, module in model.named_modules():
        if module.training:
            raise ValueError(f"model: found {name or 'it'} in train mode, wanted eval mode: call model.eval() first")
