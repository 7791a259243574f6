"""The average of the weights against closed forms, and which weights a run attacks, judges and leaves."""

import math

import pytest
import torch
from safetensors.torch import load_file
from small_runs import CPU, interrupted, read_log, same_weights, settings_of, train, without_seconds
from torch import nn

from robustgap.training.carried_state import begin
from robustgap.training.data.batches import batches
from robustgap.training.data.datasets import load
from robustgap.training.ema import decay_after, holding, update
from robustgap.training.epoch_scores import epoch_scores
from robustgap.training.jobs.run import check_collapse, make_optimizer
from robustgap.training.networks.architectures import build
from robustgap.training.schedules import learning_rate
from robustgap.training.step import train_step


class Scalar(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(value, dtype=torch.float64))


def test_of_a_geometric_sequence():
    """w_t = r^t: d^T + (1 - d) r (r^T - d^T) / (r - d); a decay of at most 1/10 is never held back."""
    d, r, model = 0.08, 1.3, Scalar(1.0)
    carried = begin(settings_of(ema_decay=d), model, load("digits"))
    for t in range(1, 13):
        with torch.no_grad():
            model.w.mul_(r)
        carried.after_step(model, settings_of(ema_decay=d), t - 1)
        assert float(carried.average["w"]) == pytest.approx(d**t + (1 - d) * r * (r**t - d**t) / (r - d), rel=1e-12)


def test_the_beginning_is_forgotten_fast_however_large_the_decay():
    """From 0 to constant 1: what is left of the beginning is prod (1 + t) / (10 + t) = T! 9! / (T + 9)!."""
    model = Scalar(0.0)
    settings = settings_of(ema_decay=0.9999)
    carried = begin(settings, model, load("digits"))
    with torch.no_grad():
        model.w.fill_(1.0)
    for t in range(20):
        carried.after_step(model, settings, t)
    left = math.factorial(20) * math.factorial(9) / math.factorial(29)
    assert 1 - float(carried.average["w"]) == pytest.approx(left, rel=1e-9)
    assert [decay_after(0.5, t) for t in (0, 8, 9)] == [0.1, 0.5, 0.5]


def test_batchnorm_statistics_are_averaged_and_counters_copied():
    model = nn.BatchNorm1d(2)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    model.running_mean.fill_(4.0), model.running_var.fill_(3.0), model.num_batches_tracked.fill_(7)
    update(average, model, 0.75)
    assert average["running_mean"].tolist() == [1.0, 1.0] and average["running_var"].tolist() == [1.5, 1.5]
    assert int(average["num_batches_tracked"]) == 7


def test_a_model_holds_other_weights_for_a_while():
    model = nn.Linear(2, 1)
    own, other = ({k: v.clone() for k, v in m.state_dict().items()} for m in (model, nn.Linear(2, 1)))
    with pytest.raises(ZeroDivisionError), holding(model, other):
        assert torch.equal(model.weight, other["weight"])
        raise ZeroDivisionError
    assert torch.equal(model.weight, own["weight"]) and torch.equal(model.bias, own["bias"])


def replayed(tmp_path, decay):
    """A finished run with this decay; and, from a training without, the average of its steps computed here."""
    folder, record = train(tmp_path, ema_decay=decay)
    splits, settings, weights = load("digits"), settings_of(), []
    model = build(settings, splits)
    average = {k: v.double() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    optimizer, steps = make_optimizer(model, settings), 0
    for epoch in range(3):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, epoch)
        for batch in batches(settings, splits, None, epoch, CPU):
            train_step(model, optimizer, batch, settings, epoch)
            d = min(decay, (1 + steps) / (10 + steps))
            average = {k: d * a + (1 - d) * model.state_dict()[k] for k, a in average.items()}
            steps += 1
        weights.append({k: a.float() for k, a in average.items()})
    return folder, record, weights, build(settings, splits), splits


def test_both_checkpoints_and_the_log_are_of_the_average_and_the_steps_are_not(tmp_path):
    folder, record, epochs, model, splits = replayed(tmp_path, 0.9)
    last, best = load_file(folder / "last.safetensors"), load_file(folder / "best.safetensors")
    for name, value in last.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, epochs[-1][name], rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(best[name], epochs[record["best_epoch"] - 1][name], rtol=1e-4, atol=1e-6)
    model.load_state_dict(last)
    assert check_collapse(model, splits)[0] == record["accuracy"]["train_clean"]
    scores = epoch_scores(model, splits, record["settings"])
    assert {key: str(value) for key, value in scores.items()}.items() <= read_log(folder)[-1].items()
    plain, _ = train(tmp_path)
    assert not same_weights(plain, folder)
    losses = [[row["train_loss"] for row in read_log(run)] for run in (plain, folder)]
    assert losses[0] == losses[1]  # the average is looked at, and changes no step


@pytest.mark.parametrize("given", [{}, {"defense": "FreeAT", "free_replays": 3, "sam": "ASAM", "schedule": "cosine"}])
def test_it_resumes_to_the_same_weights(given, tmp_path, monkeypatch):
    given = {"ema_decay": 0.95, **given}
    unbroken, _ = train(tmp_path / "unbroken", **given)
    for _ in range(2):
        interrupted(tmp_path, monkeypatch, 1, **given)
    resumed, _ = train(tmp_path, **given)
    assert same_weights(unbroken, resumed) and without_seconds(unbroken) == without_seconds(resumed)


def test_a_collapsed_run_is_one_with_an_average_too(tmp_path):
    folder, record = train(tmp_path, lr=1e6, ema_decay=0.9)
    assert record["status"] == "collapsed" and record["reason"].startswith("training loss ")
    assert (folder / "best.safetensors").exists()
