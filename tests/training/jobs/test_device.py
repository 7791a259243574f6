"""Which device a job computes on, and that a GPU which was given and cannot be used is not passed over in silence."""

import pytest
import torch

from robustgap.training.jobs.device import pick_device


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("given", ["0", "3,1", "GPU-8f3e2a1c", "MIG-1/2/0"])
def test_a_gpu_that_was_given_and_is_not_found_is_one_line(given, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert pick_device() == torch.device("cpu")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: found no GPU, though CUDA_VISIBLE_DEVICES is {given}: CPU used (torch ")


@pytest.mark.parametrize("given", [None, "", "-1", "NoDevFiles"])
def test_where_none_was_given_nothing_is_said(given, monkeypatch, capsys):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert pick_device() == torch.device("cpu") and not capsys.readouterr().err


def test_a_named_device_is_taken_at_its_word(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert pick_device("cpu") == torch.device("cpu") and not capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device() == torch.device("cuda") and not capsys.readouterr().err
