"""Makes the plan of a study: its runs, models and jobs. Imports no torch.

python -m robustgap.workflow.grid STUDY|FILE                  print what a study trains, and its cost
python -m robustgap.workflow.grid STUDY|FILE --out plan.json  also write the plan, to run single stages by hand
"""

import argparse
import itertools
import json
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from robustgap.training.paths import given_path
from robustgap.training.settings import (
    OUTCOMES_VERSION,
    TRAINING_VERSION,
    Entry,
    Plan,
    Settings,
    StudyFile,
    chunk_of,
    complete,
    model_id,
    run_id,
)
from robustgap.workflow import missing_files
from robustgap.workflow.estimate import disk, hours, rates
from robustgap.workflow.names import nearest
from robustgap.workflow.outcomes import OutcomeError, outcome_plan
from robustgap.workflow.study import read_study, resolve, study_file
from robustgap.workflow.study_faults import StudyError


def grid_cells(study: StudyFile) -> tuple[dict[str, Settings], int]:
    """Complete settings (without seed) of every cell of the grid, by their id, and how many cells coincide with an
    earlier one because a setting does not apply to them."""
    fixed = {"data": study["data"], "norm": study["norm"], "eps": study["eps"], **study["settings"]}
    combinations = list(itertools.product(*study["axes"].values())) if study["axes"] else []
    cells_by_id: dict[str, Settings] = {}
    for values in combinations:
        settings = complete({**fixed, **dict(zip(study["axes"], values, strict=True))})
        del settings["seed"]
        cells_by_id.setdefault(run_id(settings), settings)
    return cells_by_id, len(combinations) - len(cells_by_id)


def matches(settings: Settings, where: dict[str, Any]) -> bool:
    """Whether a configuration has, for each setting in `where`, that value (or one of those in a list)."""
    return all(settings[key] in (value if isinstance(value, list) else [value]) for key, value in where.items())


def exclusions(study: StudyFile, cells: dict[str, Settings]) -> dict[str, int]:
    """{configuration: number of the first exclusion that names it}.

    Raises StudyError for an exclusion that names an unknown setting, or a value that the grid does not have: it would
    silently exclude nothing.
    """
    excluded_by: dict[str, int] = {}
    for number, rule in enumerate(study["exclude"]):
        for key, value in rule["where"].items():
            field, known = f"exclude[{number}].where.{key}", next(iter(cells.values()), {})
            if key not in known:
                raise StudyError(f"{field}: unknown setting{nearest(key, known) or '; known: ' + ', '.join(known)}")
            values = list(dict.fromkeys(settings[key] for settings in cells.values()))
            for excluded in value if isinstance(value, list) else [value]:
                if excluded not in values:
                    listed = ", ".join(map(str, values))
                    raise StudyError(f"{field}: found {excluded!r}, the grid has {listed}{nearest(excluded, values)}")
        for name, settings in cells.items():
            if matches(settings, rule["where"]):
                excluded_by.setdefault(name, number)
    return excluded_by


def make_plan(study: StudyFile) -> Plan:
    """All runs, models, jobs and exclusions of a resolved study. Raises StudyError if there is no model."""
    cells, _ = grid_cells(study)
    excluded = exclusions(study, cells)
    trained = [settings for name, settings in cells.items() if name not in excluded]
    for settings in trained:
        if settings["awp"] and settings["sam"] != "none":
            raise StudyError(
                f"sam: found {settings['sam']!r} with awp, wanted only one of the two in a training; see `exclude`"
            )
    runs: dict[str, Entry] = {}
    for settings, seed in itertools.product(trained, study["seeds"]):
        run = run_id({**settings, "seed": seed})
        chunk = chunk_of(run, study["chunks"])
        batch = run if study["train_jobs"] == "run" else chunk
        runs[run] = {"settings": {**settings, "seed": seed}, "chunk": chunk, "batch": batch}
    models = {
        model_id(run, checkpoint): {"source": "grid", "run": run, "checkpoint": checkpoint, "chunk": entry["chunk"]}
        for run, entry in runs.items()
        for checkpoint in study["checkpoints"]
    }
    for entry in study["models"]:
        if entry["source"] == "file":
            model, entry = f"file-{entry['name']}", {**entry, "dataset": study["data"], "threat": study["norm"]}
        else:
            model = f"rb-{entry['dataset']}-{entry['threat']}-{entry['name']}"
        if model in models:
            raise StudyError(f"models: found {entry['name']!r} twice, wanted distinct names")
        models[model] = {**entry, "chunk": chunk_of(model, study["chunks"])}
    if not models:
        why = "every combination is excluded" if cells else "found nothing, wanted at least one axis, or models"
        raise StudyError(f"axes: {why}")
    try:
        outcomes = outcome_plan(study, models)
    except OutcomeError as error:
        raise StudyError(str(error)) from error
    batches = defaultdict(list)
    for run, entry in runs.items():
        batches[entry["batch"]].append(run)
    counts = Counter(excluded.values())
    return {
        "study": study,
        "axes": [axis for axis in study["axes"] if len({str(settings[axis]) for settings in trained}) > 1],
        "code": {"training": TRAINING_VERSION, "outcomes": OUTCOMES_VERSION},
        "runs": runs,
        "models": models,
        "batches": dict(sorted(batches.items())),
        "outcomes": outcomes,
        "chunks": sorted({entry["chunk"] for entry in models.values()}),
        "excluded": [{**rule, "count": counts[i] * len(study["seeds"])} for i, rule in enumerate(study["exclude"])],
    }


def open_plan(config: StudyFile, origin: str | Path) -> Plan:
    """The plan of a configuration. Raises StudyError, each line starting with `origin`."""
    study = resolve(config, origin)
    try:
        return make_plan(study)
    except StudyError as error:
        raise StudyError(f"{origin}: {error}") from error


def plan_or_exit(config: StudyFile, files: list[str | Path]) -> Plan:
    """`open_plan` for the Snakefile: on faults, prints them without Snakemake's traceback and ends the process."""
    try:
        for file in files:
            read_study(file)  # as strict as `python -m robustgap.workflow.grid`: Snakemake accepts duplicate keys
        return open_plan(config, ", ".join(os.path.relpath(file) for file in files) or "config of the module")
    except StudyError as error:
        raise SystemExit(str(error)) from error


def write_plan(plan: Plan, out: Path) -> None:
    """Write plan.json through a temporary file, so that no reader sees half of it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"{out.name}.{os.getpid()}")
    temporary.write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, out)


def parser(prog: str) -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog=prog, description=(__doc__ or "").splitlines()[0])
    command.add_argument("study", metavar="STUDY|FILE", help="a shipped study, such as digits, or a study file")
    command.add_argument("--out", type=given_path, help="write the plan there")
    command.add_argument("--rates", type=given_path, default=rates.RATES, help="measured images per second of devices")
    return command


def main(arguments: list[str] | None = None, prog: str = "python -m robustgap.workflow.grid") -> int:
    options = parser(prog).parse_args(arguments)
    try:
        file = study_file(options.study)
        plan = open_plan(read_study(file), file)
        costs = [*rates.summary_lines(plan, options.rates), ("disk", disk.summary_line(plan))]
        print(hours.plan_summary(plan, [*costs, *missing_files.summary_lines(plan)]))
        if options.out:
            write_plan(plan, options.out)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
