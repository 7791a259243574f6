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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from robustgap.training import loop
from robustgap.training.carried_state import begin
from robustgap.training.checkpoint import load_model, read_json, read_log, write_atomically
from robustgap.training.data.datasets import load
from robustgap.training.data.splits import Splits
from robustgap.training.divergence import DIVERGED, diverged
from robustgap.training.jobs.judging import attacked
from robustgap.training.jobs.provenance import cpu_name
from robustgap.training.jobs.run import check_collapse, make_optimizer
from robustgap.training.networks.architectures import build
from robustgap.training.settings import REPRODUCIBLE, number, run_id
from robustgap.workflow.grid import grid_cells
from robustgap.workflow.study import read_study, resolve

ROOT = Path(__file__).resolve().parents[1]
ARITHMETIC = {
    "reproducible": REPRODUCIBLE,
    "native": {},
    "no vectors": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
}
CHOSEN = """\
How it was chosen, by pilots of few configurations that this program does not repeat (MART on batches of 32 without AWP
and crop, which breaks down first; seeds 0 to 4, both weight decays, two kinds of arithmetic: 20 trainings each):

| rate | inner steps, epochs, width, eps | ended below 0.5 | lowest clean training accuracy | highest final loss |
|---|---|--:|--:|--:|
| 0.1, drops at 1/2 and 3/4 | 10, 40, 128, 0.1 | 3 | 0.10 | 2.41 |
| 0.05, drops at 1/2 and 3/4 | 10, 40, 128, 0.1 | 0 | 0.96 | 0.78 |
| onecycle, peak 0.1 | 5, 40, 256, 0.1 | 0 | 0.99 | 0.35 |
| onecycle, peak 0.06 | 5, 40, 256, 0.1 | 0 | 1.00 | 0.08 |

An epoch of AT in batches of 32 takes 0.127 s with 10 inner steps and 0.094 s with 5, and test accuracy under PGD-10 is
the same (0.79 to 0.80). It is the models trained with crop whose gaps are hard to tell from 0: of those 24 of seed 0, 2
have gaps of more than 4 standard errors and 16 of more than 2 with eps 0.1; 7 and 22 with eps 0.075. The training of
all 128 runs takes 371 CPU seconds, that of the 64 of the earlier recipe (60 epochs of 10 inner steps, batches of 32 and
128) 367, measured in turns."""
WIDTH = "PGD-10 gap of the last weights of seed 0, in standard errors, of the adversarially trained models:"
ROWS = (
    "A row per configuration: lowest clean accuracy on all training images, highest training loss of the last epoch and"
    " flags, over the seeds; gap of seed 0, with the standard error from the sampling of images, in percentage points."
)
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
    accuracy, chance = check_collapse(model, splits)
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
        row |= {"clean": record["accuracy"]["train_clean"], **ended(log, splits, record["status"] == "collapsed")}
        if row["seed"] == 0:
            model = build(record["settings"], splits)
            load_model(file.with_name("last.safetensors"), model, record["files"]["last.safetensors"])
            row |= gap(model.eval(), record["settings"], splits)
        yield row


def kept(runs: Path) -> list[dict]:
    """The rows of --runs."""
    if not runs.is_file():
        return []
    with runs.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(runs: Path, row: dict) -> None:
    """Add a row, whole, also while other processes do."""
    with runs.open("a", newline="", encoding="utf-8") as file:
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


def by_configuration(rows: list[dict], cells: dict[str, dict]) -> dict[str, dict[str, list[dict]]]:
    """{configuration: {kind of arithmetic: its rows}}; rows of runs that the study does not have are left out."""
    seeds = range(1 + max((int(row["seed"]) for row in rows), default=0))
    of_run = {run_id({**settings, "seed": seed}): name for name, settings in cells.items() for seed in seeds}
    found: dict[str, dict[str, list[dict]]] = {name: {kind: [] for kind in ARITHMETIC} for name in cells}
    for row in rows:
        if row["run"] in of_run:
            found[of_run[row["run"]]][row["arithmetic"]].append(row)
    return found


def totals(found: dict[str, dict[str, list[dict]]]) -> Iterator[str]:
    """The table with a column per kind of arithmetic."""
    every = {kind: [row for kinds in found.values() for row in kinds[kind]] for kind in ARITHMETIC}
    yield f"| | {' | '.join(ARITHMETIC)} |"
    yield "|---|" + "--:|" * len(ARITHMETIC)
    tell: dict[str, Callable[[list[dict]], str]] = {
        "trainings": lambda part: str(len(part)),
        "seeds": lambda part: ", ".join(sorted({str(row["seed"]) for row in part})),
        "collapsed": lambda part: str(sum(row["flag"] == "collapsed" for row in part)),
        "diverged": lambda part: str(sum(row["flag"] == DIVERGED for row in part)),
        "lowest clean training accuracy": lambda part: worst(part, "clean", min),
        "highest final loss": lambda part: worst(part, "loss", max),
        "CPU seconds of a training, mean": lambda part: mean(part, "seconds"),
    }
    for words, told in tell.items():
        yield f"| {words} | {' | '.join(told(part) for part in every.values())} |"


def widths(found: dict[str, dict[str, list[dict]]], cells: dict[str, dict]) -> Iterator[str]:
    """How many standard errors wide the gaps are of the adversarially trained models, a line per kind of arithmetic."""
    for kind in ARITHMETIC:
        trained = [kinds[kind] for name, kinds in found.items() if cells[name]["defense"] != "Standard"]
        ratios = sorted(float(row["gap"]) / float(row["se"]) for part in trained for row in part if row["gap"])
        if ratios:
            quarters = ", ".join(f"{ratios[round(share * (len(ratios) - 1))]:.1f}" for share in (0, 0.25, 0.5, 0.75, 1))
            wide = f"{sum(ratio > 4 for ratio in ratios)} above 4, {sum(ratio > 2 for ratio in ratios)} above 2"
            yield f"- {kind}: {len(ratios)} models; minimum, quartiles and maximum {quarters}; {wide}"


def each(found: dict[str, dict[str, list[dict]]], cells: dict[str, dict], axes: list[str]) -> Iterator[str]:
    """The table with a row per configuration."""
    heads = [*axes, *(f"{kind}: {what}" for kind in ARITHMETIC for what in ("clean", "loss", "flags")), "gap", "se"]
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(axes) + "--:|" * (len(heads) - len(axes))
    for name, kinds in found.items():
        row = [str(cells[name][axis]) for axis in axes]
        for part in kinds.values():
            flags = ", ".join(f"{one['flag']} (seed {one['seed']})" for one in part if one["flag"])
            row += [worst(part, "clean", min), worst(part, "loss", max), flags or "none"]
        first = next((one for part in kinds.values() for one in part if one["gap"]), {"gap": "", "se": ""})
        yield f"| {' | '.join([*row, first['gap'], first['se']])} |"


def worst(part: list[dict], column: str, pick: Callable[[Iterable[float]], float]) -> str:
    return f"{pick(float(row[column]) for row in part):.3f}" if part else ""


def mean(part: list[dict], column: str) -> str:
    told = [float(row[column]) for row in part if row[column]]
    return f"{sum(told) / len(told):.2f}" if told else ""


def report(rows: list[dict], cells: dict[str, dict], axes: list[str]) -> str:
    """What is printed, as Markdown."""
    found = by_configuration(rows, cells)
    machine = f"{cpu_name()}, torch {torch.__version__}"
    made = f"{len(cells)} configurations; {machine}. Made by `python -m benchmarks.digits_recipe`, which says how."
    head = [["# The recipe of the digits"], [made], list(totals(found))]
    parts = [*head, [CHOSEN], [WIDTH], list(widths(found, cells)), [ROWS], list(each(found, cells, axes))]
    return "\n\n".join("\n".join(part) for part in parts)


def share(text: str) -> tuple[int, int]:
    place, count = text.split("/")
    return int(place), int(count)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digits_recipe", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=ROOT / "workflow" / "config" / "digits.yaml")
    parser.add_argument("--runs", type=Path, default=ROOT / "benchmarks" / "digits_recipe.csv")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--arithmetic", choices=ARITHMETIC, action="append", help="default: all")
    parser.add_argument("--study", type=Path, action="append", default=[], help="results/STUDY to take over")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", choices=ARITHMETIC, help=argparse.SUPPRESS)
    parser.add_argument("--share", type=share, default=(0, 1), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    study = resolve(read_study(given.config), given.config)
    cells = grid_cells(study)[0]
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
    text = report(kept(given.runs), cells, list(study["axes"]))
    print(text)
    if given.out:
        write_atomically(given.out, text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
