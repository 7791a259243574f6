"""Image classifiers, found by name in ARCHITECTURES.

Contract: `f(num_classes, in_channels, *, width, image_size) -> Module` that maps images to logits; `build` puts the
normalisation in front, so that models take images in [0, 1]. width 0 is the architecture's own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.data import Splits
from training.registry import Registry

ARCHITECTURES = Registry("architecture")


class Normalize(nn.Module):
    """(x - mean) / std per channel; mean and std are buffers of shape (1, c, 1, 1)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))
        self.register_buffer("std", std.reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def _unit(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


@ARCHITECTURES.register()
def cnn(num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 8) -> nn.Module:
    """Three 3 x 3 convolutions (width 16, 32, 64; strides 2, 1, 2) with BatchNorm and ReLU, pooled to 2 x 2, then a
    linear layer: 25,978 parameters for digits, whose 8 x 8 images need no pooling."""
    w = width or 16
    # an AdaptiveAvgPool2d that changes nothing would still take an eighth of a step's time
    pool = nn.Identity() if image_size == 8 else nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(
        _unit(in_channels, w, 2),
        _unit(w, 2 * w, 1),
        _unit(2 * w, 4 * w, 2),
        pool,
        nn.Flatten(),
        nn.Linear(16 * w, num_classes),
    )


@ARCHITECTURES.register()
def mlp(num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 8) -> nn.Module:
    """Two hidden ReLU layers of `width` units (128)."""
    w = width or 128
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * image_size**2, w),
        nn.ReLU(),
        nn.Linear(w, w),
        nn.ReLU(),
        nn.Linear(w, num_classes),
    )


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), the shortcut a 1 x 1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


@ARCHITECTURES.register()
def resnet18(num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 32) -> nn.Module:
    """ResNet-18 (He et al., CVPR 2016) in its CIFAR form: a 3 x 3 stem without pooling, four stages of two blocks."""
    w = width or 64
    blocks: list[nn.Module] = []
    channels = w
    for stage, factor in enumerate((1, 2, 4, 8)):
        for block in range(2):
            stride = 2 if stage > 0 and block == 0 else 1
            blocks.append(BasicBlock(channels, factor * w, stride))
            channels = factor * w
    return nn.Sequential(
        _unit(in_channels, w, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * w, num_classes)
    )


def build(settings: dict, splits: Splits) -> nn.Module:
    """The network of a run with freshly drawn weights, a function of the run's seed alone (torch's generator is put
    back afterwards). Raises LookupError for an unknown architecture."""
    architecture = ARCHITECTURES[settings["architecture"]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(settings["seed"]))
        network = architecture(
            splits.num_classes, splits.channels, width=int(settings["width"]), image_size=splits.size
        )
    return nn.Sequential(Normalize(splits.mean, splits.std), network)
