"""A real, tiny study to run measures on."""

import csv
import json
from pathlib import Path

import torch

from robustgap.measures import __main__ as cli
from robustgap.training.data.datasets import load
from robustgap.training.jobs import outcomes
from robustgap.training.jobs.run import train_run
from robustgap.training.settings import complete, model_id, run_id


def make_study(results: Path) -> dict:
    """Two real, short trainings, their outcomes, and a plan that also names a collapsed run and a model that is
    not there."""
    device, splits = torch.device("cpu"), load("digits")
    base = {"data": "digits", "architecture": "mlp", "width": 16, "eps": "0.1", "epochs": 5, "batch_size": 32,
            "defense": "Standard", "augmentation": "none"}  # fmt: skip
    plan = {
        "study": {"study": "tiny", "data": "digits", "norm": "Linf", "eps": "1/10", "measure_images": 32,
                  "outcomes": {"attacks": ["clean", "fgsm", "pgd10"], "train_images": 100, "test_images": 50,
                               "batch_size": 64}, "model_dir": str(results / "models")},
        "axes": [], "code": {"training": 1, "outcomes": 1}, "runs": {}, "models": {}, "chunks": ["000"],
        "batches": {}, "excluded": [],
    }  # fmt: skip
    for seed in (0, 1):
        settings = complete({**base, "seed": seed})
        run = run_id(settings)
        assert train_run(settings, splits, None, results / "runs" / run, device)["status"] == "finished"
        plan["runs"][run] = {"settings": settings, "chunk": "000", "batch": "000"}
        plan["models"][model_id(run, "last")] = {"source": "grid", "run": run, "checkpoint": "last", "chunk": "000"}
    lost = {"source": "robustbench", "name": "Wong2020Fast", "dataset": "cifar10", "threat": "Linf", "chunk": "000"}
    plan["models"]["rb-cifar10-Linf-Wong2020Fast"] = lost
    plan["runs"]["c011a95ed0"] = {"settings": complete(base), "chunk": "000", "batch": "000"}
    plan["models"]["c011a95ed0-last"] = {"source": "grid", "run": "c011a95ed0", "checkpoint": "last", "chunk": "000"}
    (results / "runs" / "c011a95ed0").mkdir()
    (results / "runs" / "c011a95ed0" / "run.json").write_text('{"status": "collapsed", "files": {}}')
    outcomes.evaluate_chunk(plan, "000", results, results / "outcomes" / "000.parquet", device)
    (results / "plan.json").write_text(json.dumps(plan))
    return plan


def command(results: Path, *arguments: str) -> int:
    """Exit code of `python -m robustgap.measures run` on the study's one chunk; later options override the usual
    ones."""
    usual = ["--plan", str(results / "plan.json"), "--chunk", "000", "--results", str(results)]
    return cli.main(["run", arguments[0], *usual, *arguments[1:]])


def table(results: Path, name: str) -> list[dict]:
    with (results / "measures" / name / "000.csv").open() as file:
        return list(csv.DictReader(file))


def values(results: Path, name: str) -> list[str]:
    return [row["value"] for row in table(results, name)]
