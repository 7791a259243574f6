"""The state of torch in which measures run, whatever the caller's is, and what is restored exactly afterwards."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from robustgap.training.modes import full_precision

# Faults of the machine, never a missing value: the job ends, and may be tried again elsewhere.
FATAL = (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)

Container = dict[Any, Any] | list[Any]


@contextmanager
def fixed_state() -> Iterator[None]:
    """torch in its initial state: no autocast, no inference mode, new tensors in float32 on the CPU, full-precision
    products; and gradients off until a measure enables them. The caller's state is restored, also after an error."""
    default = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, default)
        torch.set_default_dtype(torch.float32)
        # entered only where needed: it slows down every call of torch
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
    """No parameter requires a gradient inside; afterwards the model has the objects it had before (parameters, buffers,
    hooks, attributes of its modules), the same requires_grad flags, and the same values in its buffers."""
    modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    before = [(module, [(k, value, shallow_copy(value)) for k, value in vars(module).items()]) for module in modules]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.detach().clone(), buffer._version) for buffer in model.buffers()]
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update({k: refilled(value, content) for k, value, content in attributes})
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        with torch.no_grad():
            for buffer, value, version in buffers:
                if buffer._version != version:  # only where it was written to: copying raises the version
                    buffer.copy_(value)


@contextmanager
def removed_afterwards(hooks: Iterable[RemovableHandle]) -> Iterator[None]:
    """The hooks are in place inside, and are removed afterwards."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def shallow_copy(value: object) -> Container | None:
    """A copy of a dictionary or list (hooks, parameters, stored outputs); None for anything else."""
    return value.copy() if isinstance(value, dict | list) else None


def refilled(value: Any, content: Container | None) -> Any:
    """The same dictionary or list, with its former content."""
    if content is not None:
        value.clear()
        value.update(content) if isinstance(value, dict) else value.extend(content)
    return value


def one_line(error: Exception) -> str:
    """Type and message of an error, as the reason of a missing value: 'RuntimeError: ...'."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
