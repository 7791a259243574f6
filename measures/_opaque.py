"""Models whose weights cannot be read: plain functions, TorchScript, quantised networks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robustgap.measures._model_checks import require_eval
from robustgap.measures.core import Missing


class Opaque(nn.Module):
    """A model that can only be called. A measure that reads its weights or modules is Missing.

    what: 'a plain function', for the reason. like: a tensor of its device and dtype, or None.
    """

    function: Callable[[Tensor], Tensor]
    what: str
    like: Tensor | None

    def __init__(self, function: Callable[[Tensor], Tensor], what: str, like: Tensor | None = None):
        super().__init__()
        self.measuring = False
        vars(self).update(function=function, what=what, like=like)  # no submodule, no buffer
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)

    def _refuse(self) -> None:
        if self.measuring:
            raise Missing(f"the model is {self.what}: its weights cannot be read")

    def named_parameters(self, *args: Any, **options: Any) -> Iterator[tuple[str, nn.Parameter]]:
        self._refuse()
        return super().named_parameters(*args, **options)

    def named_modules(self, *args: Any, **options: Any) -> Any:
        self._refuse()
        return super().named_modules(*args, **options)

    def state_dict(self, *args: Any, **options: Any) -> Any:
        self._refuse()
        return super().state_dict(*args, **options)


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Inside, a measure runs, and an Opaque refuses to show its weights."""
    if not isinstance(model, Opaque):
        yield
        return
    model.measuring = True
    try:
        yield
    finally:
        model.measuring = False


def as_model(model: Any, device: torch.device | str | None = None) -> nn.Module:
    """The module that measures get: the model itself, the module inside a wrapper, or an Opaque.

    Raises ValueError for anything but a module or function, and for a quantised or TorchScript module in train mode.
    """
    if isinstance(model, type) or not callable(model):
        kind = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise ValueError(f"model: found {kind}, wanted a PyTorch module, or a function from images to logits")
    if isinstance(model, nn.DataParallel):
        wrapped: nn.Module = model.module
        return wrapped
    if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):  # the argument of torch.compile
        return inner
    if not isinstance(model, nn.Module):
        return Opaque(model, "a plain function", None if device is None else torch.empty(0, device=device))
    what = "TorchScript" if isinstance(model, torch.jit.ScriptModule) else "quantised" if quantised(model) else ""
    if not what or isinstance(model, Opaque):
        return model
    require_eval(model)
    return Opaque(model, what, next((p.detach() for p in model.parameters() if p.is_floating_point()), None))


def quantised(model: nn.Module) -> bool:
    """Whether some weights are packed integers, so that `parameters()` does not hold the network's."""
    packed = any(".quantized." in f"{type(module).__module__}." for module in model.modules())
    return packed or any(p.is_quantized or not p.is_floating_point() for p in model.parameters())
