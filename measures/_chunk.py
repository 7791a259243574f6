"""Measures on one chunk of a study's models: the work of one rule of the workflow, or of all of them at once."""

import csv
import io
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from robustgap.measures._code import code_id
from robustgap.measures._compute import Row, compute, contexts
from robustgap.measures._images import prepare
from robustgap.measures._state import FATAL
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
OUT = "measures/{name}/{chunk}.csv"  # below the results of the study
SPLIT = "train"
SEED = 0  # of every random number a measure draws


@dataclass(frozen=True)
class Task:
    """One measure on the models of the chunk: its code id and its table. Rows of each model are cached beside it, those
    of an early stop under a name of their own."""

    measured: Measure
    code: str
    out: Path
    target_se: float | None

    def cache(self, model: str) -> Path:
        stop = "" if self.target_se is None else f".se{self.target_se:g}"
        return self.out.parent / "cache" / f"{model}.{self.code}{stop}.json"


def run(
    asked: Iterable[str],
    plan: dict,
    chunk: str,
    results: Path,
    out: str | Path | None = None,
    *,
    target_se: float | None = None,
) -> None:
    """Compute measures on the models of `chunk` and write a table for each, a CSV with the columns above.

    asked: names, families or 'all'. out: the table; for several measures a pattern with '{name}' in it; default:
    RESULTS/measures/{name}/CHUNK.csv, where the workflow looks for them. target_se: see `measures.evaluate`.
    Each model and its images are loaded once, and what several measures need is computed once. Models of collapsed
    runs are left out. Each model's rows are cached beside the table as soon as they are known, so a killed chunk
    resumes; what failed unforeseen is missing with its reason in the table, and is not cached.
    Raises LookupError for an unknown measure or chunk, ValueError for a pattern without a name or target_se without
    `out`, FileFault for a damaged or missing file of the study, after removing what makes the workflow make it again,
    and what ends a job: no memory, a broken device.
    """
    if target_se is not None and out is None:
        raise ValueError(
            "--out: found nothing, wanted a path: a table of early stops must not pass for the study's own"
        )
    if chunk not in plan["chunks"]:
        raise LookupError(f"chunk {chunk!r} is not in the plan (known: {', '.join(plan['chunks'])})")
    tasks = open_tasks(select(asked), str(out or results / OUT.replace("{chunk}", chunk)), target_se)
    device = study_device(plan["study"])
    frozen_images.frozen_images(plan["study"])  # raises what is wrong with the data set, for which no model is to blame
    models = finished_models(plan, results, chunk)
    progress = Progress(tasks, len(models))
    tables: dict[str, list[dict]] = {task.measured.name: [] for task in tasks}
    for model in models:
        with rerun_if_damaged(plan, results, model):
            found, cached = model_rows(tasks, plan, results, model, target_se, device)
        progress.report(model, [row for rows in found.values() for row in rows], cached)
        for task in tasks:
            tables[task.measured.name] += [table_row(model, task.code, row) for row in found[task.measured.name]]
    for task in tasks:
        write_table(task.out, tables[task.measured.name])


def open_tasks(measures: list[Measure], out: str, target_se: float | None) -> list[Task]:
    """A task for each measure. Raises ValueError when several of them would write the same file."""
    if len(measures) > 1 and "{name}" not in out:
        raise ValueError(f"--out: found {out} for {len(measures)} measures, wanted a path with {{name}} in it")
    return [Task(one, code_id(one.name), Path(out.replace("{name}", one.name)), target_se) for one in measures]


def finished_models(plan: dict, results: Path, chunk: str) -> list[str]:
    """The models of a chunk, without those of collapsed runs."""
    models = []
    for model, entry in plan["models"].items():
        if entry["chunk"] == chunk:
            with rerun_if_damaged(plan, results, model):
                models += [] if planned.collapsed(plan, results, model) else [model]
    return models


def model_rows(
    tasks: list[Task], plan: dict, results: Path, model: str, target_se: float | None, device: torch.device
) -> tuple[dict[str, list[dict]], int]:
    """({measure: rows, one per variant}, how many measures came from the cache). The rows of a foreign model that
    cannot be loaded say why; a model of our own raises what loading it or its images raises."""
    found: dict[str, list[dict]] = {}
    try:
        # the name stands for weights, images, attack and version
        made_from = {
            "inputs": frozen_images.cache_file(plan, results, model).name,
            "seed": SEED,
            "target_se": target_se,
        }
        kept = {task.measured.name: recall(task.cache(model), made_from) for task in tasks}
        found = {name: rows for name, rows in kept.items() if rows is not None}
        left = [task for task in tasks if task.measured.name not in found]
        cached = len(found)
        for task, rows in measure_model(left, plan, results, model, target_se, device) if left else ():
            found[task.measured.name] = rows
            if not any(row["failed"] for row in rows):
                write_atomically(task.cache(model), json.dumps({**made_from, "rows": rows}) + "\n")
    except FATAL:
        raise
    except Exception as error:  # a foreign model may fail in any way, and must not lose the others
        if plan["models"][model]["source"] == "grid" or isinstance(error, frozen_images.OutcomesFault):
            raise
        reason, cached = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", 0
        found = {task.measured.name: found.get(task.measured.name) or missing(task.measured, reason) for task in tasks}
    return found, cached


def measure_model(
    tasks: list[Task], plan: dict, results: Path, model_id: str, target_se: float | None, device: torch.device
) -> Iterator[tuple[Task, list[dict]]]:
    """Rows of one model, one per variant, task by task. Raises what loading the model or its images raises."""
    study, given = plan["study"], frozen_images.measure_batch(plan, results, model_id)
    model = channels_last(planned.load_planned_model(plan, results, model_id, device))
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
        target_se=target_se,
    )
    shared = contexts(model, data)
    bar = tqdm(tasks, desc=model_id, leave=False, disable=True if len(tasks) == 1 else None)
    for task in bar:
        bar.set_postfix_str(task.measured.name)
        variants = task.measured.variants
        yield task, [asdict(compute(task.measured, model, data, variant, shared)) for variant in variants]


def missing(measured: Measure, reason: str) -> list[dict]:
    """Rows of a model that could not be measured at all."""
    return [asdict(Row(measured.name, v, None, None, 0, 0.0, 0, reason, failed=True)) for v in measured.variants]


def recall(cache: Path, made_from: dict) -> list[dict] | None:
    """Rows from the cache; None where there are none, or where they were made from something else. A damaged file is
    named on stderr."""
    if not cache.exists():
        return None
    try:
        content = read_json(cache)
        if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
            raise FileFault(f"{cache}: found no rows of a measure")
    except FileFault as error:
        print(f"{error}: computed again", file=sys.stderr)
        return None
    same = all(content.get(key) == value for key, value in made_from.items())
    return content["rows"] if same else None


def table_row(model: str, code: str, row: dict) -> dict:
    values = {key: "" if row[key] is None else row[key] for key in ("value", "se")}
    rest = {"model": model, "n_images": row["n"], "split": SPLIT, "seed": SEED, "code_id": code}
    row = {**row, **values, **rest, "seconds": f"{row['seconds']:.4f}"}
    return {column: row[column] for column in COLUMNS}


def write_table(out: Path, rows: list[dict]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(out, text.getvalue())


class Progress:
    """One line per model on stderr: what was found, in what time, and how long the rest will take at that pace."""

    def __init__(self, tasks: list[Task], total: int):
        self.tasks, self.total, self.done, self.computed, self.start = len(tasks), total, 0, 0, time.perf_counter()
        self.name = tasks[0].measured.name if self.tasks == 1 else f"{self.tasks} measures"

    def report(self, model: str, rows: list[dict], cached: int) -> None:
        self.done, self.computed = self.done + 1, self.computed + (cached < self.tasks)
        pace = (time.perf_counter() - self.start) / max(self.computed, 1)
        seconds = f"{sum(row['seconds'] for row in rows):.2f} s"
        if cached:
            seconds = "cached" if cached == self.tasks else f"{cached} measures cached"
        left = f"about {pace * (self.total - self.done):.0f} s left"
        said = f"{self.name} [{self.done}/{self.total}] {model}: {self.values(rows)} ({seconds}; {left})"
        print(said, file=sys.stderr, flush=True)

    def values(self, rows: list[dict]) -> str:
        if self.tasks > 1:
            lost = sum(row["value"] is None for row in rows)
            return f"{len(rows) - lost} values" + f", {lost} missing" * (lost > 0)
        return ", ".join(
            f"{r['variant']} {'missing' if r['value'] is None else format(r['value'], '.4g')}" for r in rows
        )
