"""Outcomes against image-by-image recomputation; frozen images; the cache; foreign models; errors of one line."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from planted import make_plan, plant
from torch import nn

from training import attacks, outcomes, planned
from training.__main__ import main
from training.checkpoint import FileFault
from training.data import load
from training.modes import frozen
from training.outcomes import attacked
from training.planned import cache_file, frozen_images, index_sha, load_planned_model, measure_batch


def judge(plan, results, out=None):
    """Run the stage on the only chunk; the table it wrote."""
    out = out or results / "outcomes" / "000.parquet"
    outcomes.run(plan, "000", results, out, "cpu")
    return pd.read_parquet(out)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two planted runs (four models), judged: plan, results folder, models by id, table."""
    results = tmp_path_factory.mktemp("planted")
    plan = make_plan([{"seed": 0}, {"seed": 1}])
    models = {}
    for run in plan["runs"]:
        models |= plant(plan, results, run)
    return plan, results, models, judge(plan, results)


def bits_of(table, model, split, attack):
    row = table[(table.model == model) & (table.split == split) & (table.attack == attack)].iloc[0]
    return np.unpackbits(np.frombuffer(row["bits"], np.uint8))[: row["n"]]


def alone(model, splits, split, i, attack):
    """Correctness of frozen image i, attacked by itself with functions proven in test_attacks."""
    x, y, index = splits.floats(split.images[i : i + 1]), split.labels[i : i + 1], split.index[i : i + 1]
    with frozen(model):
        if attack == "fgsm":
            x = attacks.fgsm(model, x, y, eps=0.1)
        elif attack == "pgd10":
            noise = attacks.start(x, index, seed=0, eps=0.1, norm="Linf", stream=attacks.EVALUATION_START)
            x = attacks.pgd(model, x, y, eps=0.1, noise=noise, steps=10, step=0.025)
        return int(model(x).argmax() == y), x


def test_bits_equal_attacking_each_image_alone(study):
    plan, _, models, table = study
    splits, (train, test, _) = load("digits"), frozen_images(plan["study"])
    for model in list(models)[:2]:
        for name, split in (("train", train), ("test", test)):
            for attack in ("clean", "fgsm", "pgd10"):
                expected = [alone(models[model], splits, split, i, attack)[0] for i in range(len(split))]
                assert bits_of(table, model, name, attack).tolist() == expected, (model, name, attack)
    assert len({tuple(bits_of(table, m, "train", "clean")) for m in models}) == 4  # last and best are two models


def test_accuracy_se_and_the_images_no_measure_sees(study):
    plan, _, models, table = study
    train, test, m = frozen_images(plan["study"])
    assert len(table) == 4 * 3 * 3 and set(table.model) == set(models)
    for row in table.itertuples():
        right = bits_of(table, row.model, "test" if row.split == "test" else "train", row.attack)
        right = right[m:] if row.split == "train_rest" else right
        assert (row.n, row.accuracy) == (len(right), right.mean())
        assert row.se == pytest.approx(np.sqrt(right.mean() * (1 - right.mean()) / len(right)))
        ids = {"train": train.index, "train_rest": train.index[m:], "test": test.index}[row.split]
        assert row.index_sha == index_sha(ids)
        assert (row.eps, row.norm, row.reason) == (0.1, "Linf", "")
        assert (row.bits == b"") == (row.split == "train_rest")


def test_columns_and_types(study):
    table = study[3]
    assert " ".join(table.columns) == ("model split attack eps norm n accuracy se flags seconds bits index_sha reason")
    assert table[["eps", "accuracy", "se", "seconds"]].dtypes.eq(float).all() and table["n"].dtype == "int64"


def test_frozen_images_are_original_labelled_training_and_test_images(study):
    plan = study[0]
    splits, (train, test, m) = load("digits"), frozen_images(plan["study"])
    assert (len(train), len(test), m) == (60, 45, 20)
    for chosen, source in ((train, splits.train), (test, splits.test)):
        where = [source.index.tolist().index(i) for i in chosen.index.tolist()]
        assert len(set(where)) == len(where)
        assert torch.equal(chosen.images, source.images[where]) and torch.equal(chosen.labels, source.labels[where])
    forbidden = set(splits.val.index.tolist()) | set(splits.extra.index.tolist())
    assert not forbidden & (set(train.index.tolist()) | set(test.index.tolist()))
    # stratified: 6 of 60, 2 of 20 of each class, give or take one
    for part, share in ((train.labels, 6), (train.labels[:m], 2), (train.labels[m:], 4)):
        assert (torch.bincount(part, minlength=10) - share).abs().max() <= 1


def test_fewer_images_are_the_first_ones():
    """So a study that is extended keeps the images it had; None is all."""
    study = make_plan([])["study"]
    few, *_ = frozen_images(study)
    study["outcomes"] = {"attacks": ["clean"]}
    all_train, all_test, _ = frozen_images(study)
    assert (len(all_train), len(all_test)) == (700, 697)
    assert torch.equal(all_train.index[:60], few.index)


def test_measure_batch_is_what_the_attack_of_the_train_images_left(study):
    plan, results, models, _ = study
    train, _, m = frozen_images(plan["study"])
    splits = load("digits")
    name = next(iter(models))
    batch = measure_batch(plan, results, name)
    assert torch.equal(batch["index"], train.index[:m]) and torch.equal(batch["labels"], train.labels[:m])
    assert torch.equal(batch["images"], splits.floats(train.images[:m]))
    assert batch["adversarial"].shape == batch["images"].shape and batch["adversarial"].dtype == torch.float32
    delta = (batch["adversarial"] - batch["images"]).abs()
    assert 0.09 < float(delta.max()) <= 0.1 + 1e-6
    for i in range(0, m, 5):
        expected = alone(models[name], splits, train, i, "pgd10")[1]
        torch.testing.assert_close(batch["adversarial"][i : i + 1], expected, rtol=1e-3, atol=1e-5)


def test_models_come_back_in_eval_mode_with_their_weights(study):
    plan, results, models, _ = study
    for name, model in models.items():
        loaded = load_planned_model(plan, results, name)
        assert not any(module.training for module in loaded.modules())
        state = loaded.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


class Linear64(nn.Module):
    def __init__(self, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Linear(64, 12).double()
        self.last = nn.Linear(12, 10).double()
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(scale * torch.randn(p.shape, generator=generator, dtype=torch.float64))

    def forward(self, x):
        return self.last(torch.tanh(self.first(x.double().flatten(1))))


@pytest.fixture(scope="module")
def digits64():
    splits = load("digits")
    split = frozen_images(make_plan([])["study"])[0]
    return splits.floats(split.images).double(), split.labels, split.index


@pytest.mark.parametrize("norm, eps", [("Linf", 0.05), ("L2", 0.5)])
@pytest.mark.parametrize("attack", sorted(outcomes.OUTCOME_ATTACKS))
def test_batch_size_and_order_do_not_matter(attack, norm, eps, digits64):
    x, y, index = digits64
    model = Linear64().eval()
    options = {"attack": attack, "eps": eps, "norm": norm}
    right, adversarial = attacked(model, x, y, index, **options, batch=60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    for rows, batch in ((torch.arange(60), 1), (torch.arange(60), 7), (order, 16)):
        found, found_adversarial = attacked(model, x[rows], y[rows], index[rows], **options, batch=batch)
        assert torch.equal(found, right[rows])
        torch.testing.assert_close(found_adversarial, adversarial[rows], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("attack", sorted(outcomes.OUTCOME_ATTACKS))
def test_no_budget_is_exactly_clean(attack, digits64):
    x, y, index = digits64
    model = Linear64().eval()
    right, adversarial = attacked(model, x, y, index, attack=attack, eps=0.0, norm="Linf", batch=32)
    assert torch.equal(adversarial, x) and torch.equal(right, model(x).argmax(1) == y)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_refusals(digits64):
    x, y, index = digits64
    options = {"eps": 0.1, "norm": "Linf", "batch": 32}
    train_mode = nn.Sequential(Linear64(), nn.Dropout()).eval()
    train_mode[1].train()
    with pytest.raises(ValueError, match="found train mode, wanted eval mode"):
        attacked(train_mode, x, y, index, attack="clean", **options)
    with pytest.raises(ValueError, match=r"wanted all inside \[0, 1\]"):
        attacked(Linear64().eval(), 16 * x, y, index, attack="clean", **options)
    with pytest.raises(LookupError, match="outcome attack 'pgd01' is unknown; did you mean 'pgd10'"):
        attacked(Linear64().eval(), x, y, index, attack="pgd01", **options)


def test_logits_that_are_not_finite_are_wrong(digits64):
    """argmax of NaN is class 0, which would count as right for every zero."""
    x, y, index = digits64
    right, _ = attacked(Linear64(float("nan")).eval(), x, y, index, attack="clean", eps=0.1, norm="Linf", batch=32)
    assert (y == 0).any() and not right.any()


def test_robust_floor_is_flagged_for_pgd_at_or_below_chance(tmp_path):
    """A constant classifier: 70 of 700 training images are zeros (at chance), 71 ones (above)."""
    plan = make_plan([{"seed": 0}], outcomes={"attacks": ["clean", "pgd10"], "batch_size": 512})
    (run,) = plan["runs"]
    plant(plan, tmp_path, run)
    count = torch.bincount(load("digits").train.labels, minlength=10)
    assert count[0] <= 70 < count[1]
    for winner, flags in ((0, {"robust_floor"}), (1, {""})):
        constant_run(plan, tmp_path, run, winner)
        table = judge(plan, tmp_path)
        rows = table[(table.split == "train") & (table.model == f"{run}-last")].set_index("attack")
        assert rows.loc["pgd10", "accuracy"] == count[winner] / 700
        assert {rows.loc["pgd10", "flags"]} == flags and rows.loc["clean", "flags"] == ""
        assert set(table[table["split"] == "train_rest"]["flags"]) == {""}


def constant_run(plan, results, run, winner):
    """Overwrite a planted run's last weights by those of a classifier that always answers `winner`."""
    from training.checkpoint import digest, read_json, save_tensors, write_json

    folder = results / "runs" / run
    state = {k: v.clone() for k, v in load_planned_model(plan, results, f"{run}-last").state_dict().items()}
    weight, bias = list(state)[-2:]
    state[weight].zero_()
    state[bias].copy_(torch.eye(10)[winner])
    save_tensors(folder / "last.safetensors", state)
    record = read_json(folder / "run.json")
    record["files"]["last.safetensors"] = digest(folder / "last.safetensors")
    write_json(folder / "run.json", record)


def count_evaluations(monkeypatch):
    """How many models are evaluated from now on."""
    done, original = [], outcomes.evaluate

    def evaluate(model, splits, study):
        done.append(model)
        return original(model, splits, study)

    monkeypatch.setattr(outcomes, "evaluate", evaluate)
    return done


def test_an_interrupted_chunk_goes_on_where_it_stood(tmp_path, monkeypatch):
    plan = make_plan([{"seed": 0}, {"seed": 1}])
    for run in plan["runs"]:
        plant(plan, tmp_path, run)
    done = count_evaluations(monkeypatch)
    counted = outcomes.evaluate

    def interrupted(*given):
        if len(done) == 2:
            raise KeyboardInterrupt
        return counted(*given)

    monkeypatch.setattr(outcomes, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        judge(plan, tmp_path)
    assert not (tmp_path / "outcomes" / "000.parquet").exists() and len(done) == 2
    monkeypatch.setattr(outcomes, "evaluate", counted)
    table = judge(plan, tmp_path)
    assert len(done) == 4
    again = judge(plan, tmp_path)
    assert len(done) == 4
    pd.testing.assert_frame_equal(again, table)


def test_a_damaged_cache_is_named_and_made_again(study, tmp_path, monkeypatch, capsys):
    plan, results, models, table = study
    done = count_evaluations(monkeypatch)
    name = next(iter(models))
    file = cache_file(plan, results, name)
    whole = file.read_bytes()
    for damage in (whole[: len(whole) // 2], b""):
        file.write_bytes(damage)
        with pytest.raises(FileFault, match=file.name):
            measure_batch(plan, results, name)
        again = judge(plan, results, tmp_path / "again.parquet")
        assert file.name in capsys.readouterr().err
        pd.testing.assert_frame_equal(again.drop(columns="seconds"), table.drop(columns="seconds"))
    assert len(done) == 2


def test_the_cache_is_of_exactly_what_outcomes_depend_on(study):
    plan, results, models, _ = study
    name = next(iter(models))

    def file(**change):
        other = json.loads(json.dumps(plan))
        other["study"] |= change
        return cache_file(other, results, name).name

    judged = plan["study"]["outcomes"]
    assert file() == file(outcomes={**judged, "batch_size": 7}) == file(measures=["average_ce"])
    changes = [
        {"eps": "1/20"},
        {"norm": "L2"},
        {"measure_images": 21},
        {"outcomes": {**judged, "train_images": 61}},
        {"outcomes": {**judged, "test_images": 46}},
        {"outcomes": {**judged, "attacks": ["clean", "pgd10"]}},
    ]
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
            {"outcomes": {"attacks": ["clean"], "train_images": 701}},
            "outcomes.train_images: found 701, wanted 1 to 700",
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
    assert command(plan, tmp_path) == 1
    assert f"error: {weights}: SHA-256 found" in capsys.readouterr().err


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


WONG = {"source": "robustbench", "name": "Wong2020Fast", "dataset": "cifar10", "threat": "Linf"}


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
    assert "not judged" in capsys.readouterr().err


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
    monkeypatch.setattr(planned.zoo, "load_model", lambda entry, model_dir: Foreign(classes).eval())
    with pytest.raises(ValueError, match=message):
        load_planned_model(foreign_plan(tmp_path, data=data), tmp_path, "rb-cifar10-Linf-Wong2020Fast")
