"""The benchmark of training trains by every way. Its times are not looked at."""

import pytest
import torch

from benchmarks import training as benchmark
from robustgap.training.attacks import cross_entropy, pgd
from robustgap.training.networks.architectures import build
from robustgap.training.settings import complete


def test_a_quick_benchmark_prints_a_row_for_each_way_and_writes_it(tmp_path, capsys):
    out = tmp_path / "training.md"
    small = ["--networks", "resnet18", "--width", "8", "--batch-size", "4", "--steps", "1", "--out", str(out)]
    assert benchmark.main(small) == 0
    assert capsys.readouterr().out == out.read_text() + "\n"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.read_text().splitlines()]
    ways = {row[1]: row for row in rows if len(row) == 8 and row[0] == "resnet18"}
    assert list(ways) == benchmark.ways(torch.device("cpu"))[0]
    assert ways["plain"][2] == "4" and ways["plain"][7] == "1.00"


def test_the_plain_loop_attacks_as_ours_does():
    """From the image itself both climb to the same point, so that the plain loop is not slowed by other work."""
    splits = benchmark.random_images(4, torch.device("cpu"))
    model = build(complete({"architecture": "cnn", "width": 4}), splits).eval()
    x, y = splits.floats(splits.train.images), splits.train.labels
    ours = pgd(model, x, y, eps=benchmark.EPS, noise=torch.zeros_like(x), norm="Linf", steps=10, step=benchmark.EPS / 4)
    plain = benchmark.plain_attack(model, x, y, torch.zeros_like(x))
    with torch.no_grad():
        ratio = cross_entropy(model(plain), y).mean() / cross_entropy(model(ours), y).mean()
    assert float(ratio) == pytest.approx(1.0, abs=1e-3)
    assert float((plain - x).abs().max()) <= benchmark.EPS + 1e-6


@pytest.mark.parametrize("fast", [torch.bfloat16, torch.float32])
def test_bfloat16_is_measured_where_it_is_faster(fast, monkeypatch):
    monkeypatch.setattr(benchmark, "peak", lambda device, dtype, size: 26.0 if dtype == fast else 1.0)
    found, left_out = benchmark.ways(torch.device("cpu"))
    assert ("ours, channels_last, bfloat16" in found) == (fast == torch.bfloat16)
    assert ("bfloat16, in which a matrix product is 26 times slower" in left_out) == (fast == torch.float32)
