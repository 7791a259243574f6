"""Pre-activation residual networks: PreAct-ResNet-18 (He et al., ECCV 2016) and wide ResNets (Zagoruyko and Komodakis,
BMVC 2016) in the form of TRADES' code (Zhang et al., ICML 2019).

A shortcut that changes shape starts from the activated input, act(bn1(x)), and has no BatchNorm; a last BatchNorm and
activation stand before pooling. Parameters are named as in the public codes, except that the wide ResNets' convShortcut
is called shortcut.0 here (training.networks.architectures.layouts translates).
"""

import math

from torch import Tensor, nn

from robustgap.training.networks.architectures.common import ACTIVATIONS, ARCHITECTURES, conv3x3, logits_of


class PreActBlock(nn.Module):
    """conv2(act(bn2(conv1(a)))) + shortcut, a = act(bn1(x)); the shortcut is x, or a 1 x 1 convolution of a."""

    def __init__(self, in_channels: int, channels: int, stride: int, activation: str):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        a = self.act(self.bn1(x))
        out: Tensor = self.conv2(self.act(self.bn2(self.conv1(a))))
        return out + (self.shortcut(a) if len(self.shortcut) else x)


def _stage(depth: int, in_channels: int, channels: int, stride: int, activation: str) -> nn.Sequential:
    first = PreActBlock(in_channels, channels, stride, activation)
    return nn.Sequential(first, *(PreActBlock(channels, channels, 1, activation) for _ in range(depth - 1)))


class PreActResNet(nn.Module):
    """Images (n, c, h, w) -> logits (n, k): four stages of two blocks, of width x 1, 2, 4, 8 channels."""

    def __init__(self, num_classes: int, in_channels: int, width: int, activation: str):
        super().__init__()
        self.conv1 = conv3x3(in_channels, width)
        self.layer1 = _stage(2, width, width, 1, activation)
        self.layer2 = _stage(2, width, 2 * width, 2, activation)
        self.layer3 = _stage(2, 2 * width, 4 * width, 2, activation)
        self.layer4 = _stage(2, 4 * width, 8 * width, 2, activation)
        self.bn = nn.BatchNorm2d(8 * width)
        self.act = ACTIVATIONS[activation]()
        self.linear = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return logits_of(self.act(self.bn(out)), self.linear)


class WideStage(nn.Module):
    """A stage of a wide ResNet; it only gives its blocks their public names, blockS.layer.B."""

    def __init__(self, depth: int, in_channels: int, channels: int, stride: int, activation: str):
        super().__init__()
        self.layer = _stage(depth, in_channels, channels, stride, activation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """Images (n, c, h, w) -> logits (n, k): a stem of `width` channels, three stages of (depth - 4) / 6 blocks of
    width x widen x 1, 2, 4 channels. Convolutions are initialised from N(0, 2 / (9 or 1 x channels out)), biases at
    0."""

    def __init__(self, depth: int, widen: int, num_classes: int, in_channels: int, width: int, activation: str):
        super().__init__()
        blocks, w = (depth - 4) // 6, width * widen
        self.conv1 = conv3x3(in_channels, width)
        self.block1 = WideStage(blocks, width, w, 1, activation)
        self.block2 = WideStage(blocks, w, 2 * w, 2, activation)
        self.block3 = WideStage(blocks, 2 * w, 4 * w, 2, activation)
        self.bn1 = nn.BatchNorm2d(4 * w)
        self.act = ACTIVATIONS[activation]()
        self.fc = nn.Linear(4 * w, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        return logits_of(self.act(self.bn1(out)), self.fc)


@ARCHITECTURES.register()
def preactresnet18(
    num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 32, activation: str = "relu"
) -> nn.Module:
    """PreAct-ResNet-18 starting with `width` (64) channels: 11.17 M parameters for CIFAR-10."""
    return PreActResNet(num_classes, in_channels, width or 64, activation)


@ARCHITECTURES.register()
def wrn28_10(
    num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 32, activation: str = "relu"
) -> nn.Module:
    """WRN-28-10 starting with `width` (16) channels: 36.48 M parameters for CIFAR-10."""
    return WideResNet(28, 10, num_classes, in_channels, width or 16, activation)


@ARCHITECTURES.register()
def wrn34_10(
    num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 32, activation: str = "relu"
) -> nn.Module:
    """WRN-34-10 starting with `width` (16) channels: 46.16 M parameters for CIFAR-10."""
    return WideResNet(34, 10, num_classes, in_channels, width or 16, activation)


@ARCHITECTURES.register()
def wrn70_16(
    num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 32, activation: str = "relu"
) -> nn.Module:
    """WRN-70-16 starting with `width` (16) channels: 266.80 M parameters for CIFAR-10."""
    return WideResNet(70, 16, num_classes, in_channels, width or 16, activation)
