"""Outcomes as a job: what is kept per model, what is made again, collapsed and foreign models, errors of one line."""

import json

import pandas as pd
import pytest
import torch
from planted import judge, judged, make_plan, plant
from torch import nn

from robustgap.training.__main__ import main
from robustgap.training.checkpoint import FileFault
from robustgap.training.jobs import outcomes
from robustgap.training.jobs import plan as planned
from robustgap.training.jobs.frozen_images import cache_file, frozen_images, measure_batch
from robustgap.training.jobs.plan import load_planned_model

WONG = {"source": "robustbench", "name": "Wong2020Fast", "dataset": "cifar10", "threat": "Linf"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return judged(tmp_path_factory.mktemp("planted"))


def count_evaluations(monkeypatch):
    """How many models are evaluated from now on."""
    done, original = [], outcomes.evaluate_model

    def evaluate(model, *given):
        done.append(model)
        return original(model, *given)

    monkeypatch.setattr(outcomes, "evaluate_model", evaluate)
    return done


def test_an_interrupted_chunk_goes_on_where_it_stood(tmp_path, monkeypatch):
    plan = make_plan([{"seed": 0}, {"seed": 1}])
    for run in plan["runs"]:
        plant(plan, tmp_path, run)
    done = count_evaluations(monkeypatch)
    counted = outcomes.evaluate_model

    def interrupted(*given):
        if len(done) == 2:
            raise KeyboardInterrupt
        return counted(*given)

    monkeypatch.setattr(outcomes, "evaluate_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        judge(plan, tmp_path)
    assert not (tmp_path / "outcomes" / "000.parquet").exists() and len(done) == 2
    monkeypatch.setattr(outcomes, "evaluate_model", counted)
    table = judge(plan, tmp_path)
    assert len(done) == 8  # four models, under what all need and under FGSM
    again = judge(plan, tmp_path)
    assert len(done) == 8
    pd.testing.assert_frame_equal(again, table)


def test_a_damaged_cache_is_named_and_made_again(study, tmp_path, monkeypatch, capsys):
    plan, results, models, table = study
    done = count_evaluations(monkeypatch)
    name = next(iter(models))
    file = cache_file(plan, results, name)
    whole = file.read_bytes()
    silent = whole[:-40] + bytes(40)  # of full length: the last bits are 0 now
    for damage in (whole[: len(whole) // 2], b"", silent):
        file.write_bytes(damage)
        with pytest.raises(FileFault, match=file.name):
            measure_batch(plan, results, name)
        again = judge(plan, results, tmp_path / "again" / "000.parquet")
        assert file.name in capsys.readouterr().err
        pd.testing.assert_frame_equal(again.drop(columns="seconds"), table.drop(columns="seconds"))
    assert len(done) == 3


def test_the_cache_is_of_exactly_what_outcomes_depend_on(study):
    plan, results, models, _ = study
    name = next(iter(models))

    def file(**change):
        other = json.loads(json.dumps(plan))
        other["study"] |= change
        return cache_file(other, results, name).name

    wanted = plan["study"]["outcomes"]
    assert file() == file(outcomes={**wanted, "batch_size": 7}) == file(measures=["average_ce"])
    changes = [
        {"eps": "1/20"},
        {"norm": "L2"},
        {"measure_images": 21},
        {"outcomes": {**wanted, "train_images": 61}},
        {"outcomes": {**wanted, "test_images": 46}},
    ]
    assert file() == file(outcomes={**wanted, "attacks": ["clean", "pgd10"]})  # another outcome has another cache
    assert len({file(), *(file(**change) for change in changes)}) == len(changes) + 1
    assert len({cache_file(plan, results, other).name.split(".")[1] for other in models}) == 4


def test_collapsed_runs_have_no_rows(tmp_path, capsys):
    plan = make_plan([{"seed": 0}, {"seed": 1}])
    gone, kept = plan["runs"]
    plant(plan, tmp_path, gone, status="collapsed")
    plant(plan, tmp_path, kept)
    assert set(judge(plan, tmp_path).model) == {f"{kept}-last", f"{kept}-best"}
    assert f"model 1 of 4: {gone}-last its run collapsed" in capsys.readouterr().err


def test_a_chunk_of_collapsed_runs_alone_gives_an_empty_table(tmp_path):
    plan = make_plan([{"seed": 0}])
    plant(plan, tmp_path, *plan["runs"], status="collapsed")
    table = judge(plan, tmp_path)
    assert len(table) == 0 and "accuracy" in table.columns


@pytest.mark.parametrize(
    "change, message",
    [
        ({"measure_images": 61}, "measure_images: found 61, wanted 1 to 60"),
        (
            {"outcomes": {"attacks": ["clean"], "train_images": 501}},
            "outcomes.train_images: found 501, wanted 1 to 500",
        ),
        ({"data": "digitz"}, "data set 'digitz' is unknown; did you mean 'digits'"),
    ],
)
def test_impossible_studies(change, message):
    with pytest.raises((ValueError, LookupError), match=message):
        frozen_images(make_plan([], **change)["study"])


def command(plan, results, chunk="000"):
    (results / "plan.json").write_text(json.dumps(plan))
    arguments = ["outcomes", "--plan", str(results / "plan.json"), "--chunk", chunk, "--results", str(results)]
    return main([*arguments, "--out", str(results / "outcomes" / f"{chunk}.parquet"), "--device", "cpu"])


def test_command_line(tmp_path, capsys):
    plan = make_plan([{"seed": 0}])
    (run,) = plan["runs"]
    assert command(plan, tmp_path) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {tmp_path / 'runs' / run / 'run.json'}: not")
    plant(plan, tmp_path, run)
    assert command(plan, tmp_path, chunk="001") == 1
    assert capsys.readouterr().err == "error: chunk '001' is not in the plan of study planted\n"
    assert command(plan, tmp_path) == 0
    progress = capsys.readouterr().err.splitlines()
    assert len(progress) == 2 and progress[0].startswith(f"model 1 of 2: {run}-last clean 0.") and "left" in progress[0]
    weights = tmp_path / "runs" / run / "best.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    cache_file(plan, tmp_path, f"{run}-best").unlink()
    manifest = tmp_path / "runs" / "000.json"
    manifest.write_text("{}")
    assert command(plan, tmp_path) == 1 and not manifest.exists()
    assert f"error: {weights}: SHA-256 found" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage, message",
    [
        (b'{"run": ', "not valid JSON"),
        (b"\xff", "not valid JSON ('utf-8' codec"),
        (b'{"status": "finished", "files": {}}', "found files none, wanted RUN-last"),
    ],
)
def test_a_damaged_record_takes_the_manifest_with_it(damage, message, tmp_path, capsys):
    plan = make_plan([{"seed": 0}])
    (run,) = plan["runs"]
    plant(plan, tmp_path, run)
    manifest, record = tmp_path / "runs" / "000.json", tmp_path / "runs" / run / "run.json"
    manifest.write_text("{}")
    record.write_bytes(damage)
    assert command(plan, tmp_path) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {record}: {message.replace('RUN-last', 'last.safetensors')}")
    assert last.endswith(": run again, and it is trained anew") and not manifest.exists()


def test_a_fault_of_the_data_set_is_no_models_fault(tmp_path, capsys):
    plan = make_plan([{"seed": 0}], (WONG,), data="cifar10", data_dir=str(tmp_path / "nowhere"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "000.json").write_text("{}")
    assert command(plan, tmp_path) == 1
    said = capsys.readouterr().err
    assert "nowhere" in said and "not found" in said and "removed" not in said and said.count("\n") == 1
    assert (tmp_path / "runs" / "000.json").exists()


def test_a_model_outside_the_plan(study):
    plan, results, _, _ = study
    with pytest.raises(LookupError, match="model 'nobody-last' is not in the plan of study planted"):
        load_planned_model(plan, results, "nobody-last")


def test_measures_before_outcomes(tmp_path):
    plan = make_plan([{"seed": 0}])
    (run,) = plan["runs"]
    plant(plan, tmp_path, run)
    with pytest.raises(FileFault, match=f"{run}-last.*not found; wanted the outcomes of {run}-last"):
        measure_batch(plan, tmp_path, f"{run}-last")


def foreign_plan(tmp_path, **study):
    few = {"attacks": ["clean", "pgd10"], "train_images": 8, "test_images": 8, "batch_size": 8}
    models = (WONG, {**WONG, "name": "Rade2021Helper_R18_ddpm"})
    given = {"data": "digits32", "outcomes": few, "measure_images": 6, "model_dir": str(tmp_path), **study}
    return make_plan([], models, **given)


def test_foreign_models_that_do_not_load_leave_their_reason(tmp_path, capsys):
    path = tmp_path / "cifar10" / "Linf" / "Wong2020Fast.pt"
    path.parent.mkdir(parents=True)
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    table = judge(foreign_plan(tmp_path), tmp_path)
    assert table.model.tolist() == ["rb-cifar10-Linf-Wong2020Fast", "rb-cifar10-Linf-Rade2021Helper_R18_ddpm"]
    assert table.n.tolist() == [0, 0] and table.split.tolist() == ["", ""] and table.accuracy.isna().all()
    assert "Wong2020Fast.pt: robustbench cannot load" in table.reason[0]
    assert "Rade2021Helper_R18_ddpm.pt: not found" in table.reason[1]
    assert "not evaluated" in capsys.readouterr().err


class Foreign(nn.Module):
    """Stands for a RobustBench network: `classes` logits of images of 3 x 32 x 32."""

    def __init__(self, classes):
        super().__init__()
        self.linear = nn.Linear(3072, classes)

    def forward(self, x):
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(
    "data, classes, message",
    [
        ("digits", 10, r"rb-cifar10-Linf-Wong2020Fast: does not take images of shape \(1, 8, 8\)"),
        ("digits32", 100, "rb-cifar10-Linf-Wong2020Fast: found 100 classes, wanted the 10 of digits32"),
    ],
)
def test_foreign_models_must_fit_the_study(data, classes, message, tmp_path, monkeypatch):
    monkeypatch.setattr(planned.zoo, "load_robustbench", lambda entry, model_dir: Foreign(classes).eval())
    with pytest.raises(ValueError, match=message):
        load_planned_model(foreign_plan(tmp_path, data=data), tmp_path, "rb-cifar10-Linf-Wong2020Fast")
