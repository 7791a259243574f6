"""A run on disk: its files, its record, collapse, and the commands `data` and `train`."""

import json

import pytest
import torch
from planted import make_plan
from safetensors.torch import load_file
from small_runs import CPU, read_log, same_weights, train
from torch import nn

import robustgap.training.jobs.run
from robustgap.training import loop
from robustgap.training.__main__ import main
from robustgap.training.attacks import EVALUATION_START, pgd, start
from robustgap.training.checkpoint import file_digest, read_json, write_json
from robustgap.training.data.datasets import load
from robustgap.training.jobs.pseudo_labels import load_extra, pseudo_label
from robustgap.training.jobs.run import check_collapse
from robustgap.training.networks.architectures import build
from robustgap.training.schedules import first_drop
from robustgap.training.settings import DAMAGED


@pytest.fixture(scope="module")
def at_run(tmp_path_factory):
    """One AT run with AWP and its folder."""
    return train(tmp_path_factory.mktemp("at"), defense="AT", awp=True)


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
    assert record["files"] == {p.name: file_digest(p) for p in folder.iterdir() if p.name != "run.json"}
    assert record["run"] == folder.name and record["status"] == "finished" and record["epochs"] == 3
    assert {"torch", "numpy", "safetensors"} == set(record["packages"]) and record["seconds"] > 0 and record["device"]
    log = read_log(folder)
    assert list(log[0]) == [
        "epoch", "lr", "train_loss", "train_clean", "train_robust", "val_clean", "val_robust", "val_fgsm",
        "catastrophic", "seconds"
    ]  # fmt: skip
    assert [row["epoch"] for row in log] == ["1", "2", "3"]


def test_log_best_and_last_agree(at_run):
    """best_epoch is the last maximum of the log after the drop; the files hold the weights of the logged scores."""
    folder, record = at_run
    log = read_log(folder)
    robust = {
        int(row["epoch"]): float(row["val_robust"]) for row in log if int(row["epoch"]) > first_drop(record["settings"])
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
    for name, damage, message in (
        ("last.safetensors", kept[: len(kept) // 2], "missing or not the file that training wrote"),
        ("log.csv", (folder / "log.csv").read_bytes()[:-5], "missing or not the file that training wrote"),
        ("run.json", (folder / "run.json").read_bytes()[:-50], "not valid JSON"),
        ("run.json", b"\xff{}", "not valid JSON ('utf-8' codec"),
        ("run.json", b"[]", "found a JSON list, wanted the record of a run"),
        ("run.json", b"{}", "found status None, wanted the record of a run"),
    ):
        (folder / name).write_bytes(damage)
        train(tmp_path, defense="AT", awp=True)
        said = capsys.readouterr().err
        assert f"{folder / name}: {message}" in said and f"training run {folder.name} again" in said
        assert (folder / "last.safetensors").read_bytes() == kept


def test_a_run_of_a_version_that_did_not_list_its_log_is_finished_while_the_log_is_whole(tmp_path, monkeypatch, capsys):
    folder, record = train(tmp_path)
    del record["files"]["log.csv"]
    write_json(folder / "run.json", record)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train", None)  # calling it would fail
        assert train(tmp_path)[1] == record
    log = (folder / "log.csv").read_text()
    for broken, message in (
        (log[: log.rindex("\n", 0, -1) + 1], "found 2 epochs, wanted 3"),
        (log[:-20], "not a compl"),
    ):
        (folder / "log.csv").write_text(broken)
        assert "log.csv" in train(tmp_path)[1]["files"]
        assert f"{folder / 'log.csv'}: {message}" in capsys.readouterr().err
        write_json(folder / "run.json", record)


def test_a_log_damaged_after_the_last_epoch_is_written_again_before_it_is_listed(tmp_path, monkeypatch):
    """The job was killed between the last sidecar and run.json, and the disk lost the log."""
    whole, _ = train(tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(robustgap.training.jobs.run, "check_collapse", interrupt)
        train(tmp_path)
    folder = tmp_path / whole.name
    lines = len(read_log(folder))
    (folder / "log.csv").write_text("epoch,")
    record = train(tmp_path)[1]
    assert len(read_log(folder)) == lines == 3 and record["files"]["log.csv"] == file_digest(folder / "log.csv")


def interrupt(*given):
    raise KeyboardInterrupt


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
    assert idle["status"] == "collapsed" and idle["reason"].endswith("is not above chance (0.140)")  # lr = 0
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
    """0.1 + 3 sqrt(0.1 0.9 / 500) = 0.14025: 70 right images of 500 are not above it, 71 are."""
    splits = load("digits")
    accuracy, reason = check_collapse(Answers(splits.train.labels, 70), splits)
    assert accuracy == 70 / 500 and reason == "final clean training accuracy 0.140 is not above chance (0.140)"
    assert check_collapse(Answers(splits.train.labels, 71), splits) == (71 / 500, "")


def test_the_command_line_in_order(tmp_path, capsys):
    """data, then train with pseudo-labelled images; without the labels it refuses to train."""
    plan = make_plan([{"defense": "Standard", "extra_data": "pool"}])
    (run,) = plan["runs"]
    (tmp_path / "plan.json").write_text(json.dumps(plan))

    def command(stage, out, *more):
        given = [stage, "--plan", tmp_path / "plan.json", "--results", tmp_path, "--out", tmp_path / out, *more]
        return main([*map(str, given), "--device", "cpu"])

    assert command("train", "runs/000.json", "--batch", "000") == 1
    wanted = f"error: {tmp_path}/data/extra.safetensors: not found: run again, and it is made anew"
    assert capsys.readouterr().err.splitlines()[-1] == wanted
    assert command("data", "data/splits.json") == 0
    splits = load("digits")
    record = read_json(tmp_path / "data" / "splits.json")
    assert record == splits.record()
    assert (splits.extra.labels == -1).all()  # the true labels are nowhere to be read
    extra = load_extra(tmp_path / "data" / "extra.safetensors", splits)
    from sklearn.datasets import load_digits

    truth = torch.from_numpy(load_digits().target)[splits.extra.index]
    assert float((extra.labels == truth).double().mean()) > 0.9
    labels = tmp_path / "data" / "extra.safetensors"
    whole = labels.read_bytes()
    labels.write_bytes(whole[:-800] + bytes(800))
    assert command("train", "runs/000.json", "--batch", "000") == 1
    assert "SHA-256 of the content found" in capsys.readouterr().err
    assert (tmp_path / "data" / "splits.json").stat().st_mtime == DAMAGED  # so the data job will run again
    labels.write_bytes(whole)
    assert command("train", "runs/000.json", "--batch", "000") == 0
    assert read_json(tmp_path / "runs" / run / "run.json")["status"] == "finished"
    assert command("train", "runs/001.json", "--batch", "001") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: batch '001' is not in the plan of study planted"


def test_pseudo_labels_need_a_pool():
    splits = load("digits")
    without = type(splits)(**{**vars(splits), "extra": None})
    with pytest.raises(ValueError, match="extra_data: found pool, but data set digits has no extra images"):
        pseudo_label(without, CPU)
