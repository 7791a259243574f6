"""The state in which measures run, whatever the caller's is, and what is given back exactly as it was found."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from robustgap.training.modes import full_precision

# Nobody's fault here, and not to be taken for a missing value: the job ends, and may be tried again elsewhere.
FATAL = (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)


@contextmanager
def fixed_state() -> Iterator[None]:
    """torch as it starts: no autocast, no inference mode, new tensors in float32 on the CPU, products of float32 in
    float32; gradients off, until a measure asks for them. The caller's state comes back, also after an error."""
    default = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, default)
        torch.set_default_dtype(torch.float32)
        # entered only where it is needed: it makes every call of torch slower
        elsewhere = torch.get_default_device().type != "cpu"
        stack.enter_context(torch.device("cpu") if elsewhere else nullcontext())
        stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(full_precision())
        stack.enter_context(torch.no_grad())
        yield


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient; and whatever happens inside, the model is left with the objects it had
    (parameters, buffers, hooks, what its modules remember), with its flags, and with the values of its buffers."""
    modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    found = [(module, [(key, held, copied(held)) for key, held in vars(module).items()]) for module in modules]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone(), buffer._version) for buffer in model.buffers()]
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, attributes in found:
            vars(module).clear()
            vars(module).update({key: filled(held, content) for key, held, content in attributes})
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        with torch.no_grad():
            for buffer, value, version in buffers:
                if buffer._version != version:  # written to: else its own version would rise for nothing
                    buffer.copy_(value)


def copied(held: object) -> dict | list | None:
    """What a dictionary or list holds (hooks, parameters, remembered outputs); None for anything else."""
    return held.copy() if isinstance(held, dict | list) else None


def filled(held: Any, content: dict | list | None) -> Any:
    """The same dictionary or list, with that content again."""
    if content is not None:
        held.clear()
        held.update(content) if isinstance(held, dict) else held.extend(content)
    return held
