"""Models without weights that can be asked for: plain functions, TorchScript, quantised networks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robustgap.measures._model_checks import require_eval
from robustgap.measures.core import Missing


class Opaque(nn.Module):
    """A model that only answers calls. A measure that asks for its weights, modules or hooks is Missing.

    what: 'a plain function', for the reason; like: a tensor of its device and dtype, None where it has none.
    """

    function: Callable[[Tensor], Tensor]
    what: str
    like: Tensor | None

    def __init__(self, function: Callable[[Tensor], Tensor], what: str, like: Tensor | None = None):
        super().__init__()
        self.asked = False
        vars(self).update(function=function, what=what, like=like)  # no submodule, no buffer
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)

    def _refuse(self) -> None:
        if self.asked:
            raise Missing(f"the model is {self.what}: it has no weights that can be asked for")

    def named_parameters(self, *given: Any, **more: Any) -> Iterator[tuple[str, nn.Parameter]]:
        self._refuse()
        return super().named_parameters(*given, **more)

    def named_modules(self, *given: Any, **more: Any) -> Iterator[tuple[str, nn.Module]]:
        self._refuse()
        return super().named_modules(*given, **more)

    def state_dict(self, *given: Any, **more: Any) -> Any:  # type: ignore[override]
        self._refuse()
        return super().state_dict(*given, **more)


@contextmanager
def asked(model: nn.Module) -> Iterator[None]:
    """A measure looks at the model inside."""
    if not isinstance(model, Opaque):
        yield
        return
    model.asked = True
    try:
        yield
    finally:
        model.asked = False


def as_model(model: Any, device: torch.device | str | None = None) -> nn.Module:
    """The module that measures are given: the model itself, what a wrapper around it holds, or an Opaque.

    Raises ValueError for what is neither a module nor a function, and for a module in train mode.
    """
    if isinstance(model, type) or not callable(model):
        found = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise ValueError(f"model: found {found}, wanted a PyTorch module, or a function from images to logits")
    if isinstance(model, nn.DataParallel):
        return model.module
    if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):  # what torch.compile made it from
        return inner
    if not isinstance(model, nn.Module):
        return Opaque(model, "a plain function", None if device is None else torch.empty(0, device=device))
    what = "TorchScript" if isinstance(model, torch.jit.ScriptModule) else "quantised" if quantised(model) else ""
    if not what or isinstance(model, Opaque):
        return model
    require_eval(model)
    return Opaque(model, what, next((p.detach() for p in model.parameters() if p.is_floating_point()), None))


def quantised(model: nn.Module) -> bool:
    """Whether some weights are packed integers: what is left of the parameters is not the network's."""
    packed = any(".quantized." in f"{type(module).__module__}." for module in model.modules())
    return packed or any(p.is_quantized or not p.is_floating_point() for p in model.parameters())
