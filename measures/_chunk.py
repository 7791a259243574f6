"""Measures on one chunk of a study's models: the work of one rule for a measure, or of one for all measures."""

import csv
import io
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from robustgap.measures._code import code_id
from robustgap.measures._compute import Row, compute, contexts
from robustgap.measures._images import prepare
from robustgap.measures._state import FATAL, one_line
from robustgap.measures.core import Measure, select
from robustgap.training.checkpoint import FileFault, read_json, write_atomically
from robustgap.training.jobs import frozen_images
from robustgap.training.jobs import plan as planned
from robustgap.training.jobs.damage import rerun_if_damaged
from robustgap.training.jobs.provenance import study_device
from robustgap.training.networks.memory_format import channels_last
from robustgap.training.settings import number

COLUMN_TEXT = "model measure variant value se n_images split seed seconds forwards code_id reason"
COLUMNS = COLUMN_TEXT.split()
OUT = "measures/{name}/{chunk}.csv"  # below the study's results
SPLIT = "train"
SEED = 0  # of every random number that a measure draws

Json = dict[str, Any]  # a JSON object: the plan, or a row


@dataclass(frozen=True)
class Task:
    """One measure to compute on the models of a chunk: its code id and the table to write. Each model's rows are cached
    beside the table, under different names with and without early stopping."""

    measure: Measure
    code: str
    out: Path
    target_se: float | None

    def cache(self, model: str) -> Path:
        stop = "" if self.target_se is None else f".se{self.target_se:g}"
        return self.out.parent / "cache" / f"{model}.{self.code}{stop}.json"


def run(
    words: Iterable[str],
    plan: Json,
    chunk: str,
    results: Path,
    out: str | Path | None = None,
    *,
    target_se: float | None = None,
) -> None:
    """Compute measures on the models of `chunk` and write a table for each, a CSV with the columns above.

    words: names, families or 'all'. out: the table; for several measures a pattern with '{name}' in it; default:
    RESULTS/measures/{name}/CHUNK.csv, where the workflow looks for it. target_se: see `robustgap.evaluate`.
    Each model and its images are loaded once, and what several measures need is computed once. Models of collapsed
    runs are left out. Each model's rows are cached beside the table as soon as they are known, so a killed chunk
    resumes. A measure that fails unexpectedly is missing with its reason in the table, and is not cached.
    Raises LookupError for an unknown measure or chunk, ValueError for a pattern without '{name}' or target_se without
    `out`, FileFault for a damaged or missing file of the study (the workflow then makes it again), and the errors that
    end a job: out of memory, a broken device.
    """
    if target_se is not None and out is None:
        raise ValueError(
            "--out: found nothing, wanted a path: a table of early stops must not pass for the study's own"
        )
    if chunk not in plan["chunks"]:
        raise LookupError(f"--chunk: found {chunk!r}, wanted one of the plan's: {', '.join(plan['chunks'])}")
    tasks = open_tasks(select(words), str(out or results / OUT.replace("{chunk}", chunk)), target_se)
    device = study_device(plan["study"])
    frozen_images.frozen_images(plan["study"])  # a fault of the data set is raised here, before any model
    models = finished_models(plan, results, chunk)
    progress = Progress(tasks, len(models))
    tables: dict[str, list[Json]] = {task.measure.name: [] for task in tasks}
    for model in models:
        with rerun_if_damaged(plan, results, model):
            rows, cached = model_rows(tasks, plan, results, model, target_se, device)
        progress.report(model, [row for measure_rows in rows.values() for row in measure_rows], cached)
        for task in tasks:
            tables[task.measure.name] += [table_row(model, task.code, row) for row in rows[task.measure.name]]
    for task in tasks:
        write_table(task.out, tables[task.measure.name])


def open_tasks(measures: list[Measure], out: str, target_se: float | None) -> list[Task]:
    """A task for each measure. Raises ValueError when several of them would write the same file."""
    if len(measures) > 1 and "{name}" not in out:
        raise ValueError(f"--out: found {out} for {len(measures)} measures, wanted a path with {{name}} in it")
    return [Task(m, code_id(m.name), Path(out.replace("{name}", m.name)), target_se) for m in measures]


def finished_models(plan: Json, results: Path, chunk: str) -> list[str]:
    """The models of a chunk whose runs did not collapse."""
    models = []
    for model, entry in plan["models"].items():
        if entry["chunk"] == chunk:
            with rerun_if_damaged(plan, results, model):
                models += [] if planned.collapsed(plan, results, model) else [model]
    return models


def model_rows(
    tasks: list[Task], plan: Json, results: Path, model: str, target_se: float | None, device: torch.device
) -> tuple[dict[str, list[Json]], int]:
    """({measure: rows, one per variant}, how many measures came from the cache).

    The rows of a foreign model that cannot be loaded say why. For a model of the grid, what loading it or its images
    raises is raised.
    """
    rows: dict[str, list[Json]] = {}
    try:
        inputs = frozen_images.cache_file(plan, results, model).name  # stands for weights, images, attack and version
        made_from = {"inputs": inputs, "seed": SEED, "target_se": target_se}
        for task in tasks:
            if (cached_rows := read_cache(task.cache(model), made_from)) is not None:
                rows[task.measure.name] = cached_rows
        cached = len(rows)
        remaining = [task for task in tasks if task.measure.name not in rows]
        for task, new_rows in measure_model(remaining, plan, results, model, target_se, device) if remaining else ():
            rows[task.measure.name] = new_rows
            if not any(row["failed"] for row in new_rows):
                write_atomically(task.cache(model), json.dumps({**made_from, "rows": new_rows}) + "\n")
    except FATAL:
        raise
    except Exception as error:  # a foreign model may fail in any way; the other models are still measured
        if plan["models"][model]["source"] == "grid" or isinstance(error, frozen_images.OutcomesFault):
            raise
        reason, cached = one_line(error), 0
        rows = {task.measure.name: rows.get(task.measure.name) or missing(task.measure, reason) for task in tasks}
    return rows, cached


def measure_model(
    tasks: list[Task], plan: Json, results: Path, model_id: str, target_se: float | None, device: torch.device
) -> Iterator[tuple[Task, list[Json]]]:
    """Rows of one model, one per variant, task by task. Raises what loading the model or its images raises."""
    study, tensors = plan["study"], frozen_images.measure_batch(plan, results, model_id)
    model = channels_last(planned.load_planned_model(plan, results, model_id, device))
    data = prepare(
        model,
        tensors["images"],
        tensors["labels"],
        index=tensors["index"],
        adversarial=tensors["adversarial"],
        eps=number(study["eps"]),
        norm=study["norm"],
        seed=SEED,
        batch_size=int(study["outcomes"]["batch_size"]),
        initial=planned.initial_weights(plan, results, model_id),
        log=planned.training_log(plan, results, model_id),
        target_se=target_se,
    )
    shared = contexts(model, data)
    bar = tqdm(tasks, desc=model_id, leave=False, disable=True if len(tasks) == 1 else None)
    for task in bar:
        bar.set_postfix_str(task.measure.name)
        variants = task.measure.variants
        yield task, [asdict(compute(task.measure, model, data, variant, shared)) for variant in variants]


def missing(measure: Measure, reason: str) -> list[Json]:
    """Rows of a model that could not be measured at all."""
    return [asdict(Row(measure.name, v, None, None, 0, 0.0, 0, reason, failed=True)) for v in measure.variants]


def read_cache(cache: Path, made_from: Json) -> list[Json] | None:
    """Rows from the cache; None where it has none, or was made from other inputs. A damaged file is named on stderr."""
    if not cache.exists():
        return None
    try:
        content = read_json(cache)
        if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
            raise FileFault(f"{cache}: found no rows, wanted those of a measure")
    except FileFault as error:
        print(f"{error}: computed again", file=sys.stderr)
        return None
    if any(content.get(key) != value for key, value in made_from.items()):
        return None
    rows: list[Json] = content["rows"]
    return rows


def table_row(model: str, code: str, row: Json) -> Json:
    numbers = {key: "" if row[key] is None else row[key] for key in ("value", "se")}
    origin = {"model": model, "n_images": row["n"], "split": SPLIT, "seed": SEED, "code_id": code}
    row = {**row, **numbers, **origin, "seconds": f"{row['seconds']:.4f}"}
    return {column: row[column] for column in COLUMNS}


def write_table(out: Path, rows: list[Json]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out, text.getvalue())


class Progress:
    """One line per model on stderr: its values, the time they took, and an estimate of the time left."""

    def __init__(self, tasks: list[Task], total: int):
        self.tasks, self.total, self.done, self.computed, self.start = len(tasks), total, 0, 0, time.perf_counter()
        self.name = tasks[0].measure.name if self.tasks == 1 else f"{self.tasks} measures"

    def report(self, model: str, rows: list[Json], cached: int) -> None:
        self.done, self.computed = self.done + 1, self.computed + (cached < self.tasks)
        pace = (time.perf_counter() - self.start) / max(self.computed, 1)
        seconds = f"{sum(row['seconds'] for row in rows):.2f} s"
        if cached:
            seconds = (
                "cached" if cached == self.tasks else f"{cached} {'measure' if cached == 1 else 'measures'} cached"
            )
        left = f"about {pace * (self.total - self.done):.0f} s left"
        line = f"{self.name} [{self.done}/{self.total}] {model}: {self.values(rows)} ({seconds}; {left})"
        print(line, file=sys.stderr, flush=True)

    def values(self, rows: list[Json]) -> str:
        if self.tasks > 1:
            lost = sum(row["value"] is None for row in rows)
            known = len(rows) - lost
            return f"{known} {'value' if known == 1 else 'values'}" + f", {lost} missing" * (lost > 0)
        return ", ".join(
            f"{r['variant']} {'missing' if r['value'] is None else format(r['value'], '.4g')}" for r in rows
        )
