"""Common corruptions against SciPy, Matplotlib, Pillow, and the moments of their noise."""

import io
import itertools

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from oracles import images
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from robustgap.training.data.datasets import load
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS
from robustgap.training.outcome_attacks.corruption import KINDS

COLOUR = images(6, (3, 12, 10), low=0.0, high=1.0)


def corrupted(x: Tensor, kind: str, severity: float, index: Tensor | None = None) -> Tensor:
    index = torch.arange(len(x)) if index is None else index
    given = (nn.Identity(), x, torch.zeros(len(x), dtype=torch.long), index, severity, "severity")
    return OUTCOME_ATTACKS["corruption"](*given, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_each_severity_changes_more_than_the_one_before(kind: str):
    splits = load("digits32")
    x = splits.floats(splits.train.images[:40])
    change = [float((corrupted(x, kind, s) - x).square().mean()) for s in range(6)]
    assert change[0] == 0 and all(after > before for before, after in itertools.pairwise(change))


def test_noise_has_the_moments_of_its_parameters():
    """100,000 numbers: means within 5 standard errors, standard deviations within 2 %."""
    grey = torch.full((50, 1, 40, 50), 0.5, dtype=torch.float64)
    for kind, deviation in (
        ("gaussian_noise", lambda c: c),
        ("shot_noise", lambda c: (0.5 / c) ** 0.5),
        ("speckle_noise", lambda c: 0.5 * c),
        ("impulse_noise", lambda c: 0.5 * c**0.5),
    ):
        for severity, parameter in enumerate(KINDS[kind][1], start=1):
            noise = corrupted(grey, kind, severity) - 0.5
            wanted = deviation(parameter)
            assert abs(float(noise.mean())) < 5 * wanted / 1e5**0.5
            assert float(noise.std()) == pytest.approx(wanted, rel=0.05 if kind == "impulse_noise" else 0.02), kind
    struck = corrupted(grey, "impulse_noise", 3)
    assert set(struck.unique().tolist()) == {0.0, 0.5, 1.0}
    assert float((struck != 0.5).double().mean()) == pytest.approx(0.03, rel=0.05)
    bright = corrupted(torch.full_like(grey, 0.2), "shot_noise", 5)
    torch.testing.assert_close(50 * bright, (50 * bright).round())  # counts of photons


@pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
def test_images_get_noise_of_their_own(kind: str):
    x = torch.full((3, 1, 8, 8), 0.5, dtype=torch.float64)
    first, again, other = corrupted(x, kind, 5, torch.tensor([4, 4, 5]))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_blur_is_scipys(severity: int):
    deviation = KINDS["gaussian_blur"][1][severity - 1]
    wanted = gaussian_filter(COLOUR.numpy(), (0, 0, deviation, deviation), mode="nearest", truncate=4)
    torch.testing.assert_close(corrupted(COLOUR, "gaussian_blur", severity), torch.from_numpy(wanted))


def test_brightness_raises_the_value_and_nothing_else():
    x = COLOUR.clone()
    x[0] = 0
    hsv = rgb_to_hsv(x.permute(0, 2, 3, 1).numpy())
    hsv[..., 2] = (hsv[..., 2] + 0.15).clip(max=1)
    wanted = torch.from_numpy(hsv_to_rgb(hsv)).permute(0, 3, 1, 2)
    torch.testing.assert_close(corrupted(x, "brightness", 3), wanted)
    grey = COLOUR[:, :1]
    torch.testing.assert_close(corrupted(grey, "brightness", 3), (grey + 0.15).clamp(max=1))


def test_contrast_keeps_the_mean_of_each_channel():
    found = corrupted(COLOUR, "contrast", 2)
    torch.testing.assert_close(found.mean((2, 3)), COLOUR.mean((2, 3)))
    torch.testing.assert_close(found.std((2, 3)), 0.5 * COLOUR.std((2, 3)))


def test_pixelate_and_jpeg_are_pillows():
    """Of 8-bit images, as the authors have them."""
    bytes_ = (255 * COLOUR).round().to(torch.uint8)
    x = bytes_.double() / 255
    pixelated, compressed = corrupted(x, "pixelate", 5), corrupted(x, "jpeg_compression", 5)
    for i, image in enumerate(bytes_.permute(0, 2, 3, 1).numpy()):
        small = Image.fromarray(image).resize((6, 7), Image.Resampling.BOX)
        wanted = np.asarray(small.resize((10, 12), Image.Resampling.BOX)) / 255
        np.testing.assert_allclose(pixelated[i].permute(1, 2, 0).numpy(), wanted, atol=1.01 / 255)
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=40)
        np.testing.assert_allclose(compressed[i].permute(1, 2, 0).numpy(), np.asarray(Image.open(file)) / 255)
    grey = corrupted(x[:, :1], "jpeg_compression", 1)
    assert grey.shape == (6, 1, 12, 10) and 0 < (grey - x[:, :1]).abs().mean() < 0.1
    with pytest.raises(ValueError, match="jpeg_compression: found 2 channels, wanted 1 or 3"):
        corrupted(x[:, :2], "jpeg_compression", 1)


@pytest.mark.parametrize("severity", [0.5, 6, -1])
def test_other_severities_are_refused(severity: float):
    with pytest.raises(ValueError, match="wanted a severity of 0, 1, 2, 3, 4 or 5"):
        corrupted(COLOUR, "contrast", severity)
