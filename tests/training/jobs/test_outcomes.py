"""Outcomes against image-by-image recomputation: correctness bits, frozen images, attacks, flags."""

import numpy as np
import pytest
import torch
from outcome_cases import Linear64
from planted import judge, judged, make_plan, plant
from torch import nn

from robustgap.training import attacks
from robustgap.training.checkpoint import file_digest, read_json, save_tensors, write_json
from robustgap.training.data.datasets import load
from robustgap.training.jobs.frozen_images import frozen_images, index_sha, measure_batch
from robustgap.training.jobs.judging import attacked
from robustgap.training.jobs.plan import load_planned_model
from robustgap.training.modes import frozen


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return judged(tmp_path_factory.mktemp("planted"))


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
    assert " ".join(table.columns) == (
        "model split outcome attack norm eps target options n accuracy se loss confidence_right confidence_wrong"
        " success distortion signs flags seconds bits index_sha reason"
    )
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
    assert (len(all_train), len(all_test)) == (500, 897)
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


@pytest.fixture(scope="module")
def digits64():
    splits = load("digits")
    split = frozen_images(make_plan([])["study"])[0]
    return splits.floats(split.images).double(), split.labels, split.index


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
    """A constant classifier: 50 of 500 training images are zeros (at chance), 51 ones (above)."""
    plan = make_plan([{"seed": 0}], outcomes={"attacks": ["clean", "pgd10"], "batch_size": 512})
    (run,) = plan["runs"]
    plant(plan, tmp_path, run)
    count = torch.bincount(load("digits").train.labels, minlength=10)
    assert count[0] <= 50 < count[1]
    for winner, flags in ((0, {"robust_floor"}), (1, {""})):
        constant_run(plan, tmp_path, run, winner)
        table = judge(plan, tmp_path)
        rows = table[(table.split == "train") & (table.model == f"{run}-last")].set_index("attack")
        assert rows.loc["pgd10", "accuracy"] == count[winner] / 500
        assert {rows.loc["pgd10", "flags"]} == flags and rows.loc["clean", "flags"] == ""
        assert set(table[table["split"] == "train_rest"]["flags"]) == {""}


def constant_run(plan, results, run, winner):
    """Overwrite a planted run's last weights by those of a classifier that always answers `winner`."""
    folder = results / "runs" / run
    state = {k: v.clone() for k, v in load_planned_model(plan, results, f"{run}-last").state_dict().items()}
    weight, bias = list(state)[-2:]
    state[weight].zero_()
    state[bias].copy_(torch.eye(10)[winner])
    save_tensors(folder / "last.safetensors", state)
    record = read_json(folder / "run.json")
    record["files"]["last.safetensors"] = file_digest(folder / "last.safetensors")
    write_json(folder / "run.json", record)
