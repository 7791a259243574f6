"""Small networks for small images: the studies of digits."""

from torch import nn

from robustgap.training.networks.architectures.common import ACTIVATIONS, ARCHITECTURES, conv3x3


def _unit(in_channels: int, channels: int, stride: int, activation: str) -> nn.Sequential:
    return nn.Sequential(conv3x3(in_channels, channels, stride), nn.BatchNorm2d(channels), ACTIVATIONS[activation]())


@ARCHITECTURES.register()
def cnn(
    num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 8, activation: str = "relu"
) -> nn.Module:
    """Three 3 x 3 convolutions (width 16, 32, 64; strides 2, 1, 2) with BatchNorm and activation, pooled to 2 x 2, then
    a linear layer: 25,978 parameters for digits, whose 8 x 8 images need no pooling."""
    w = width or 16
    # an AdaptiveAvgPool2d that changes nothing would still take an eighth of a step's time
    pool = nn.Identity() if image_size == 8 else nn.AdaptiveAvgPool2d(2)
    return nn.Sequential(
        _unit(in_channels, w, 2, activation),
        _unit(w, 2 * w, 1, activation),
        _unit(2 * w, 4 * w, 2, activation),
        pool,
        nn.Flatten(),
        nn.Linear(16 * w, num_classes),
    )


@ARCHITECTURES.register()
def mlp(
    num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 8, activation: str = "relu"
) -> nn.Module:
    """Two hidden layers of `width` units (128)."""
    w, act = width or 128, ACTIVATIONS[activation]
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(in_channels * image_size**2, w),
        act(),
        nn.Linear(w, w),
        act(),
        nn.Linear(w, num_classes),
    )
