"""Interim ledger and report of a study, from the results so far: while it runs, or after jobs failed for good.

Intact files are copied first and only the copy is read: nothing of the study is moved aside, and a file being written
by a job is taken in its earlier state or not at all. What is missing, and why, is recorded in study.json under
`interim` and shown at the top of the report.
"""

import datetime
import json
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from robustgap.analysis.files import read_json, write_text
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.ledger.collect import collect, outcome_tables

EXAMPLES = 3  # examples listed per reason
ERROR_LINE = re.compile(r"^(?:error: .*|[\w.]*(?:Error|Exception|Interrupt)\b.*)$", re.MULTILINE)


def input_files(plan: dict[str, Any]) -> list[str]:
    """Every file a ledger is made from, relative to the study's folder."""
    runs = [f"runs/{run}/{name}" for run in plan["runs"] for name in ("run.json", "log.csv")]
    measures = [f"measures/{name}/{chunk}.csv" for name in plan["study"]["measures"] for chunk in plan["chunks"]]
    return ["plan.json", "catalogue.json", *runs, *outcome_tables(plan), *measures]


def copy_new(names: Iterable[str], results: Path, copy: Path, damaged: dict[str, str]) -> None:
    """Copy files that exist, are not known to be damaged and are not yet copied, keeping their times."""
    for name in names:
        source, target = results / name, copy / name
        if name in damaged or target.exists() or not source.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copy2(source, target)
        except FileNotFoundError:  # removed meanwhile, to be made again
            target.unlink(missing_ok=True)


def collect_so_far(plan: dict[str, Any], results: Path, out: Path) -> tuple[Ledger, set[str], dict[str, str]]:
    """The ledger of the results so far, written to `out`; the files used for it, and {damaged file: fault}.

    Raises ValueError if no model has been evaluated yet.
    """
    names, damaged = input_files(plan), dict[str, str]()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        while True:
            copy_new(names, results, copy, damaged)
            present = {name for name in names if (copy / name).is_file()}
            if not (copy / "catalogue.json").is_file():
                write_text("{}\n", copy / "catalogue.json")
            try:
                ledger = collect(copy, out)
                return ledger, present, damaged
            except ValueError as error:  # names the file, but that of the copy
                faulty = next((name for name in present if str(error).startswith(str(copy / name))), None)
                if faulty is None or faulty == "plan.json":
                    raise
                fault = str(error).removeprefix(f"{copy / faulty}").replace(str(copy), str(results))
                damaged[faulty] = f"damaged{fault.partition(': run again')[0].partition('; moved')[0]}"
                (copy / faulty).unlink(missing_ok=True)


def error_in(log: Path) -> str:
    """The error in a job's log; '' if there is none."""
    try:
        lines = ERROR_LINE.findall(log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return lines[-1].removeprefix("error: ") if lines else ""


def job_state(results: Path, *logs: str) -> str:
    """Why a job has not made its file, from its log: the first of `logs` that exists."""
    for name in logs:
        if (results / "logs" / name).is_file():
            return error_in(results / "logs" / name) or "no error in its log: it is running, or was interrupted"
    return "not begun"


def missing_items(
    plan: dict[str, Any], results: Path, present: set[str], damaged: dict[str, str]
) -> list[dict[str, Any]]:
    """Missing items by kind: {what, missing, planned, reasons: [{count, reason, examples}]}."""
    runs, outcomes, measures = dict[str, str](), dict[str, str](), dict[str, str]()
    waiting = defaultdict(list)
    for run, entry in plan["runs"].items():
        if f"runs/{run}/run.json" not in present:
            locked = any((results / "runs" / run).glob("lock.*"))
            reason = (
                "in training, or interrupted during it" if locked else job_state(results, f"train/{entry['batch']}.log")
            )
            runs[run] = damaged.get(f"runs/{run}/run.json", reason)
            waiting[entry["chunk"]].append(run)
    for file, chunk in outcome_tables(plan).items():
        if file not in present:
            name = file.removeprefix("outcomes/").removesuffix(".parquet")
            reason = "wait for trainings" if waiting[chunk] else job_state(results, f"outcomes/{name}.log")
            outcomes[name] = damaged.get(file, reason)
    for chunk in plan["chunks"]:
        for name in plan["study"]["measures"]:
            if (file := f"measures/{name}/{chunk}.csv") not in present:
                logs = (f"measures/{name}/{chunk}.log", f"measures/measures/{chunk}.log")
                reason = "wait for outcomes" if chunk in outcomes else job_state(results, *logs)
                measures[f"{name} of {chunk}"] = damaged.get(file, reason)
    planned = {"trainings": len(plan["runs"]), "outcomes (chunks of models)": len(outcome_tables(plan))}
    planned["measures (of a chunk each)"] = len(plan["chunks"]) * len(plan["study"]["measures"])
    kinds = zip(planned.items(), (runs, outcomes, measures), strict=True)
    return [
        {"what": what, "missing": len(absent), "planned": count, "reasons": by_reason(absent)}
        for (what, count), absent in kinds
    ]


def by_reason(absent: dict[str, str]) -> list[dict[str, Any]]:
    """[{count, reason, examples}], most frequent reason first."""
    grouped = defaultdict(list)
    for name, reason in absent.items():
        grouped[reason].append(name)
    ordered = sorted(grouped.items(), key=lambda item: -len(item[1]))
    return [{"count": len(names), "reason": reason, "examples": names[:EXAMPLES]} for reason, names in ordered]


def missing_sentences(items: list[dict[str, Any]]) -> list[str]:
    """One line for each kind with missing items."""
    lines = []
    for kind in (kind for kind in items if kind["missing"]):
        reasons = []
        for reason in kind["reasons"]:
            more = ", …" if reason["count"] > len(reason["examples"]) else ""
            reasons.append(f"{reason['count']} × {reason['reason']} ({', '.join(reason['examples'])}{more})")
        lines.append(f"{kind['what']}: {kind['missing']:,} of {kind['planned']:,} missing: {'; '.join(reasons)}")
    return lines


def write_interim(results: Path, out: Path) -> list[str]:
    """Write ledger/, analysis/, figures/, tables/ and report.html into `out` from a study's results so far; returns
    sentences on what is missing. Raises FileNotFoundError without a plan, and ValueError if no model has been
    evaluated."""
    from robustgap.analysis.figures import draw_all
    from robustgap.analysis.report import write
    from robustgap.analysis.statistics import Statistics
    from robustgap.analysis.statistics_folder import write_statistics
    from robustgap.analysis.tables import write_views

    plan = read_json(results / "plan.json", ["study", "axes", "runs", "models", "chunks", "excluded"])
    ledger, present, damaged = collect_so_far(plan, results, out / "ledger")
    missing = missing_items(plan, results, present, damaged)
    lines = missing_sentences(missing)
    if not (ledger.runs["status"] == "finished").any():
        nothing = f"{results}: no model has been evaluated yet, so there is nothing to report"
        raise ValueError("\n".join([nothing, *lines]))
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    # An interim report must be quick and its verdicts are provisional: skip judging again without each configuration.
    ledger.study["study"]["analysis"] = {**ledger.study["study"].get("analysis", {}), "removals": False}
    ledger.study["interim"] = {"made": made, "missing": missing, "sentences": lines}
    write_text(json.dumps(ledger.study, indent=1) + "\n", out / "ledger" / "study.json")
    write_statistics(Statistics(ledger), out / "analysis")
    statistics = Statistics(ledger, out / "analysis")
    draw_all(statistics, out / "figures")
    write_views(statistics, out / "tables")
    write(statistics, out / "figures", out / "report.html")
    return lines
