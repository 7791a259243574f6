"""The benchmark of AutoAttack compares equal results. Its times are not looked at."""

import pytest
import torch
from outcome_cases import limit_library

from benchmarks import autoattack as benchmark

SMALL = ["--networks", "mlp", "--images", "5", "--epochs", "1", "--repeats", "1"]


def test_a_quick_benchmark_prints_a_row_for_each_network_and_writes_it(tmp_path, capsys, monkeypatch):
    limit_library(monkeypatch, queries=20, steps=5)
    out, threads = tmp_path / "table.md", torch.get_num_threads()
    assert benchmark.main([*SMALL, "--out", str(out)]) == 0
    assert capsys.readouterr().out == out.read_text(encoding="utf-8") + "\n"
    (row,) = [line.split("|") for line in out.read_text(encoding="utf-8").splitlines() if line.startswith("| mlp")]
    accuracy, library, ours, ratio = map(float, row[2:6])
    assert 0 <= accuracy <= 1 and library > 0 and ours > 0 and ratio > 0 and len(row) == 11
    assert torch.get_num_threads() == threads


def test_another_result_is_refused(monkeypatch):
    limit_library(monkeypatch, queries=20, steps=5)
    monkeypatch.setattr(benchmark, "library", lambda model, x, y: x)
    with pytest.raises(ArithmeticError, match="found other images than the library's own"):
        benchmark.main(SMALL)
