"""The benchmark of packing trains by every way, and the same in each. Its times are not looked at."""

import pytest
import torch

from benchmarks import packing
from benchmarks.stacked import Stacked, compare


def runs(network: str, count: int = 2) -> list:
    case = packing.Case(network, 4, "cpu")
    return [case.run(seed, torch.float64) for seed in range(count)]


def test_a_quick_benchmark_prints_a_row_for_each_way_and_writes_it(tmp_path, capsys):
    out, threads = tmp_path / "packing.md", torch.get_num_threads()
    small = ["--networks", "mlp", "--batch-sizes", "4", "--stacked", "2,4", "--steps", "4", "--repeats", "1"]
    assert packing.main([*small, "--out", str(out)]) == 0
    assert capsys.readouterr().out == out.read_text() + "\n"
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.read_text().splitlines()]
    ways = {row[2]: row for row in rows if row[:2] == ["mlp", "4"]}
    single = ["one process, one thread", "one process, two threads"]
    assert list(ways) == [*single, "2 processes", "2 stacked", "4 stacked"]
    assert ways[single[0]][4] == "1.00" and all(float(row[3]) > 0 for row in ways.values())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_stacked_runs_learn_what_separate_ones_learn(network):
    """Their statistics of BatchNorm too; and runs of different seeds move, each its own way."""
    given = runs(network)
    began = [{name: value.clone() for name, value in model.state_dict().items()} for _, model, _ in given]
    assert compare(given) < 1e-12  # float64
    ended = [model.state_dict() for _, model, _ in given]
    for before, after, other in zip(began, ended, reversed(ended), strict=True):
        for name, value in after.items():
            if name in ("0.mean", "0.std"):  # of the images
                continue
            assert not torch.equal(value, before[name]), name
            assert not torch.equal(value, other[name]) or name.endswith("num_batches_tracked"), name


def test_other_arithmetic_is_refused(monkeypatch):
    """A step without momentum, as its first one is."""
    step = Stacked.step

    def forgetful(self: Stacked, *given) -> None:
        self.optimizer.state.clear()
        step(self, *given)

    monkeypatch.setattr(Stacked, "step", forgetful)
    with pytest.raises(ArithmeticError, match=r"stacked runs differ from separate ones by \d.* wanted at most 1e-09"):
        compare(runs("mlp"))
