"""Training: schedule, batches, `best` and `last`, resume after SIGKILL, collapse, pseudo-labelled data."""

import csv
import json
import signal
import subprocess
import sys

import pytest
import torch
from planted import make_plan
from safetensors.torch import load_file
from torch import nn

from training import loop
from training.__main__ import main
from training.architectures import build
from training.attacks import EVALUATION_START, pgd, start
from training.checkpoint import read_json
from training.data import Split, load
from training.extra import load_extra, pseudo_label
from training.run import judge, make_optimizer, train_run
from training.settings import complete, run_id

CPU = torch.device("cpu")


def settings_of(**given):
    base = {"data": "digits", "architecture": "cnn", "width": 4, "eps": "1/10", "inner_steps": 1, "epochs": 3}
    return complete({**base, "augmentation": "none", **given})


def train(tmp_path, **given):
    """Train a small run; its folder and record."""
    settings = settings_of(**given)
    folder = tmp_path / run_id(settings)
    return folder, train_run(settings, load("digits"), None, folder, CPU)


def test_learning_rate_falls_at_a_half_and_three_quarters():
    rates = [loop.learning_rate(settings_of(epochs=200, lr=0.1), epoch) for epoch in range(200)]
    assert rates == pytest.approx([0.1] * 100 + [0.01] * 50 + [0.001] * 50)
    odd = [loop.learning_rate(settings_of(epochs=5, lr=1.0), epoch) for epoch in range(5)]
    assert odd == pytest.approx([1.0, 1.0, 1.0, 0.1, 0.01])
    for epochs in range(2, 40):  # the first epoch trained with the dropped rate is the first that can be `best`
        settings = settings_of(epochs=epochs, lr=1.0)
        assert loop.learning_rate(settings, loop.first_drop(settings)) < 1.0
        assert loop.learning_rate(settings, loop.first_drop(settings) - 1) == 1.0


def test_an_epoch_shows_every_labelled_image_once_in_an_order_of_its_own():
    splits, settings = load("digits"), settings_of(batch_size=64)
    first, second = (list(loop.batches(settings, splits, None, epoch, CPU)) for epoch in (0, 1))
    assert [len(batch.y) for batch in first] == [64] * 10 + [60]
    seen = torch.cat([batch.index for batch in first])
    assert torch.equal(seen.sort().values, splits.train.index.sort().values)
    assert not torch.equal(seen, torch.cat([batch.index for batch in second]))
    where = {int(i): row for row, i in enumerate(splits.train.index)}
    for batch in first:
        rows = torch.tensor([where[int(i)] for i in batch.index])
        assert torch.equal(batch.y, splits.train.labels[rows])
        assert torch.equal(batch.x, splits.floats(splits.train.images[rows]))
    other = next(loop.batches(settings_of(batch_size=64, seed=1), splits, None, 0, CPU))
    assert not torch.equal(other.index, first[0].index)


def test_extra_images_are_half_of_each_batch():
    splits, settings = load("digits"), settings_of(batch_size=32, extra_data="pool")
    extra = Split(splits.extra.images, torch.arange(300) % 10, splits.extra.index)
    seen, shown = [], []
    for batch in loop.batches(settings, splits, extra, 0, CPU):
        labelled = torch.isin(batch.index, splits.train.index)
        assert torch.isin(batch.index[~labelled], splits.extra.index).all()
        assert len(batch.y) < 32 or labelled.sum() == 16
        seen.append(batch.index[labelled])
        shown.append(batch.index[~labelled])
        where = {int(i): row for row, i in enumerate(extra.index)}
        rows = torch.tensor([where[int(i)] for i in batch.index[~labelled]])
        assert torch.equal(batch.y[~labelled], extra.labels[rows])
    assert torch.equal(torch.cat(seen).sort().values, splits.train.index.sort().values)
    times = torch.bincount(torch.cat(shown), minlength=1797)[splits.extra.index]
    assert times.min() >= 2 and times.max() <= 3  # 704 draws from a pool of 300, cycled through


def scripted(monkeypatch, scores, **given):
    """Train for real on a few images, while the validation scores are `scores`; best weights, those of every epoch,
    and the progress."""
    splits = load("digits")
    few = Split(*(part[:40] for part in (splits.train.images, splits.train.labels, splits.train.index)))
    splits = type(splits)(**{**vars(splits), "train": few})
    settings = settings_of(epochs=len(scores), batch_size=20, **given)
    said = iter(scores)
    monkeypatch.setattr(loop, "epoch_scores", lambda *_: {"train_clean": 0, "train_robust": 0, **next(said)})
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


@pytest.fixture(scope="module")
def at_run(tmp_path_factory):
    """One AT run with AWP and its folder."""
    return train(tmp_path_factory.mktemp("at"), defense="AT", awp=True)


def read_log(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_what_a_run_leaves(at_run):
    folder, record = at_run
    assert {path.name for path in folder.iterdir()} == {
        "run.json",
        "log.csv",
        "init.safetensors",
        "last.safetensors",
        "best.safetensors",
    }
    assert read_json(folder / "run.json") == record
    assert record["run"] == folder.name and record["status"] == "finished" and record["epochs"] == 3
    assert {"torch", "numpy", "safetensors"} == set(record["packages"]) and record["seconds"] > 0 and record["device"]
    log = read_log(folder)
    assert list(log[0]) == [
        "epoch", "lr", "train_loss", "train_clean", "train_robust", "val_clean", "val_robust", "seconds"
    ]  # fmt: skip
    assert [row["epoch"] for row in log] == ["1", "2", "3"]


def test_log_best_and_last_agree(at_run):
    """best_epoch is the last maximum of the log after the drop; the files hold the weights of the logged scores."""
    folder, record = at_run
    log = read_log(folder)
    robust = {
        int(row["epoch"]): float(row["val_robust"])
        for row in log
        if int(row["epoch"]) > loop.first_drop(record["settings"])
    }
    expected = max(epoch for epoch, score in robust.items() if score == max(robust.values()))
    assert record["best_epoch"] == expected
    assert record["flags"] == (["best_is_last"] if expected == 3 else [])
    splits = load("digits")
    x, y, index = splits.floats(splits.val.images), splits.val.labels, splits.val.index
    for name, epoch in (("last", 3), ("best", expected)):
        model = build(record["settings"], splits).eval()
        model.load_state_dict(load_file(folder / f"{name}.safetensors"))
        noise = start(x, index, seed=0, eps=0.1, norm="Linf", stream=EVALUATION_START)
        x_adv = pgd(model, x, y, eps=0.1, noise=noise)
        assert float((model(x).argmax(1) == y).double().mean()) == pytest.approx(float(log[epoch - 1]["val_clean"]))
        assert float((model(x_adv).argmax(1) == y).double().mean()) == pytest.approx(robust[epoch])


def test_init_is_the_network_before_training(at_run):
    folder, record = at_run
    init = load_file(folder / "init.safetensors")
    fresh = build(record["settings"], load("digits")).state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in init.items())
    last = load_file(folder / "last.safetensors")
    assert not torch.equal(init["1.5.weight"], last["1.5.weight"])


def same_weights(a, b):
    return all((a / f"{c}.safetensors").read_bytes() == (b / f"{c}.safetensors").read_bytes() for c in ("last", "best"))


def test_the_same_settings_give_the_same_weights_and_seeds_differ(at_run, tmp_path):
    again, _ = train(tmp_path, defense="AT", awp=True)
    other, _ = train(tmp_path, defense="AT", awp=True, seed=1)
    assert same_weights(at_run[0], again) and not same_weights(at_run[0], other)


def test_a_finished_run_is_left_alone_and_a_damaged_one_trained_again(at_run, tmp_path, monkeypatch, capsys):
    folder, record = train(tmp_path, defense="AT", awp=True)
    kept = (folder / "last.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", None)  # calling it would fail
        assert train(tmp_path, defense="AT", awp=True)[1] == record
    (folder / "last.safetensors").write_bytes(kept[: len(kept) // 2])
    train(tmp_path, defense="AT", awp=True)
    assert "last.safetensors: missing or not the file that training wrote" in capsys.readouterr().err
    assert (folder / "last.safetensors").read_bytes() == kept


# Trains the runs of a plan in children that kill themselves with SIGKILL at given moments, then in one that does not.
# step: inside training step n; write: in the middle of writing file n; replace: before file n gets its name.
KILLED = """
import json, os, pathlib, signal, sys
import torch
from training import loop
from training.__main__ import main

arguments, moments = sys.argv[1:-1], json.loads(sys.argv[-1])

def die_at(kind, count):
    seen = [0]
    def due():
        seen[0] += 1
        return seen[0] == count
    def die():
        os.kill(os.getpid(), signal.SIGKILL)
    step, replace, write = loop.train_step, os.replace, pathlib.Path.write_bytes
    if kind == "step":
        loop.train_step = lambda *given: (die() if due() else None, step(*given))[1]
    if kind == "replace":
        os.replace = lambda *given: (die() if due() else None, replace(*given))[1]
    if kind == "write":
        def half(path, content):
            if due():
                write(path, content[: len(content) // 2])
                die()
            return write(path, content)
        pathlib.Path.write_bytes = half

# The first step of an optimizer imports half of torch; done before forking, it is not done in every child.
torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1).step()
ends = []
for moment in [*moments, None]:
    child = os.fork()
    if child == 0:
        if moment:
            die_at(*moment)
        os._exit(main(arguments))
    status = os.waitpid(child, 0)[1]
    ends.append(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
print(json.dumps(ends))
"""


def without_seconds(folder):
    record = read_json(folder / "run.json")
    del record["seconds"]
    return record, [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(folder)]


def test_killed_at_any_moment_a_run_ends_bit_for_bit_as_if_unbroken(at_run, tmp_path):
    """700 images in batches of 128: 6 steps and 2 files (log, sidecar) an epoch, init before and three files after."""
    plan = make_plan([{"defense": "AT", "awp": True, "width": 4, "inner_steps": 1, "epochs": 3}])
    (run,) = plan["runs"]
    assert run == at_run[0].name
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    out = tmp_path / "runs" / "000.json"
    arguments = ["train", "--plan", tmp_path / "plan.json", "--batch", "000", "--results", tmp_path, "--out", out]
    moments = [
        ["write", 1],  # init half written
        ["step", 3],  # in the first epoch: nothing to resume yet
        ["replace", 3],  # the first sidecar written, but not in place
        ["step", 8],  # in the second epoch
        ["write", 5],  # resumed after the first; the log of the third is written, its sidecar half
        ["write", 4],  # resumed after the second; last half written
        ["replace", 4],  # all weights there, run.json not in place
    ]
    command = [sys.executable, "-c", KILLED, *map(str, [*arguments, "--device", "cpu"]), json.dumps(moments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [-signal.SIGKILL] * len(moments) + [0], done.stderr
    assert done.stderr.count(f"{run}: resumed after epoch") >= 3
    folder = tmp_path / "runs" / run
    assert same_weights(folder, at_run[0])
    assert without_seconds(folder) == without_seconds(at_run[0])
    assert not (folder / "resume.safetensors").exists()
    assert read_json(out)["runs"][run]["files"] == at_run[1]["files"]


def interrupted(tmp_path, monkeypatch, epochs, **given):
    """Train until `epochs` are behind, then stop; the folder."""
    settings = settings_of(**given)
    folder, original = tmp_path / run_id(settings), loop.epoch_scores
    left = iter(range(epochs))

    def scores(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "epoch_scores", scores)
        train_run(settings, load("digits"), None, folder, CPU)
    return folder


def test_a_sidecar_that_is_damaged_or_anothers_is_refused_by_name(at_run, tmp_path, monkeypatch, capsys):
    folder = interrupted(tmp_path, monkeypatch, 2, defense="AT", awp=True)
    other = interrupted(tmp_path, monkeypatch, 1, defense="AT", awp=True, seed=1)
    sidecar = folder / "resume.safetensors"
    whole = sidecar.read_bytes()
    for content, message in (
        (whole[: len(whole) // 2], "not a complete safetensors file"),
        ((other / "resume.safetensors").read_bytes(), f"found run {other.name}"),
    ):
        sidecar.write_bytes(content)
        train(tmp_path, defense="AT", awp=True)
        said = capsys.readouterr().err
        assert f"{sidecar}: {message}" in said and f"run {folder.name} starts again" in said
        assert same_weights(folder, at_run[0])
        (folder / "run.json").unlink()


@pytest.mark.parametrize("defense", ["Standard", "TRADES", "MART"])
def test_every_defense_resumes_to_the_same_weights(defense, tmp_path, monkeypatch):
    given = {"defense": defense, "augmentation": "crop_flip", "batch_size": 256}
    unbroken, _ = train(tmp_path / "unbroken", **given)
    interrupted(tmp_path, monkeypatch, 2, **given)
    resumed, _ = train(tmp_path, **given)
    assert same_weights(unbroken, resumed) and without_seconds(unbroken) == without_seconds(resumed)


def test_a_collapsed_run_says_why_and_does_not_stop_the_others(tmp_path, capsys):
    plan = make_plan(
        [
            {"lr": 1e6, "inner_steps": 1},
            {"defense": "Standard", "seed": 1},
            {"defense": "Standard", "lr": 0.0, "seed": 4},
        ]
    )
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    out = tmp_path / "runs" / "000.json"
    arguments = ["train", "--plan", tmp_path / "plan.json", "--batch", "000", "--results", tmp_path, "--out", out]
    assert main([*map(str, arguments), "--device", "cpu"]) == 0
    wild, fine, idle = (read_json(tmp_path / "runs" / run / "run.json") for run in plan["runs"])
    assert wild["status"] == "collapsed" and wild["reason"].startswith("training loss ")
    assert any(word in wild["reason"] for word in ("nan", "inf"))
    assert fine["status"] == "finished" and fine["reason"] == ""
    assert idle["status"] == "collapsed" and idle["reason"].endswith("is not above chance (0.134)")  # lr = 0
    manifest = read_json(out)["runs"]
    assert [manifest[run]["status"] for run in plan["runs"]] == ["collapsed", "finished", "collapsed"]
    assert f"{wild['run']}: collapsed: {wild['reason']}" in capsys.readouterr().err
    for record in (wild, fine, idle):
        folder = tmp_path / "runs" / record["run"]
        assert not (folder / "resume.safetensors").exists() and (folder / "best.safetensors").exists()


class Answers(nn.Module):
    """Right on the first `count` images it is shown, wrong on all others."""

    def __init__(self, labels, count):
        super().__init__()
        right = torch.arange(len(labels)) < count
        self.answers = iter(torch.where(right, labels, (labels + 1) % 10))

    def forward(self, x):
        return torch.stack([torch.eye(10)[next(self.answers)] for _ in x])


def test_chance_is_one_in_k_and_three_standard_errors():
    """0.1 + 3 sqrt(0.1 0.9 / 700) = 0.13402: 93 right images of 700 are not above it, 94 are."""
    splits = load("digits")
    accuracy, reason = judge(Answers(splits.train.labels, 93), splits, CPU)
    assert accuracy == 93 / 700 and reason == "final clean training accuracy 0.133 is not above chance (0.134)"
    assert judge(Answers(splits.train.labels, 94), splits, CPU) == (94 / 700, "")


def test_the_command_line_in_order(tmp_path, capsys):
    """data, then train with pseudo-labelled images; without the labels it refuses to train."""
    plan = make_plan([{"defense": "Standard", "extra_data": "pool"}])
    (run,) = plan["runs"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))

    def command(stage, out, *more):
        given = [stage, "--plan", tmp_path / "plan.json", "--results", tmp_path, "--out", tmp_path / out, *more]
        return main([*map(str, given), "--device", "cpu"])

    assert command("train", "runs/000.json", "--batch", "000") == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {tmp_path}/data/extra.safetensors: not found"
    assert command("data", "data/splits.json") == 0
    splits = load("digits")
    record = read_json(tmp_path / "data" / "splits.json")
    assert record == splits.record()
    assert (splits.extra.labels == -1).all()  # the true labels are nowhere to be read
    extra = load_extra(tmp_path / "data" / "extra.safetensors", splits)
    from sklearn.datasets import load_digits

    truth = torch.from_numpy(load_digits().target)[splits.extra.index]
    assert float((extra.labels == truth).double().mean()) > 0.9
    assert command("train", "runs/000.json", "--batch", "000") == 0
    assert read_json(tmp_path / "runs" / run / "run.json")["status"] == "finished"
    assert command("train", "runs/001.json", "--batch", "001") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: batch '001' is not in the plan of study planted"


def test_pseudo_labels_need_a_pool():
    splits = load("digits")
    without = type(splits)(**{**vars(splits), "extra": None})
    with pytest.raises(ValueError, match="extra_data: found pool, but data set digits has no extra images"):
        pseudo_label(without, CPU)
