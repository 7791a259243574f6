"""One measure on one chunk of a study's models: the work of one rule of the workflow."""

import csv
import io
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from measures._code import code_id, require
from measures._compute import Row, compute, prepare
from measures.core import Measure, load
from training import planned
from training.checkpoint import write_atomically
from training.settings import number

COLUMN_TEXT = "model measure variant value se n_images split seed seconds forwards code_id reason"
COLUMNS = COLUMN_TEXT.split()
SPLIT = "train"
SEED = 0  # of every random number a measure draws


def run(name: str, plan: dict, chunk: str, results: Path, out: Path) -> None:
    """Compute measure `name` on the models of `chunk` and write the table `out`, a CSV with the columns above.

    Models of collapsed runs are left out. Each model's rows are cached beside the table as soon as they are known, so
    a killed chunk resumes; what failed unforeseen is missing with its reason in the table, and is not cached.
    Raises LookupError for an unknown measure or chunk, FileFault for a damaged or missing file of the study.
    """
    require(name)
    if chunk not in plan["chunks"]:
        raise LookupError(f"chunk {chunk!r} is not in the plan (known: {', '.join(plan['chunks'])})")
    measured, code, table = load(name), code_id(name), []
    models = [model for model, entry in plan["models"].items() if entry["chunk"] == chunk]
    models = [model for model in models if not collapsed(plan, results, model)]
    progress = Progress(name, len(models))
    for model in models:
        cache = out.parent / "cache" / f"{model}.{code}.json"
        try:
            inputs = planned.cache_file(plan, results, model).name  # stands for weights, images, attack and version
            cached = recall(cache, inputs)
            rows = cached or measure_model(measured, plan, results, model)
        except Exception as error:  # a foreign model may fail in any way, and must not lose the others
            if plan["models"][model]["source"] == "grid":
                raise
            cached, rows = None, missing(measured, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        if not any(row["failed"] for row in rows):
            write_atomically(cache, json.dumps({"inputs": inputs, "seed": SEED, "rows": rows}) + "\n")
        progress.report(model, rows, cached is not None)
        table += [table_row(model, code, row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_atomically(out, text.getvalue())


def measure_model(measured: Measure, plan: dict, results: Path, model_id: str) -> list[dict]:
    """Rows of one model, one per variant. Raises what loading the model or its images raises."""
    study, given = plan["study"], planned.measure_batch(plan, results, model_id)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = planned.load_planned_model(plan, results, model_id, device)
    # convolutions run a fifth faster on a CPU
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = prepare(
        model,
        given["images"],
        given["labels"],
        index=given["index"],
        adversarial=given["adversarial"],
        eps=number(study["eps"]),
        norm=study["norm"],
        seed=SEED,
        batch_size=int(study["outcomes"]["batch_size"]),
        initial=planned.initial_weights(plan, results, model_id),
        log=planned.training_log(plan, results, model_id),
    )
    return [asdict(compute(measured, model, data, variant)) for variant in measured.variants]


def missing(measured: Measure, reason: str) -> list[dict]:
    """Rows of a model that could not be measured at all."""
    return [asdict(Row(measured.name, v, None, None, 0, 0.0, 0, reason, failed=True)) for v in measured.variants]


def collapsed(plan: dict, results: Path, model: str) -> bool:
    foreign = plan["models"][model]["source"] != "grid"
    return not foreign and planned.run_record(plan, results, model)["status"] == "collapsed"


def recall(cache: Path, inputs: str) -> list[dict] | None:
    """Rows from the cache; None where there are none, or where they were made from other inputs."""
    try:
        content = json.loads(cache.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return content["rows"] if (content["inputs"], content["seed"]) == (inputs, SEED) else None


def table_row(model: str, code: str, row: dict) -> dict:
    values = {key: "" if row[key] is None else row[key] for key in ("value", "se")}
    rest = {"model": model, "n_images": row["n"], "split": SPLIT, "seed": SEED, "code_id": code}
    row = {**row, **values, **rest, "seconds": f"{row['seconds']:.4f}"}
    return {column: row[column] for column in COLUMNS}


class Progress:
    """One line per model on stderr: what was found, in what time, and how long the rest will take at that pace."""

    def __init__(self, name: str, total: int):
        self.name, self.total, self.done, self.computed, self.start = name, total, 0, 0, time.perf_counter()

    def report(self, model: str, rows: list[dict], cached: bool) -> None:
        self.done, self.computed = self.done + 1, self.computed + (not cached)
        pace = (time.perf_counter() - self.start) / max(self.computed, 1)
        seconds = "cached" if cached else f"{sum(row['seconds'] for row in rows):.2f} s"
        values = ", ".join(
            f"{r['variant']} {'missing' if r['value'] is None else format(r['value'], '.4g')}" for r in rows
        )
        left = f"about {pace * (self.total - self.done):.0f} s left"
        print(
            f"{self.name} [{self.done}/{self.total}] {model}: {values} ({seconds}; {left})", file=sys.stderr, flush=True
        )
