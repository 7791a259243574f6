"""Public checkpoints as models of a study: planned, judged and measured like others, with a reason where one fails."""

import json

import pandas as pd
import pytest
import torch
from studies import study

from robustgap.analysis.__main__ import main as analysis
from robustgap.analysis.ledger import Ledger
from robustgap.measures.__main__ import main as measures
from robustgap.training.__main__ import main as training
from robustgap.training.data.datasets import load
from robustgap.training.jobs.frozen_images import cache_file
from robustgap.training.jobs.plan import load_planned_model
from robustgap.training.networks.architectures import ARCHITECTURES
from robustgap.workflow.grid import open_plan
from robustgap.workflow.jobs import Jobs


@pytest.fixture
def foreign(tmp_path):
    """A study of two checkpoints, of which one file is not there; the network behind the other."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ARCHITECTURES["mlp"](10, 1, width=8, image_size=8, activation="silu")
    state = {f"module.model.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "public.pt")
    entry = {"source": "file", "architecture": "mlp", "width": 8, "activation": "silu", "mean": [0.3], "std": [0.5]}
    there, gone = str(tmp_path / "public.pt"), str(tmp_path / "gone.pt")
    models = [{**entry, "name": "there", "file": there}, {**entry, "name": "gone", "file": gone}]
    few = {"attacks": ["clean", "pgd10"], "train_images": 40, "test_images": 30}
    config = study(axes={}, models=models, outcomes=few, measure_images=20, chunks=1, settings={})
    results = tmp_path / "results"
    results.mkdir()
    (results / "plan.json").write_text(json.dumps(open_plan(config, "foreign")))
    return config, results, network.eval()


@torch.no_grad()
def test_a_checkpoint_is_judged_and_measured_and_a_missing_one_listed(foreign):
    _, results, network = foreign
    chunk = ["--plan", str(results / "plan.json"), "--chunk", "000", "--results", str(results), "--out"]
    assert training(["outcomes", *chunk, str(results / "outcomes" / "000.parquet"), "--device", "cpu"]) == 0
    assert measures(["run", "average_ce", *chunk, str(results / "measures" / "average_ce" / "000.csv")]) == 0
    card = {"average_ce": {"expects": {}, "variants": ["clean", "adversarial"]}}
    (results / "catalogue.json").write_text(json.dumps(card))
    assert analysis(["ledger", "--results", str(results), "--out", str(results / "ledger")]) == 0
    runs = Ledger.load(results / "ledger").runs.set_index("model")
    assert runs.loc["file-there", ["source", "status", "data", "norm"]].tolist() == [
        "file",
        "finished",
        "digits",
        "Linf",
    ]
    assert runs.loc["file-gone", "status"] == "failed" and "gone.pt: not found" in runs.loc["file-gone", "reason"]
    plan, splits = json.loads((results / "plan.json").read_text()), load("digits")
    x = splits.floats(splits.test.images[:9])
    assert torch.equal(load_planned_model(plan, results, "file-there")(x), network((x - 0.3) / 0.5))
    outcomes = pd.read_parquet(results / "outcomes" / "000.parquet")
    assert set(outcomes.loc[outcomes["split"] == "test", "model"]) == {"file-there"}


def test_what_is_loaded_otherwise_is_judged_again(foreign):
    """The file's content and how it is read are part of the cache's name and of the jobs' digest; its place is not."""
    config, results, _ = foreign

    def made(**change):
        plan = open_plan({**config, "models": [{**config["models"][0], **change}]}, "foreign")
        return cache_file(plan, results, "file-there").name, Jobs(plan).chunk_digest(type("W", (), {"chunk": "000"}))

    first, moved = made(), results / "moved.pt"
    moved.write_bytes((results.parent / "public.pt").read_bytes())
    assert made(file=str(moved))[0] == first[0]
    for change in ({"activation": "relu"}, {"mean": [0.2]}):
        assert made(**change)[0] != first[0] and made(**change)[1] != first[1]
    torch.save({}, moved)
    assert made(file=str(moved))[0] != first[0]
