"""Data augmentation as batched tensor operations, found by name in AUGMENTATIONS.

Contract: `f(x, index, seed, stream) -> x`, x (n, c, h, w) in [0, 1]. Draws are keyed by image index, so an image is
augmented the same way whatever batch it is in; `stream` changes every epoch.
"""

import torch
from torch import Tensor

from robustgap.training import keyed
from robustgap.training.registry import Registry

AUGMENTATIONS = Registry("augmentation")


@AUGMENTATIONS.register()
def none(x: Tensor, index: Tensor, seed: int, stream: int) -> Tensor:
    """The images as they are."""
    return x


@AUGMENTATIONS.register()
def crop(x: Tensor, index: Tensor, seed: int, stream: int) -> Tensor:
    """Random crop after zero padding by an eighth of the side (4 pixels of 32, 1 of 8), each image its own offset."""
    n, _, height, width = x.shape
    pad = max(1, height // 8)
    offset = (keyed.uniform(seed, stream, index, (2,)) * (2 * pad + 1)).to(torch.int64)
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    rows = offset[:, 0, None] + torch.arange(height, device=x.device)
    columns = offset[:, 1, None] + torch.arange(width, device=x.device)
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


@AUGMENTATIONS.register()
def crop_flip(x: Tensor, index: Tensor, seed: int, stream: int) -> Tensor:
    """`crop`, then a left-right flip of each image with probability 1/2: the recipe of CIFAR-10."""
    x = crop(x, index, seed, stream)
    flip = keyed.uniform(seed, stream + 1, index, (1, 1, 1)) < 0.5
    return torch.where(flip, x.flip(3), x)
