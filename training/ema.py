"""An exponential moving average of the weights over the training steps, used in place of the model."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WARM_UP = 10


def decay_after(decay: float, steps: int) -> float:
    """min(decay, (1 + t) / (10 + t)) after t steps: a short run is not held back by its random initialisation (Gowal et
    al., 2020, whose code has it from TensorFlow)."""
    return min(decay, (1 + steps) / (WARM_UP + steps))


@torch.no_grad()
def update(average: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    """a <- decay a + (1 - decay) w, in place, for parameters and BatchNorm statistics alike; counters are copied."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)


@contextmanager
def holding(model: nn.Module, weights: dict[str, Tensor] | None) -> Iterator[nn.Module]:
    """Inside, the model has these parameters and buffers (None: its own); afterwards its own are restored."""
    if weights is None:
        yield model
        return
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    try:
        yield model
    finally:
        model.load_state_dict(saved)
