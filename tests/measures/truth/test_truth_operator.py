"""Norms of layers as operators on images against the explicit matrices of convolutions."""

import itertools
import math

import numpy as np
import oracles
import pytest
from oracles import EPS, measured
from torch import nn
from torch.nn import functional as F

from robustgap.measures import _operator, evaluate


def toeplitz(weight, size, stride, padding):
    """The matrix of a convolution, entry by entry: y[o, i, j] = sum w[o, c, a, b] x[c, s i + a - p, s j + b - p]."""
    (outputs, channels, height, width), (_, h, w) = weight.shape, size
    rows, columns = ((n + 2 * padding - k) // stride + 1 for n, k in ((h, height), (w, width)))
    found = np.zeros((outputs, rows, columns, channels, h, w))
    for i, j, a, b in itertools.product(range(rows), range(columns), range(height), range(width)):
        y, x = stride * i + a - padding, stride * j + b - padding
        if 0 <= y < h and 0 <= x < w:
            found[:, i, j, :, y, x] += weight[:, :, a, b].detach().numpy()
    return found.reshape(outputs * rows * columns, -1)


def norm_of(array):
    return float(np.linalg.svd(np.asarray(array), compute_uv=False)[0])


@pytest.mark.parametrize("size", [(3, 9, 8), (3, 4, 5)])  # above and below the size at which the matrix is written down
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_operator_norm_of_a_convolution_is_that_of_its_toeplitz_matrix(size, stride, padding):
    layer = oracles.set_weights(nn.Conv2d(3, 4, 3, stride, padding), seed=5)
    found, reshaped = _operator.operator_norm(layer, size), norm_of(layer.weight.detach().flatten(1))
    assert found == pytest.approx(norm_of(toeplitz(layer.weight, size, stride, padding)), rel=5e-4)
    assert reshaped * (1 - 5e-4) < found < 3 * reshaped


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=2, dilation=2),
        nn.Conv2d(4, 6, (3, 2), padding="same", padding_mode="circular"),
        nn.Conv2d(4, 8, 3, groups=2, stride=(1, 2)),
        nn.Conv2d(4, 6, 1, stride=2),
        nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
    ],
    ids=["dilation", "circular", "groups", "pointwise", "transposed"],
)
def test_operator_norm_of_other_convolutions_is_that_of_their_matrix(layer):
    layer, size = oracles.set_weights(layer, seed=6), (4, 7, 6)
    found = _operator.operator_norm(layer, size)
    assert found == pytest.approx(norm_of(oracles.explicit_matrix(layer, size)), rel=5e-4)
    if layer.kernel_size == (1, 1):
        assert found == pytest.approx(norm_of(layer.weight.detach().flatten(1)), rel=5e-4)


def test_a_reshaped_kernel_has_no_larger_norm_where_a_window_lies_inside_the_image():
    """And up to sqrt(kernel size) less. Where none does, or in several groups, it may have a larger one."""
    larger = 0
    for n, stride, padding, seed in itertools.product(range(3, 8), (1, 2, 3), (0, 1), range(3)):
        layer = oracles.set_weights(nn.Conv2d(2, 2, 3, stride, padding), seed=seed)
        found, reshaped = _operator.operator_norm(layer, (2, n, n)), norm_of(layer.weight.detach().flatten(1))
        inside = any(0 <= start <= n - 3 for start in range(-padding, n + padding - 2, stride))
        assert not inside or reshaped * (1 - 5e-4) <= found
        assert found <= 3 * reshaped * (1 + 1e-9)
        larger += reshaped > 1.01 * found
    assert larger > 0
    groups = oracles.set_weights(nn.Conv2d(2, 2, 1, groups=2), seed=1)
    nn.init.ones_(groups.weight)
    assert _operator.operator_norm(groups, (2, 3, 3)) == pytest.approx(1.0)
    assert norm_of(groups.weight.detach().flatten(1)) == pytest.approx(math.sqrt(2))


def test_operator_norm_of_the_identity():
    layer = nn.Conv2d(2, 2, 3, padding=1, bias=False).double()
    nn.init.dirac_(layer.weight)
    assert _operator.operator_norm(layer, (2, 12, 12)) == pytest.approx(1.0, rel=1e-9)


class TwoSizes(nn.Module):
    """Convolutions of different strides; one is used at two sizes, one on no path."""

    def __init__(self):
        super().__init__()
        self.first, self.twice = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
        self.unused, self.last = nn.Conv2d(4, 4, 3), nn.Linear(4 * 3 * 3, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.last(F.relu(self.twice(F.relu(self.twice(x)))).flatten(1))


def test_operator_measures_take_each_layer_at_the_sizes_it_is_applied_to():
    model = oracles.set_weights(TwoSizes(), seed=3)
    x, y = oracles.images(2, (1, 24, 24)), oracles.labels(2)
    twice = [norm_of(toeplitz(model.twice.weight, (4, n, n), 2, 1)) for n in (12, 6)]
    norms = [norm_of(toeplitz(model.first.weight, (1, 24, 24), 2, 1)), max(twice), norm_of(model.last.weight.detach())]
    logs = [2 * math.log(norm) for norm in norms]
    assert measured(model, x, y, "log_prod_of_operator")[0]["none"] == pytest.approx(sum(logs), abs=2e-3)
    expected = math.log(3) + sum(logs) / 3
    assert measured(model, x, y, "log_sum_of_operator")[0]["none"] == pytest.approx(expected, abs=1e-3)
    assert measured(model.float(), x.float(), y, "log_sum_of_operator")[0]["none"] == pytest.approx(expected, abs=2e-3)


def test_operator_norm_that_does_not_converge_is_missing(monkeypatch):
    monkeypatch.setattr(_operator, "RESTARTS", 1)
    monkeypatch.setattr(_operator, "TOLERANCE", 1e-14)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3 * 14 * 14, 3))
    oracles.set_weights(model, seed=3)
    names = ["log_prod_of_operator", "log_sum_of_operator"]
    table = evaluate(model, oracles.images(2, (1, 16, 16)), oracles.labels(2), names, eps=EPS)
    assert table["value"].isna().all()
    assert table["reason"].str.match(r"the norm of 0 did not converge in \d+ products").all()
