"""Attacks with parts as jobs: a row for each part, and AutoAttack that is killed and goes on."""

import importlib
import itertools

import numpy as np
import pytest
import torch
from outcome_cases import limit_library
from planted import judge, make_plan, plant

from robustgap.training.data.datasets import load
from robustgap.training.jobs.frozen_images import frozen_images
from robustgap.training.modes import frozen
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS

SIZES = {"train_images": 24, "test_images": 15, "batch_size": 10}
FEW = {"measure_images": 12, "checkpoints": ["last"], "eps": "1/20"}


def planned(results, *attacks):
    plan = make_plan([{"seed": 0}], outcomes={"attacks": ["clean", "pgd10", *attacks], **SIZES}, **FEW)
    (run,) = plan["runs"]
    return plan, plant(plan, results, run)[f"{run}-last"]


def bits(table, outcome, split):
    (row,) = table[(table["outcome"] == outcome) & (table["split"] == split)].itertuples()
    return np.unpackbits(np.frombuffer(row.bits, np.uint8))[: row.n].astype(bool)


def test_every_class_has_a_row_and_its_success(tmp_path):
    plan, model = planned(tmp_path, "targeted_pgd>each", "targeted_pgd@Linf:1/10>3")
    table = judge(plan, tmp_path)
    train, test, _ = frozen_images(plan["study"])
    floats = load("digits").floats
    for name, split in (("train", train), ("test", test)):
        rows = table[table["split"] == name].set_index("outcome")
        every = []
        for target in map(str, range(10)):
            with frozen(model), torch.no_grad():
                given = (model, floats(split.images), split.labels, split.index, 0.05, "Linf")
                seen = model(OUTCOME_ATTACKS["targeted_pgd"](*given, target=target)).argmax(1)
            row, others = rows.loc[f"targeted_pgd>{target}"], split.labels != int(target)
            every.append(bits(table, f"targeted_pgd>{target}", name))
            assert every[-1].tolist() == (seen == split.labels).tolist()
            assert row["success"] == pytest.approx((seen[others] == int(target)).double().mean())
            assert row["target"] == target and row["attack"] == "targeted_pgd"
        assert (bits(table, "targeted_pgd>each", name) == np.all(every, axis=0)).all()
        assert np.isnan(rows.loc["targeted_pgd>each", "success"])
        assert rows.loc["targeted_pgd@Linf:1/10>3", "success"] >= rows.loc["targeted_pgd>3", "success"]


class Killed(Exception):
    pass


def test_autoattack_is_killed_and_goes_on_with_a_row_for_each_component(tmp_path, monkeypatch):
    limit_library(monkeypatch, queries=20, steps=5)
    square = importlib.import_module("pyautoattack.autoattack").SquareAttack
    plan, _ = planned(tmp_path / "whole", "autoattack", "square")
    through = judge(plan, tmp_path / "whole")
    plan, _ = planned(tmp_path, "autoattack", "square")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(square, "perturb", lambda *given: (_ for _ in ()).throw(Killed))
        judge(plan, tmp_path)
    (state,) = (tmp_path / "outcomes" / "autoattack" / "models").glob("*.part")
    assert {file.name.split("-")[0] for file in state.rglob("*.safetensors")} == {"apgd_ce", "apgd_t", "fab_t"}
    seen = []
    attack = importlib.import_module("pyautoattack.autoattack").FABAttack_PT
    original = attack.perturb
    monkeypatch.setattr(attack, "perturb", lambda self, x, y: seen.append(len(x)) or original(self, x, y))
    again = judge(plan, tmp_path)
    assert len(seen) == 1 and not state.exists()  # FAB ran for the test images alone
    ids = [f"autoattack+until={name}" for name in ("apgd_ce", "apgd_t", "fab_t")] + ["autoattack"]
    assert set(ids) <= set(again["outcome"])
    for split in ("train", "test"):
        for name in ids:
            assert (bits(again, name, split) == bits(through, name, split)).all()
        found = [bits(again, name, split) for name in ids]
        assert all((later <= earlier).all() for earlier, later in itertools.pairwise(found))
        assert (found[-1] <= bits(again, "clean", split)).all()
    rows = again[again["attack"] == "autoattack"].set_index("outcome")
    assert (rows.loc[ids[:3], "signs"] == "").all() and (rows.loc[ids[0], "options"] == "until=apgd_ce").all()
    assert (rows.loc[ids, "seconds"] >= 0).all()
