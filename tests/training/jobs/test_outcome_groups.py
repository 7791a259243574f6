"""Outcomes other than the two that all models need: own caches, eps 0, limits, losses and confidences by hand."""

import itertools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from planted import judge, make_plan, plant

from robustgap.training import attacks
from robustgap.training.checkpoint import FileFault
from robustgap.training.data.datasets import load
from robustgap.training.jobs import outcomes
from robustgap.training.jobs.frozen_images import frozen_images, outcome_file
from robustgap.training.jobs.outcome_id import of_entry
from robustgap.training.outcome_attacks.transfer import Ensemble

ATTACKS = [
    "clean",
    "pgd10",
    {"attack": "pgd10", "eps": [0, 0.05, 0.3]},
    {"attack": "fgsm", "images": {"train": 15, "test": 7}, "checkpoints": ["last"]},
]
SIZES = {"train_images": 60, "test_images": 45, "batch_size": 32}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    results = tmp_path_factory.mktemp("groups")
    plan = make_plan([{"seed": 0}], outcomes={"attacks": ATTACKS, **SIZES})
    models = plant(plan, results, *plan["runs"])
    return plan, results, models, judge(plan, results)


def rows(table, **where):
    for key, value in where.items():
        table = table[table[key] == value]
    return table.set_index(["model", "split"]).sort_index()


def test_eps_0_is_clean_bit_for_bit(study):
    table = study[3]
    zero, clean = rows(table, outcome="pgd10@Linf:0"), rows(table, outcome="clean")
    for column in ("bits", "accuracy", "loss", "confidence_right", "confidence_wrong", "index_sha"):
        pd.testing.assert_series_equal(zero[column], clean[column])
    assert (zero["eps"] == 0).all() and (zero["distortion"] == 0).all()


def test_the_id_stands_beside_its_parts(study):
    table = study[3]
    parts = table[["outcome", "attack", "norm", "eps"]].drop_duplicates().itertuples(index=False, name=None)
    assert set(parts) == {
        ("clean", "clean", "Linf", 0.1),
        ("pgd10", "pgd10", "Linf", 0.1),
        ("pgd10@Linf:0", "pgd10", "Linf", 0.0),
        ("pgd10@Linf:1/20", "pgd10", "Linf", 0.05),
        ("pgd10@Linf:3/10", "pgd10", "Linf", 0.3),
        ("fgsm", "fgsm", "Linf", 0.1),
    }


def test_accuracy_falls_with_eps(study):
    curve = [rows(study[3], outcome=f"pgd10{eps}")["accuracy"] for eps in ("@Linf:0", "@Linf:1/20", "", "@Linf:3/10")]
    assert all((larger <= smaller).all() for smaller, larger in itertools.pairwise(curve))
    assert (curve[-1] < curve[0]).all()


def test_limits_take_the_first_images_and_the_checkpoints_asked_for(study):
    plan, _, models, table = study
    train, test, m = frozen_images(plan["study"])
    fgsm = rows(table, outcome="fgsm")
    assert list(fgsm.index) == [(next(m for m in models if m.endswith("last")), split) for split in ("test", "train")]
    assert fgsm["n"].tolist() == [7, 15]  # no train_rest: all 15 are measure images
    assert m == 20 and len(train) == 60 and len(test) == 45


def test_losses_and_confidences_by_hand(study):
    plan, _, models, table = study
    splits = load("digits")
    train, test, _ = frozen_images(plan["study"])
    for model, network in models.items():
        for split, chosen in (("train", train), ("test", test)):
            with torch.no_grad():
                p = network(splits.floats(chosen.images)).double().softmax(1).numpy()
            right = p.argmax(1) == chosen.labels.numpy()
            row = rows(table, outcome="clean").loc[(model, split)]
            assert row["accuracy"] == right.mean()
            label = p[np.arange(len(p)), chosen.labels.numpy()]
            assert row["loss"] == pytest.approx(-np.log(label).mean(), rel=1e-4)
            assert row["confidence_right"] == pytest.approx(p[right].max(1).mean(), rel=1e-5)
            assert row["confidence_wrong"] == pytest.approx(p[~right].max(1).mean(), rel=1e-5, nan_ok=True)
            assert np.isnan(row["success"]) and row["distortion"] == 0
    moved = rows(table, outcome="pgd10@Linf:1/20")["distortion"]
    assert ((moved > 0.02) & (moved <= 0.05)).all()


def test_a_further_outcome_computes_nothing_else_again(study, monkeypatch):
    _, results, _, table = study
    wider = make_plan([{"seed": 0}], outcomes={"attacks": [*ATTACKS, "pgd10@Linf:1/4", "fgsm@L2:1"], **SIZES})
    done, original = [], outcomes.evaluate_model

    def evaluate(model, splits, of_study, asked, *given):
        done.extend(outcome.id for outcome in asked)
        return original(model, splits, of_study, asked, *given)

    monkeypatch.setattr(outcomes, "evaluate_model", evaluate)
    again = judge(wider, results)
    assert sorted(done) == ["fgsm@L2:1"] * 2 + ["pgd10@Linf:1/4"] * 2  # of two models
    kept = again[again["outcome"].isin(table["outcome"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, table)


def test_the_cache_of_an_outcome_is_of_exactly_what_it_depends_on(study):
    plan, results, models, _ = study
    name = next(iter(models))

    def file(position=0, group="pgd10", **change):
        other = json.loads(json.dumps(plan))
        other["study"] |= change
        return outcome_file(other, results, name, of_entry(other["outcomes"][group][position], other["study"]))

    wanted = plan["study"]["outcomes"]
    assert file() == file(outcomes={**wanted, "batch_size": 7}) == file(eps="1/4", measures=["average_ce"])
    others = [
        file(1),
        file(2),
        file(group="fgsm"),
        file(outcomes={**wanted, "train_images": 61}),
        file(outcomes={**wanted, "test_images": 46}),
    ]
    assert len({file(), *others}) == 6


def test_transferred_examples_are_those_of_their_source(study, monkeypatch):
    """Under its own PGD-10 examples, a source gets its own PGD-10 result; they are made once for all models."""
    _, results, models, table = study
    source = next(m for m in models if m.endswith("last"))
    plan = make_plan([{"seed": 0}], outcomes={"attacks": ["clean", "pgd10", f"transfer+source={source}"], **SIZES})
    made, original = [], attacks.pgd

    def counted(*given, **options):
        made.append(given)
        return original(*given, **options)

    judge(plan, results)  # what all models need is in its cache, and PGD is not counted for it
    shutil.rmtree(results / "outcomes" / plan_group(plan))
    monkeypatch.setattr(attacks, "pgd", counted)
    again = judge(plan, results)
    monkeypatch.undo()
    assert len(made) == 2 + 2  # batches of 32 of 60 and 45 images, though two models are judged
    moved = rows(again, attack="transfer")
    for split in ("train", "test"):
        own = rows(table, outcome="pgd10").loc[(source, split)]
        assert moved.loc[(source, split), "bits"] == own["bits"]
        assert moved.loc[(source, split), "loss"] == own["loss"]
    assert set(moved["options"]) == {f"source={source}"} and (moved["distortion"] > 0.02).all()


def plan_group(plan):
    (group,) = plan["outcomes"]
    return group


def test_an_ensemble_attacks_the_mean_of_probabilities():
    generator = torch.Generator().manual_seed(0)
    members = [torch.nn.Linear(6, 4) for _ in range(3)]
    x = torch.rand(5, 6, generator=generator)
    mean = sum(member(x).softmax(1) for member in members) / 3
    torch.testing.assert_close(Ensemble(members)(x), mean.log())


def test_a_damaged_source_is_trained_again_and_not_the_model_that_is_judged(tmp_path):
    plan = make_plan([{"seed": 0}, {"seed": 1}])
    source, judged = plan["runs"]
    asked = {"attacks": ["clean", "pgd10", f"transfer+source={source}-last"], **SIZES}
    plan = make_plan([{"seed": 0}, {"seed": 1}], outcomes=asked, checkpoints=["last"])
    plan["runs"][judged]["batch"] = "001"
    for run in (source, judged):
        plant(plan, tmp_path, run)
        (tmp_path / "runs" / f"{plan['runs'][run]['batch']}.json").write_text("{}")
    outcomes.evaluate_chunk(plan, "000", tmp_path, tmp_path / "outcomes" / "000.parquet", "cpu")
    weights = tmp_path / "runs" / source / "last.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(FileFault, match=f"{source}/last.safetensors: .*: run again, and it is trained anew$"):
        judge(plan, tmp_path)
    assert [file.name for file in (tmp_path / "runs").glob("*.json")] == ["001.json"]


def test_a_source_that_collapsed_is_named(tmp_path, capsys):
    plan = make_plan([{"seed": 0}, {"seed": 1}])
    gone, kept = plan["runs"]
    attacks_of = ["clean", "pgd10", f"transfer+source={gone}-last,{kept}-last"]
    plan = make_plan([{"seed": 0}, {"seed": 1}], outcomes={"attacks": attacks_of, **SIZES})
    plant(plan, tmp_path, gone, status="collapsed")
    plant(plan, tmp_path, kept)
    with pytest.raises(ValueError, match=f"transfer from {gone}-last: its run collapsed, wanted another model"):
        judge(plan, tmp_path)
