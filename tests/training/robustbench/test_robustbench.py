"""RobustBench models from checkpoint files to the ledger: plan, outcomes, two measures, ledger, by their commands."""

import json

import pandas as pd
import pytest
import torch
from trees import ROOT

from robustgap.analysis.__main__ import main as analysis
from robustgap.analysis.ledger import Ledger
from robustgap.measures.__main__ import main as measures
from robustgap.training import attacks
from robustgap.training.__main__ import main as training
from robustgap.training.jobs.frozen_images import frozen_images, measure_batch
from robustgap.training.jobs.plan import load_planned_model, splits_of
from robustgap.training.robustbench import zoo
from robustgap.workflow.grid import open_plan
from robustgap.workflow.study import read_study

# Two architectures: a pre-activation ResNet-18 with its own normalisation, and DeepMind's with Swish; and one whose
# file is not there.
PRESENT, ABSENT = ("Wong2020Fast", "Rade2021Helper_R18_ddpm"), "Sehwag2021Proxy_R18"
MEASURES = ("average_ce", "prob_margin")


def config(model_dir):
    entry = {"source": "robustbench", "dataset": "cifar10", "threat": "Linf"}
    return {
        "study": "foreign",
        "data": "digits32",
        "norm": "Linf",
        "eps": "8/255",
        "models": [{**entry, "name": name} for name in (*PRESENT, ABSENT)],
        "model_dir": str(model_dir),
        "outcomes": {"attacks": ["clean", "pgd10"], "train_images": 5, "test_images": 4},
        "measure_images": 3,
        "measures": list(MEASURES),
        "chunks": 1,
    }


def write_checkpoints(folder):
    """Seeded random weights where robustbench reads them."""
    zoo.model_names("cifar10", "Linf")  # makes robustbench importable
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    registry = model_dicts[BenchmarkDataset.cifar_10][ThreatModel.Linf]
    (folder / "cifar10" / "Linf").mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name in PRESENT:
            torch.save(registry[name]["model"]().state_dict(), folder / "cifar10" / "Linf" / f"{name}.pt")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The whole chain, run once: plan and results folder."""
    folder = tmp_path_factory.mktemp("foreign")
    write_checkpoints(folder / "models")
    plan, results = open_plan(config(folder / "models"), "study"), folder / "results"
    results.mkdir()
    (results / "plan.json").write_text(json.dumps(plan))
    chunk = ["--plan", str(results / "plan.json"), "--chunk", "000", "--results", str(results), "--out"]
    assert training(["outcomes", *chunk, str(results / "outcomes" / "000.parquet"), "--device", "cpu"]) == 0
    for name in MEASURES:
        assert measures(["run", name, *chunk, str(results / "measures" / name / "000.csv")]) == 0
    cards = {name: {"expects": {}, "variants": ["clean", "adversarial"]} for name in MEASURES}
    (results / "catalogue.json").write_text(json.dumps(cards))
    assert analysis(["ledger", "--results", str(results), "--out", str(results / "ledger")]) == 0
    return json.loads((results / "plan.json").read_text()), results


def test_the_ledger_lists_every_model_and_why_one_failed(study):
    _, results = study
    ledger = Ledger.load(results / "ledger")
    runs = ledger.runs.set_index("model")
    assert set(runs.index) == {f"rb-cifar10-Linf-{name}" for name in (*PRESENT, ABSENT)}
    assert set(runs["source"]) == {"robustbench"}
    failed = runs.loc[f"rb-cifar10-Linf-{ABSENT}"]
    assert failed["status"] == "failed" and f"{ABSENT}.pt: not found" in failed["reason"]
    models = ledger.models()
    assert set(models["model"]) == {f"rb-cifar10-Linf-{name}" for name in PRESENT}
    assert (
        models[["gap_pgd10", "se_gap_pgd10", "gap_pgd10_rest", "average_ce", "prob_margin.adv"]].notna().all(axis=None)
    )


def test_outcomes_and_measures_are_those_of_the_loaded_networks(study):
    """Recomputed here from the definitions, image by image."""
    plan, results = study
    (train, _, m), splits = frozen_images(plan["study"]), splits_of(plan["study"])
    outcomes = pd.read_parquet(results / "outcomes" / "000.parquet").set_index(["model", "split", "attack"])
    found = {name: pd.read_csv(results / "measures" / name / "000.csv") for name in MEASURES}
    for name in PRESENT:
        model_id = f"rb-cifar10-Linf-{name}"
        model = load_planned_model(plan, results, model_id)
        x, y = splits.floats(train.images), train.labels
        with torch.no_grad():
            right = model(x).argmax(1) == y
        assert outcomes.loc[(model_id, "train", "clean"), "accuracy"] == float(right.double().mean())
        batch = measure_batch(plan, results, model_id)
        noise = attacks.start(x[:1], train.index[:1], seed=0, eps=8 / 255, norm="Linf", stream=attacks.EVALUATION_START)
        x_adv = attacks.pgd(model, x[:1], y[:1], eps=8 / 255, noise=noise)
        torch.testing.assert_close(batch["adversarial"][:1], x_adv, rtol=0, atol=1e-3)
        for variant, images in (("clean", batch["images"]), ("adversarial", batch["adversarial"])):
            with torch.no_grad():
                probability = model(images).softmax(1)
            true = probability.gather(1, y[:m, None])[:, 0]
            other = probability.scatter(1, y[:m, None], -1).amax(1)
            for measure, expected in (("average_ce", -true.log().mean()), ("prob_margin", (true - other).mean())):
                table = found[measure].set_index(["model", "variant"])
                assert table.loc[(model_id, variant), "value"] == pytest.approx(float(expected), rel=1e-3)


def test_the_shipped_study_plans():
    plan = open_plan(read_study(ROOT / "workflow" / "config" / "robustbench.yaml"), "robustbench.yaml")
    assert len(plan["models"]) >= 8 and not plan["runs"]
    known = set(zoo.model_names("cifar10", "Linf"))
    assert {entry["name"] for entry in plan["models"].values()} <= known
