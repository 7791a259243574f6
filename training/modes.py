"""Temporary states of a model; afterwards everything is exactly as before."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Eval mode for the whole model; afterwards every submodule is back in its own mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """No parameter requires a gradient; afterwards each has its own flag again."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    for p, _ in flags:
        p.requires_grad_(False)
    try:
        yield model
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)


@contextmanager
def full_precision() -> Iterator[None]:
    """Products and convolutions of float32 in float32: cuDNN rounds their inputs to TF32 (10 bits) unless told not to,
    and torch.set_float32_matmul_precision lets cuBLAS and oneDNN round them too."""
    backends: Any = torch.backends
    operations = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    operations += [backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn]
    rounding = [(operation, operation.fp32_precision) for operation in operations]
    rounding = [(operation, precision) for operation, precision in rounding if precision not in ("none", "ieee")]
    for operation, _ in rounding:
        operation.fp32_precision = "ieee"
    try:
        yield
    finally:
        for operation, precision in rounding:
            operation.fp32_precision = precision


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[nn.Module]:
    """Changes made to the buffers (BatchNorm statistics) inside are undone."""
    saved = [(b, b.detach().clone()) for b in model.buffers()]
    try:
        yield model
    finally:
        with torch.no_grad():
            for buffer, value in saved:
                buffer.copy_(value)
