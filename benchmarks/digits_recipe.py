"""Whether any training of a study breaks down: every configuration, with several seeds, in several kinds of arithmetic.

    python -m benchmarks.digits_recipe [--seeds 5] [--processes 2] [--study results/digits] [--out digits_recipe.md]

The kinds of arithmetic are those that one machine has: that of `reproducible: true`, the machine's own, and one without
vector instructions. Each run is trained as in the study, without its files, in a process whose environment sets the
arithmetic before torch starts. Only training logs and CPU seconds are looked at; the gap, with its standard error, is
taken of the first seed. What is done is kept in --runs, a line a run, and is not done again; of --study the finished
trainings are taken over, in the arithmetic that their run.json names. The table has a row per configuration.
"""

import argparse
import csv
import fcntl
import io
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from training import loop
from training.architectures import build
from training.carried import begin
from training.checkpoint import read_json, read_log, write_atomically
from training.data import load
from training.divergence import DIVERGED, diverged
from training.outcomes import attacked
from training.run import judge, make_optimizer
from training.settings import REPRODUCIBLE, number, run_id
from training.splits import Splits
from workflow.grid import configurations
from workflow.study import read, resolve

ROOT = Path(__file__).resolve().parents[1]
ARITHMETIC = {
    "reproducible": REPRODUCIBLE,
    "native": {},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
}
COLUMNS = ["run", "arithmetic", "seed", "clean", "highest", "loss", "flag", "seconds", "gap", "se"]


def train(settings: dict, splits: Splits, with_gap: bool) -> dict:
    """Train one run; how its log ended, CPU seconds and, if asked for, the PGD-10 gap of its last weights with its
    standard error, in percentage points."""
    model, began = build(settings, splits), time.process_time()
    progress, reason = loop.Progress(), ""
    carried = begin(settings, model, splits)
    try:
        optimizer = make_optimizer(model, settings)
        loop.train(model, optimizer, splits, None, settings, progress, None, lambda best: None, carried)
    except loop.Collapse as collapse:
        reason = str(collapse)
    spent = time.process_time() - began
    accuracy, chance = judge(model, splits)
    row = {"clean": accuracy, "seconds": round(spent, 2), **ended(progress.log, splits, bool(reason or chance))}
    return row | (gap(model.eval(), settings, splits) if with_gap else {})


def ended(log: list[dict], splits: Splits, collapsed: bool) -> dict:
    """How a training ended, by its log."""
    broke = diverged(log, len(splits.val), splits.num_classes)
    return {
        "highest": max((row["train_clean"] for row in log), default=math.nan),
        "loss": log[-1]["train_loss"] if log else math.nan,
        "flag": "collapsed" if collapsed else DIVERGED * broke,
    }


def gap(model: torch.nn.Module, settings: dict, splits: Splits) -> dict[str, float]:
    options = {"attack": "pgd10", "eps": number(settings["eps"]), "norm": settings["norm"], "batch": 512}
    found = []
    for split in (splits.train, splits.test):
        right = attacked(model, splits.floats(split.images), split.labels, split.index, **options)[0]
        found.append((float(right.double().mean()), len(right)))
    se = math.sqrt(sum(p * (1 - p) / n for p, n in found))
    return {"gap": round(100 * (found[0][0] - found[1][0]), 2), "se": round(100 * se, 2)}


def of_study(results: Path, splits: Splits) -> Iterator[dict]:
    """The finished trainings of a study, as rows."""
    for file in sorted(results.glob("runs/*/run.json")):
        record = read_json(file)
        parts = record["made_by"]
        if len(parts) != 1:
            raise ValueError(f"{file}: found a run trained in {len(parts)} goes, wanted one")
        kinds = {"AVX2": "reproducible", "DEFAULT": "no vectors"}
        kind = "reproducible" if parts[0]["reproducible"] else kinds.get(parts[0]["instructions"], "native")
        log = read_log(file.with_name("log.csv"))
        row = {"run": record["run"], "arithmetic": kind, "seed": record["settings"]["seed"]}
        accuracy = record["accuracy"]["train_clean"]
        yield row | {"clean": accuracy, **ended(log, splits, record["status"] == "collapsed")}


def kept(runs: Path) -> list[dict]:
    """The rows of --runs."""
    if not runs.is_file():
        return []
    with runs.open(newline="") as file:
        return list(csv.DictReader(file))


def append(runs: Path, row: dict) -> None:
    """Add a row, whole, also while other processes do."""
    with runs.open("a", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if not file.tell():
            writer.writeheader()
        writer.writerow(row)
        file.write(text.getvalue())


def work(given: argparse.Namespace, cells: dict[str, dict]) -> None:
    """What one process does: its share of the runs, in the arithmetic that it was started with."""
    torch.set_num_threads(1)
    done = {(row["run"], row["arithmetic"]) for row in kept(given.runs)}
    jobs = [{**settings, "seed": seed} for seed in range(given.seeds) for settings in cells.values()]
    splits, (place, count) = load(jobs[0]["data"]), given.share
    for settings in jobs[place::count]:
        key = run_id(settings), given.worker
        if key not in done:
            row = train(settings, splits, with_gap=settings["seed"] == 0)
            append(given.runs, {"run": key[0], "arithmetic": key[1], "seed": settings["seed"], **row})


def started(given: argparse.Namespace, kind: str) -> None:
    """Run the workers of one kind of arithmetic. Raises CalledProcessError when one fails."""
    environment = {key: value for key, value in os.environ.items() if key not in REPRODUCIBLE}
    environment |= {**ARITHMETIC[kind], "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    common = ["--config", str(given.config), "--runs", str(given.runs), "--seeds", str(given.seeds)]
    command = [sys.executable, "-m", "benchmarks.digits_recipe", *common, "--worker", kind, "--share"]
    workers = [
        subprocess.Popen([*command, f"{place}/{given.processes}"], cwd=ROOT, env=environment)
        for place in range(given.processes)
    ]
    for worker in workers:
        if worker.wait():
            raise subprocess.CalledProcessError(worker.returncode, command)


def table(rows: list[dict], cells: dict[str, dict], axes: list[str]) -> Iterator[str]:
    """The lines of the report."""
    settings = {run_id({**cell, "seed": seed}): name for name, cell in cells.items() for seed in range(100)}
    by_cell: dict[str, dict[str, list[dict]]] = {name: {kind: [] for kind in ARITHMETIC} for name in cells}
    for row in rows:
        if row["run"] in settings:
            by_cell[settings[row["run"]]][row["arithmetic"]].append(row)
    yield from ("| | " + " | ".join(ARITHMETIC) + " |", "|---|" + "--:|" * len(ARITHMETIC))
    every = {kind: [row for kinds in by_cell.values() for row in kinds[kind]] for kind in ARITHMETIC}
    for word, tell in (
        ("trainings", lambda part: str(len(part))),
        ("collapsed", lambda part: str(sum(row["flag"] == "collapsed" for row in part))),
        ("diverged", lambda part: str(sum(row["flag"] == DIVERGED for row in part))),
        ("lowest clean training accuracy", lambda part: f"{min(float(row['clean']) for row in part):.3f}"),
        ("CPU seconds a training, mean", lambda part: f"{mean_of(part, 'seconds'):.2f}"),
    ):
        yield f"| {word} | " + " | ".join(tell(part) if part else "" for part in every.values()) + " |"
    measured = [
        row for part in every.values() for row in part if row["gap"] and cells_of(row, settings, cells) != "Standard"
    ]
    for kind in ARITHMETIC:
        ratios = sorted(float(row["gap"]) / float(row["se"]) for row in measured if row["arithmetic"] == kind)
        if ratios:
            quarters = ", ".join(f"{ratios[round(q * (len(ratios) - 1))]:.1f}" for q in (0, 0.25, 0.5, 0.75, 1))
            wide = sum(ratio > 4 for ratio in ratios)
            yield ""
            yield (
                f"Gap in standard errors, {kind}, {len(ratios)} adversarially trained models of seed 0 (minimum,"
                f" quartiles, maximum): {quarters}; above 4: {wide}."
            )
    yield ""
    heads = [*axes, *(f"{kind}: {what}" for kind in ARITHMETIC for what in ("clean", "loss", "flags")), "gap", "se"]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(axes) + "--:|" * (len(heads) - len(axes))
    for name, kinds in by_cell.items():
        cells_told = [str(cells[name][axis]).lower() if axis == "awp" else str(cells[name][axis]) for axis in axes]
        for part in kinds.values():
            flags = ", ".join(f"{row['flag']} (seed {row['seed']})" for row in part if row["flag"]) or "none"
            lowest, loss = (f"{pick(float(row[key]) for row in part):.3f}" if part else "" for pick, key in WORST)
            cells_told += [lowest, loss, flags]
        first = next((row for part in kinds.values() for row in part if row["gap"]), {"gap": "", "se": ""})
        yield "| " + " | ".join([*cells_told, first["gap"], first["se"]]) + " |"


WORST = ((min, "clean"), (max, "loss"))


def cells_of(row: dict, settings: dict[str, str], cells: dict[str, dict]) -> str:
    return str(cells[settings[row["run"]]]["defense"])


def mean_of(part: list[dict], column: str) -> float:
    told = [float(row[column]) for row in part if row[column]]
    return sum(told) / len(told) if told else math.nan


def share(text: str) -> tuple[int, int]:
    place, count = text.split("/")
    return int(place), int(count)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digits_recipe", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "workflow" / "config" / "digits.yaml")
    parser.add_argument("--runs", type=Path, default=ROOT / "results" / "digits_recipe.csv")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--arithmetic", choices=ARITHMETIC, action="append", help="default: all")
    parser.add_argument("--study", type=Path, action="append", default=[], help="results/STUDY to take over")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=ARITHMETIC, help=argparse.SUPPRESS)
    parser.add_argument("--share", type=share, default=(0, 1), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    study = resolve(read(given.config), given.config)
    cells = configurations(study)[0]
    given.runs.parent.mkdir(parents=True, exist_ok=True)
    if given.worker:
        work(given, cells)
        return 0
    done = {(row["run"], row["arithmetic"]) for row in kept(given.runs)}
    for results in given.study:
        for row in of_study(results, load(study["data"])):
            if (row["run"], row["arithmetic"]) not in done:
                append(given.runs, row)
    for kind in given.arithmetic or ARITHMETIC:
        started(given, kind)
    text = "\n".join(["# The recipe of the digits", "", *table(kept(given.runs), cells, list(study["axes"]))])
    print(text)
    if given.out:
        write_atomically(given.out, text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
