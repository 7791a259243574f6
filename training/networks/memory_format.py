"""The memory layout of a network's images and weights."""

import torch
from torch import nn

NARROW = 8  # input channels below which torch 2.13 on a CPU writes past the end of a gradient (see `channels_last`)


def channels_last(model: nn.Module) -> nn.Module:
    """The model in channels-last layout where that is faster and safe, else unchanged.

    Convolutions then run a fifth faster on a CPU. There, however, the gradient of the weights of a strided 1x1
    convolution of fewer than 8 input channels (the shortcut of a narrow residual network) corrupts memory: the process
    dies, or worse, does not.
    """
    narrow = any(
        module.in_channels < NARROW and set(module.kernel_size) == {1} and set(module.stride) != {1}
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    )
    return model if narrow else model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
