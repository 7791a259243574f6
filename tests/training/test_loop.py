"""The loop: learning rates, batches with and without extra images, and which epoch is `best`."""

import pytest
import torch
from small_runs import CPU, settings_of

from robustgap.training import loop
from robustgap.training.data.batches import batches
from robustgap.training.data.datasets import load
from robustgap.training.data.splits import Split
from robustgap.training.jobs.run import make_optimizer
from robustgap.training.networks.architectures import build
from robustgap.training.schedules import first_drop, learning_rate


def test_learning_rate_falls_at_a_half_and_three_quarters():
    rates = [learning_rate(settings_of(epochs=200, lr=0.1), epoch) for epoch in range(200)]
    assert rates == pytest.approx([0.1] * 100 + [0.01] * 50 + [0.001] * 50)
    odd = [learning_rate(settings_of(epochs=5, lr=1.0), epoch) for epoch in range(5)]
    assert odd == pytest.approx([1.0, 1.0, 1.0, 0.1, 0.01])
    for epochs in range(2, 40):  # the first epoch trained with the dropped rate is the first that can be `best`
        settings = settings_of(epochs=epochs, lr=1.0)
        assert learning_rate(settings, first_drop(settings)) < 1.0
        assert learning_rate(settings, first_drop(settings) - 1) == 1.0


def test_an_epoch_shows_every_labelled_image_once_in_an_order_of_its_own():
    splits, settings = load("digits"), settings_of(batch_size=64)
    first, second = (list(batches(settings, splits, None, epoch, CPU)) for epoch in (0, 1))
    assert [len(batch.y) for batch in first] == [64] * 7 + [52]
    seen = torch.cat([batch.index for batch in first])
    assert torch.equal(seen.sort().values, splits.train.index.sort().values)
    assert not torch.equal(seen, torch.cat([batch.index for batch in second]))
    where = {int(i): row for row, i in enumerate(splits.train.index)}
    for batch in first:
        rows = torch.tensor([where[int(i)] for i in batch.index])
        assert torch.equal(batch.y, splits.train.labels[rows])
        assert torch.equal(batch.x, splits.floats(splits.train.images[rows]))
    other = next(batches(settings_of(batch_size=64, seed=1), splits, None, 0, CPU))
    assert not torch.equal(other.index, first[0].index)


def test_extra_images_are_half_of_each_batch():
    splits, settings = load("digits"), settings_of(batch_size=32, extra_data="pool")
    extra = Split(splits.extra.images, torch.arange(300) % 10, splits.extra.index)
    seen, shown = [], []
    for batch in batches(settings, splits, extra, 0, CPU):
        labelled = torch.isin(batch.index, splits.train.index)
        assert torch.isin(batch.index[~labelled], splits.extra.index).all()
        assert 2 * labelled.sum() == len(batch.y)  # the shorter last one too
        seen.append(batch.index[labelled])
        shown.append(batch.index[~labelled])
        where = {int(i): row for row, i in enumerate(extra.index)}
        rows = torch.tensor([where[int(i)] for i in batch.index[~labelled]])
        assert torch.equal(batch.y[~labelled], extra.labels[rows])
    assert torch.equal(torch.cat(seen).sort().values, splits.train.index.sort().values)
    times = torch.bincount(torch.cat(shown), minlength=1797)[splits.extra.index]
    assert times.min() >= 1 and times.max() <= 2  # 512 draws from a pool of 300, cycled through


def scripted(monkeypatch, scores, **given):
    """Train for real on a few images, while the validation scores are `scores`; best weights, those of every epoch,
    and the progress."""
    splits = load("digits")
    few = Split(*(part[:40] for part in (splits.train.images, splits.train.labels, splits.train.index)))
    splits = type(splits)(**{**vars(splits), "train": few})
    settings = settings_of(epochs=len(scores), batch_size=20, **given)
    said = iter(scores)
    others = {"train_clean": 0, "train_robust": 0, "val_fgsm": 0}
    monkeypatch.setattr(loop, "epoch_scores", lambda *_: {**others, **next(said)})
    model, progress, epochs = build(settings, splits), loop.Progress(), []

    def after_epoch(best):
        epochs.append({key: value.clone() for key, value in model.state_dict().items()})

    best = loop.train(model, make_optimizer(model, settings), splits, None, settings, progress, None, after_epoch)
    return best, epochs, progress


@pytest.mark.parametrize(
    "defense, robust, clean, epoch",
    [
        ("AT", [0.9, 0.9, 0.9, 0.5, 0.7, 0.6], [0.5] * 6, 5),
        ("AT", [0.9, 0.9, 0.9, 0.7, 0.6, 0.7], [0.5] * 6, 6),  # a tie goes to the later epoch
        ("AT", [0.1, 0.1, 0.1, 0.7, 0.6, 0.6], [0.9] * 6, 4),  # the first epoch after the drop counts
        ("AT", [0.9, 0.9, 0.9, 0.0, 0.0, 0.0], [0.9] * 6, 6),
        ("Standard", [0.1, 0.1, 0.1, 0.9, 0.0, 0.0], [0.1, 0.1, 0.1, 0.5, 0.8, 0.6], 5),  # by clean accuracy
    ],
)
def test_best_is_the_best_epoch_after_the_first_drop(defense, robust, clean, epoch, monkeypatch):
    scores = [{"val_robust": r, "val_clean": c} for r, c in zip(robust, clean, strict=True)]
    best, epochs, progress = scripted(monkeypatch, scores, defense=defense)
    assert progress.best_epoch == epoch
    assert all(torch.equal(value, epochs[epoch - 1][key]) for key, value in best.items())
    assert any(not torch.equal(value, epochs[epoch - 2][key]) for key, value in best.items())
