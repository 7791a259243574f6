"""ResNets (He et al., CVPR 2016) in their CIFAR form: a 3 x 3 stem without pooling, four stages, strides 1, 2, 2, 2.

Parameters are named as in the public code that most robust-training papers start from (pytorch-cifar): conv1, bn1,
layer1.0.conv1, layer2.0.shortcut.0, linear ...
"""

from torch import Tensor, nn

from robustgap.training.networks.architectures.common import ACTIVATIONS, ARCHITECTURES, conv3x3, logits_of


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """The identity, or a 1 x 1 convolution with BatchNorm where the shape changes."""
    if stride == 1 and in_channels == channels:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class BasicBlock(nn.Module):
    """act(bn(conv(act(bn(conv(x))))) + shortcut(x)), both convolutions 3 x 3; outputs `channels`."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, activation: str):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn1(self.conv1(x)))
        out = self.act(self.bn2(self.conv2(out)) + self.shortcut(x))
        return out


class Bottleneck(nn.Module):
    """Convolutions 1 x 1, 3 x 3 (with the stride), 1 x 1, the last to 4 x `channels`; otherwise as BasicBlock."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, activation: str):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 4 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.shortcut = _shortcut(in_channels, 4 * channels, stride)
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn1(self.conv1(x)))
        out = self.act(self.bn2(self.conv2(out)))
        out = self.act(self.bn3(self.conv3(out)) + self.shortcut(x))
        return out


class ResNet(nn.Module):
    """Images (n, c, h, w) -> logits (n, k). Stage s has depths[s] blocks of width x 2^s channels."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        num_classes: int,
        in_channels: int,
        width: int,
        activation: str,
    ):
        super().__init__()
        stages, channels = [], width
        for stage, depth in enumerate(depths):
            blocks = []
            for number in range(depth):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(block(channels, width << stage, stride, activation))
                channels = (width << stage) * block.expansion
            stages.append(nn.Sequential(*blocks))
        # Weights are drawn in the order of construction: the blocks before the stem, so that seeds keep their meaning.
        self.conv1 = conv3x3(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.act = ACTIVATIONS[activation]()
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.act(self.bn1(self.conv1(x)))
        return logits_of(self.layer4(self.layer3(self.layer2(self.layer1(out)))), self.linear)


@ARCHITECTURES.register()
def resnet18(
    num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 32, activation: str = "relu"
) -> nn.Module:
    """Stages of 2, 2, 2, 2 basic blocks starting with `width` (64) channels: 11.17 M parameters for CIFAR-10."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels, width or 64, activation)


@ARCHITECTURES.register()
def resnet34(
    num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 32, activation: str = "relu"
) -> nn.Module:
    """Stages of 3, 4, 6, 3 basic blocks starting with `width` (64) channels: 21.28 M parameters for CIFAR-10."""
    return ResNet(BasicBlock, (3, 4, 6, 3), num_classes, in_channels, width or 64, activation)


@ARCHITECTURES.register()
def resnet50(
    num_classes: int, in_channels: int, *, width: int = 0, image_size: int = 32, activation: str = "relu"
) -> nn.Module:
    """Stages of 3, 4, 6, 3 bottlenecks starting with `width` (64) channels: 23.52 M parameters for CIFAR-10."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels, width or 64, activation)
