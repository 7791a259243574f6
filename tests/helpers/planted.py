"""Small plans, and runs planted on disk as training would leave them, without training."""

import json
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from robustgap.training import settings as identity
from robustgap.training.checkpoint import file_digest, save_model, write_json
from robustgap.training.data.datasets import load
from robustgap.training.facts import DATA_SET_FACTS
from robustgap.training.jobs import outcomes
from robustgap.training.networks.architectures import build
from robustgap.workflow.outcomes import outcome_plan

STUDY = {
    "study": "planted",
    "data": "digits",
    "norm": "Linf",
    "eps": "1/10",
    "outcomes": {"attacks": ["clean", "fgsm", "pgd10"], "train_images": 60, "test_images": 45, "batch_size": 32},
    "measure_images": 20,
    "checkpoints": ["last", "best"],
}
FAST = {"data": "digits", "architecture": "cnn", "width": 4, "eps": "1/10", "epochs": 2, "augmentation": "none"}


def make_plan(runs: list[dict], models: tuple[dict, ...] = (), **study) -> dict:
    """A plan with one chunk '000' and one batch of all runs; `models` are RobustBench entries."""
    plan = {"study": {**STUDY, **study}, "axes": [], "runs": {}, "models": {}, "chunks": ["000"], "excluded": []}
    plan["code"] = {"training": identity.TRAINING_VERSION, "outcomes": identity.OUTCOMES_VERSION}
    for given in runs:
        settings = identity.complete({**FAST, **given})
        run = identity.run_id(settings)
        plan["runs"][run] = {"settings": settings, "chunk": "000", "batch": "000"}
        for checkpoint in plan["study"]["checkpoints"]:
            entry = {"source": "grid", "run": run, "checkpoint": checkpoint, "chunk": "000"}
            plan["models"][identity.model_id(run, checkpoint)] = entry
    for entry in models:
        plan["models"][f"rb-{entry['dataset']}-{entry['threat']}-{entry['name']}"] = {**entry, "chunk": "000"}
    plan["batches"] = {"000": list(plan["runs"])}
    plan["outcomes"] = outcome_plan(plan["study"], plan["models"]) if plan["study"]["data"] in DATA_SET_FACTS else {}
    return json.loads(json.dumps(plan))  # as it is read from plan.json


@torch.no_grad()
def nearest_mean(settings: dict) -> nn.Module:
    """Random features and, as last layer, the class of the nearest mean: logit_k = m_k f - |m_k|^2 / 2."""
    splits = load(settings["data"])
    model = build(settings, splits).eval()
    features = model[1][:-1](model[0](splits.floats(splits.train.images)))
    means = torch.stack([features[splits.train.labels == k].mean(0) for k in range(splits.num_classes)])
    model[1][-1].weight.copy_(20 * means)
    model[1][-1].bias.copy_(-10 * means.square().sum(1))
    return model


def plant(plan: dict, results: Path, run: str, status: str = "finished") -> dict[str, nn.Module]:
    """Write a run (different weights for last and best) as training leaves it; returns its models by id."""
    settings, folder, models = plan["runs"][run]["settings"], results / "runs" / run, {}
    for place, checkpoint in enumerate(identity.CHECKPOINTS):
        model = nearest_mean({**settings, "seed": 10 * int(settings["seed"]) + place})
        save_model(folder / f"{checkpoint}.safetensors", model, run=run)
        models[identity.model_id(run, checkpoint)] = model
    record = {"run": run, "settings": settings, "version": identity.TRAINING_VERSION, "status": status}
    record |= {"reason": "planted" if status == "collapsed" else "", "flags": [], "epochs": 2, "best_epoch": 2}
    record |= {"seconds": 1.0, "device": "cpu", "packages": {}, "accuracy": {}}
    record["files"] = {f"{c}.safetensors": file_digest(folder / f"{c}.safetensors") for c in identity.CHECKPOINTS}
    write_json(folder / "run.json", record)
    return models


def judge(plan: dict, results: Path, out: Path | None = None) -> pd.DataFrame:
    """Run the outcomes stage on the only chunk, for every group; the tables it wrote, as one."""
    first, tables = out or results / "outcomes" / "000.parquet", []
    for group in ("", *plan["outcomes"]):
        table = first.parent / group / first.name
        outcomes.evaluate_chunk(plan, "000", results, table, "cpu", group)
        tables.append(pd.read_parquet(table))
    return pd.concat(tables, ignore_index=True)


def judged(results: Path) -> tuple[dict, Path, dict[str, nn.Module], pd.DataFrame]:
    """Two planted runs (four models), judged: plan, results folder, models by id, table."""
    plan, models = make_plan([{"seed": 0}, {"seed": 1}]), {}
    for run in plan["runs"]:
        models |= plant(plan, results, run)
    return plan, results, models, judge(plan, results)
