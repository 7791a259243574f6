"""Catastrophic overfitting is seen in the log, flagged in the record and listed among the issues."""

import json
import math

import pytest
from oracles import EPS, draw, images, labels, linear
from small_runs import interrupted, read_log, same_weights, settings_of, train

from robustgap.analysis.words import FLAGS
from robustgap.training import loop
from robustgap.training.checkpoint import load_tensors, save_tensors
from robustgap.training.checkpoint import read_log as read_numbers
from robustgap.training.epoch_scores import fgsm_accuracy
from robustgap.training.overfitting import FLAG, catastrophic


def log_of(*scores):
    """Lines with these PGD and FGSM accuracies."""
    return [{"val_robust": robust, "val_fgsm": fgsm} for robust, fgsm in scores]


@pytest.mark.parametrize(
    "scores, holds",
    [
        ([(0.30, 0.40), (0.40, 0.50), (0.02, 0.90)], True),
        # FGSM accuracy falls as well, so gradients are not masked; by 3 sqrt((0.25 + f (1 - f)) / 100) counts as none
        ([(0.30, 0.40), (0.40, 0.50), (0.02, 0.29)], False),
        ([(0.30, 0.40), (0.40, 0.50), (0.02, 0.31)], True),
        ([(0.30, 0.40), (0.40, 0.50), (0.21, 0.90)], False),  # more than half is left
        ([(0.30, 0.40), (0.40, 0.50), (0.19, 0.50)], True),
        ([(0.40, 0.50), (0.02, 0.90), (0.03, 0.95)], True),  # the peak is remembered
        ([(0.40, 0.50), (0.02, 0.90), (0.39, 0.50)], False),  # it came back
        ([(0.12, 0.12), (0.00, 0.20)], False),  # 100 images, 10 classes: chance ends at 0.19
        ([(0.02, 0.90)], False),  # nothing to fall from
    ],
)
def test_it_is_a_fall_under_many_steps_that_one_step_does_not_see(scores, holds):
    assert catastrophic(log_of(*scores), images=100, classes=10) is holds


def test_a_fall_counts_where_the_draw_of_images_does_not_explain_it():
    """p* = 0.6, p = 0.2: 0.4 against 3 sqrt((0.24 + 0.16) / n), which is 0.4 at n = 22.5."""
    scores = log_of((0.6, 0.7), (0.2, 0.8))
    assert not catastrophic(scores, images=22, classes=10) and catastrophic(scores, images=23, classes=10)


def test_fgsm_accuracy_on_a_linear_model():
    """From x one step of eps lowers the margin of y against k by eps ||w_y - w_k||_1 for two classes."""
    weight, x, y = draw(2, 16, seed=0), images(600), labels(600, 2)
    margin = (x.flatten(1) @ (weight[0] - weight[1])) * (1 - 2 * y)
    expected = float((margin > EPS * (weight[0] - weight[1]).abs().sum()).double().mean())
    assert 0.1 < expected < 0.9
    assert fgsm_accuracy(linear(weight), x, y, settings_of(eps=str(EPS))) == pytest.approx(expected)


def scripted(monkeypatch, tmp_path, scores, **given):
    """Train a small run whose validation scores are said to be `scores` (PGD, FGSM)."""
    said = iter(log_of(*scores))
    others = {"train_clean": 1.0, "train_robust": 0.5, "val_clean": 0.9}
    monkeypatch.setattr(loop, "epoch_scores", lambda *_: {**others, **next(said)})
    return train(tmp_path, epochs=len(scores), **given)


def test_a_run_that_shows_it_is_flagged_and_not_called_collapsed(tmp_path, monkeypatch, capsys):
    scores = [(0.4, 0.5), (0.4, 0.5), (0.01, 0.95), (0.0, 0.99)]
    folder, record = scripted(monkeypatch, tmp_path, scores, defense="FGSM-RS")
    assert [row["catastrophic"] for row in read_log(folder)] == ["0", "0", "1", "1"]
    assert FLAG in record["flags"] and FLAG in FLAGS and record["status"] == "finished"
    assert capsys.readouterr().err.count(", catastrophic overfitting") == 2
    folder, record = scripted(monkeypatch, tmp_path, scores, defense="Standard")  # promises nothing under attack
    assert FLAG not in record["flags"] and {row["catastrophic"] for row in read_log(folder)} == {"0"}


def test_a_run_begun_before_fgsm_was_looked_at_goes_on(tmp_path, monkeypatch):
    unbroken, _ = train(tmp_path / "unbroken")
    folder = interrupted(tmp_path, monkeypatch, 1)
    sidecar = folder / "resume.safetensors"
    tensors, metadata = load_tensors(sidecar)
    progress = json.loads(metadata["progress"])
    for row in progress["log"]:
        del row["val_fgsm"], row["catastrophic"]
    save_tensors(sidecar, tensors, **{**metadata, "progress": json.dumps(progress)})
    train(tmp_path)
    assert same_weights(folder, unbroken)
    seen = [row["val_fgsm"] for row in read_numbers(folder / "log.csv")]
    assert math.isnan(seen[0]) and all(map(math.isfinite, seen[1:]))
