"""Small synthetic ledgers for tests: a full factorial study whose gaps and measures follow written-down rules."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import Ledger, text

AXES = {"defense": ["Standard", "AT", "TRADES", "MART"], "batch_size": [32, 128], "awp": [False, True]}
BASE = {"data": "synthetic", "architecture": "cnn", "norm": "Linf", "eps": "3/20", "epochs": 30, "augmentation": "none"}
N_TRAIN, N_REST, N_TEST = 500, 244, 897
EFFECT = {"Standard": 0.0, "AT": 0.10, "TRADES": 0.05, "MART": 0.08, "32": 0.02, "true": -0.03, "best": -0.02}
CATALOGUE = {
    "average_ce": {"family": "loss", "variants": ["clean", "adversarial"], "expects": {"clean": -1, "adversarial": -1}},
    "boundary_thickness": {"family": "boundary", "variants": ["none"], "expects": {"none": -1}},
    "num_params": {"family": "size", "variants": ["none"], "expects": {"none": 1}},
}


def run_table(axes: dict, seeds: int, checkpoints: tuple[str, ...]) -> pd.DataFrame:
    """One row per model of the full factorial."""
    rows = []
    for cell in itertools.product(*axes.values()):
        settings = {key: text(value) for key, value in {**BASE, **dict(zip(axes, cell, strict=True))}.items()}
        for seed, checkpoint in itertools.product(range(seeds), checkpoints):
            run = "-".join([*map(text, cell), f"s{seed}"])
            row = {"run": run, "model": f"{run}-{checkpoint}", "checkpoint": checkpoint, "seed": str(seed)}
            rows.append({**row, "source": "grid", **settings})
    table = pd.DataFrame(rows)
    return table.assign(status="finished", flags="", reason="", epochs="30", seconds=1.5, device="cpu")


def outcome_table(runs: pd.DataFrame, gap: np.ndarray) -> pd.DataFrame:
    """Outcomes with PGD-10 test accuracy 0.5 (Standard: 0.1, flagged) and train accuracy `gap` above it."""
    rows = []
    defense = runs["defense"] if "defense" in runs else pd.Series("AT", runs.index)
    for model, standard, extra in zip(runs["model"], defense == "Standard", gap, strict=True):
        for attack, base, share in (("clean", 0.90, 0.3), ("fgsm", 0.55, 0.8), ("pgd10", 0.50, 1.0)):
            base = 0.1 if standard and attack != "clean" else base
            flag = "robust_floor" if standard and attack == "pgd10" else ""
            for split, n in (("train", N_TRAIN), ("train_rest", N_REST), ("test", N_TEST)):
                accuracy = float(np.clip(base + share * extra * (split != "test"), 0, 1))
                se = float(np.sqrt(accuracy * (1 - accuracy) / n))
                where = {"model": model, "split": split, "attack": attack, "eps": 0.15, "norm": "Linf", "n": n}
                rows.append({**where, "accuracy": accuracy, "se": se, "flags": flag, "seconds": 0.1})
    return pd.DataFrame(rows)


def measure_table(runs: pd.DataFrame, gap: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """average_ce falls with the gap; boundary_thickness rises with it under TRADES and falls elsewhere (and is
    missing for Standard models); num_params is constant."""
    noise = 0.01 * rng.standard_normal((3, len(gap)))
    defense = runs["defense"].to_numpy() if "defense" in runs else np.full(len(runs), "AT")
    thickness = np.where(defense == "TRADES", gap, -gap) + noise[2]
    columns = {
        ("average_ce", "clean"): 1 - gap + noise[0],
        ("average_ce", "adversarial"): 2 - gap + noise[1],
        ("boundary_thickness", "none"): np.where(defense == "Standard", np.nan, thickness),
        ("num_params", "none"): np.full(len(gap), 29_000.0),
    }
    frames = []
    for (measure, variant), value in columns.items():
        frame = pd.DataFrame({"model": runs["model"], "measure": measure, "variant": variant, "value": value})
        reason = np.where(np.isnan(value), "no segment reached the other class", "")
        frames.append(frame.assign(se=0.001, n_images=256, split="measure", seed=0, seconds=0.2, reason=reason))
    return pd.concat(frames, ignore_index=True).assign(forwards=4, code_id="0123456789")


def copied(table: pd.DataFrame, model: str, other: str) -> pd.DataFrame:
    """The table with the rows of one model under the name of another as well, in place of that one's own."""
    return pd.concat([table[table["model"] != other], table[table["model"] == model].assign(model=other)])


def make(
    path: str | Path,
    axes: dict | None = None,
    seeds: int = 2,
    checkpoints: tuple[str, ...] = ("last", "best"),
    seed: int = 0,
    troubles: bool = True,
) -> Ledger:
    """Write a synthetic ledger into folder `path` and load it again.

    The gap is a sum of main effects of the axes' values plus noise. With `troubles`, the first run collapsed (no
    outcomes, no measures), the second failed, and the third has `best` equal to `last`.
    """
    axes = AXES if axes is None else axes
    rng = np.random.default_rng(seed)
    runs = run_table(axes, seeds, checkpoints)
    values = runs[[*axes, "checkpoint"]].to_numpy()
    gap = np.array([sum(EFFECT.get(value, 0.0) for value in row) for row in values])
    gap = gap + 0.02 * rng.standard_normal(len(gap))
    outcomes, measures = outcome_table(runs, gap), measure_table(runs, gap, rng)
    if troubles:
        first, second, third = runs["run"].unique()[:3]
        runs.loc[runs["run"] == first, ["status", "reason"]] = ["collapsed", "loss is not finite in epoch 3"]
        runs.loc[runs["run"] == second, ["status", "reason"]] = ["failed", "run.json is missing"]
        runs.loc[runs["run"] == third, "flags"] = "best_is_last"
        gone = runs.loc[runs["status"] != "finished", "model"]
        outcomes, measures = (table[~table["model"].isin(gone)] for table in (outcomes, measures))
        if "best" in checkpoints:
            outcomes, measures = (copied(table, f"{third}-last", f"{third}-best") for table in (outcomes, measures))
    names = [name for name in CATALOGUE if name in set(measures["measure"])]
    settings = {"study": "synthetic", "data": "synthetic", "norm": "Linf", "eps": "3/20", "settings": BASE}
    settings |= {"axes": axes, "seeds": list(range(seeds)), "checkpoints": list(checkpoints), "measures": names}
    settings |= {"analysis": {"draws": 200, "slow_draws": 100, "outcome": "gap_pgd10", "removals": False}}
    study = {"study": settings, "axes": list(axes), "excluded": [], "created": "2026-01-01T00:00:00+00:00"}
    Ledger(runs, outcomes, measures, CATALOGUE, study, Path(path)).write(path)
    return Ledger.load(path)
