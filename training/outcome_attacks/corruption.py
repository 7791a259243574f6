"""Common corruptions of images, of five severities, which no adversary chooses.

Kinds and parameters: Hendrycks and Dietterich, ICLR 2019, with the numbers by which the authors made CIFAR-10-C
(make_cifar_c.py of github.com/hendrycks/robustness), chosen for images of 32 x 32: sizes in pixels are used as they
stand. Those of their kinds that need no further library; the result is clipped to [0, 1] and, but for JPEG, not rounded
to 8 bits.
"""

import io
from collections.abc import Callable
from importlib import import_module

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from robustgap.training import attacks, keyed
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS, SEED
from robustgap.training.robustbench._compat import import_torchvision

GAUSSIAN_STREAM, SHOT_STREAM, IMPULSE_STREAM, SPECKLE_STREAM = 340, 341, 342, 343
TRUNCATED = 4  # standard deviations, at which the authors' filter ends


@OUTCOME_ATTACKS.register("corruption")
def corruption(model: nn.Module, x: Tensor, y: Tensor, index: Tensor, eps: float, norm: str, *, kind: str) -> Tensor:
    """x after a corruption of severity eps = 1 .. 5; 0: x itself. Random numbers are keyed by image, and the same for
    all severities. Raises ValueError for another severity, and for JPEG of other than 1 or 3 channels."""
    attacks.check_range(x)
    if eps not in range(6) or norm != "severity":
        raise ValueError(f"corruption: found {norm} {eps}, wanted a severity of 0, 1, 2, 3, 4 or 5")
    if eps == 0:
        return x.clone()
    corrupted, parameters = KINDS[kind]
    return corrupted(x, index, parameters[int(eps) - 1]).clamp(0.0, 1.0)


def gaussian_noise(x: Tensor, index: Tensor, deviation: float) -> Tensor:
    return x + deviation * keyed.normal(SEED, GAUSSIAN_STREAM, index, x.shape[1:]).to(x)


def shot_noise(x: Tensor, index: Tensor, photons: float) -> Tensor:
    """Counts of photons, Poisson with the mean `photons` times x, over `photons`."""
    means, counts = (photons * x).double().cpu(), []
    for mean, word in zip(means, keyed.bits(SEED, SHOT_STREAM, index, 1)[:, 0].tolist(), strict=True):
        counts.append(torch.poisson(mean, generator=torch.Generator().manual_seed(word)))
    return torch.stack(counts).to(x) / photons


def impulse_noise(x: Tensor, index: Tensor, share: float) -> Tensor:
    """Salt and pepper: a share of all numbers becomes 0 or 1."""
    drawn = keyed.uniform(SEED, IMPULSE_STREAM, index, (2, *x.shape[1:]))
    return torch.where(drawn[:, 0] < share, (drawn[:, 1] < 0.5).to(x), x)


def speckle_noise(x: Tensor, index: Tensor, deviation: float) -> Tensor:
    return x + x * deviation * keyed.normal(SEED, SPECKLE_STREAM, index, x.shape[1:]).to(x)


def gaussian_blur(x: Tensor, index: Tensor, deviation: float) -> Tensor:
    """deviation: in pixels. Beyond its border an image goes on with the pixels there."""
    import_torchvision()
    transforms = import_module("torchvision.transforms.v2.functional")
    reach = int(TRUNCATED * deviation + 0.5)
    wide = nn.functional.pad(x, [reach] * 4, mode="replicate")
    blurred: Tensor = transforms.gaussian_blur(wide, kernel_size=[2 * reach + 1] * 2, sigma=[deviation] * 2)
    return blurred[..., reach:-reach, reach:-reach]


def brightness(x: Tensor, index: Tensor, more: float) -> Tensor:
    """`more` is added to the value of hue, saturation, value, which is the largest channel of a pixel."""
    value = x.amax(dim=1, keepdim=True)
    wanted = (value + more).clamp(max=1.0)
    return torch.where(value > 0, x * (wanted / value), wanted)


def contrast(x: Tensor, index: Tensor, factor: float) -> Tensor:
    """The distance from the mean of a channel shrinks."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    return mean + factor * (x - mean)


def pixelate(x: Tensor, index: Tensor, factor: float) -> Tensor:
    """Down to int(factor times the side) pixels, and up again, by box filters."""
    height, width = x.shape[2:]
    small = int(width * factor), int(height * factor)
    images = [Image.fromarray(channel) for channel in x.float().flatten(0, 1).cpu().numpy()]
    coarse = [
        np.asarray(i.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)) for i in images
    ]
    return torch.from_numpy(np.stack(coarse)).reshape(x.shape).to(x)


def jpeg_compression(x: Tensor, index: Tensor, quality: float) -> Tensor:
    if x.shape[1] not in (1, 3):
        raise ValueError(f"jpeg_compression: found {x.shape[1]} channels, wanted 1 or 3")
    decoded = []
    for image in (255 * x).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(image.squeeze(2) if x.shape[1] == 1 else image).save(file, "JPEG", quality=int(quality))
        decoded.append(np.asarray(Image.open(file)).reshape(image.shape))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(x) / 255


Corruption = Callable[[Tensor, Tensor, float], Tensor]
KINDS: dict[str, tuple[Corruption, tuple[float, ...]]] = {
    "gaussian_noise": (gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": (speckle_noise, (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": (gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "pixelate": (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg_compression": (jpeg_compression, (80, 65, 58, 50, 40)),
}
