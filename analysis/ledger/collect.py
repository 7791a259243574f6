"""Builds the ledger from a study's results: one row for every planned model, whatever its status."""

import datetime
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.damage import set_aside_if_damaged
from robustgap.analysis.files import read_json, read_parquet, write_parquet
from robustgap.analysis.ledger import (
    CHECKPOINT,
    COLUMNS,
    GRADIENT_MASKING,
    KEYS,
    LATER_NUMBERS,
    LATER_TEXT,
    NA,
    NO_CLAIM,
    NUMBERS,
    ORIGIN,
    TRAIN_LOSS,
    VALIDATED,
    Ledger,
    split_flags,
    text,
)
from robustgap.analysis.ledger.extension import extended, extended_bits
from robustgap.analysis.ledger.masking import masking_signs
from robustgap.analysis.ledger.measure_csv import read_measures
from robustgap.analysis.ledger.origins import arithmetic, flag_other_arithmetic, trainings

BITS = ["bits", "index_sha"]
ATTACKED = "pgd10"  # the outcome of every model that was evaluated; others may be limited to some, or not be made yet
EPOCH_KEYS = {"last": "epochs", "best": "best_epoch"}  # the key of run.json that holds a checkpoint's epoch
LOGGED = {**VALIDATED, TRAIN_LOSS: TRAIN_LOSS}  # columns of runs by their column in a log
OUTCOME_COLUMNS = [*COLUMNS["outcomes"], *LATER_TEXT, *LATER_NUMBERS, *BITS, "reason"]
# Settings listed even for a study without runs of its own (NA unless the model's entry has a value).
FEWEST_SETTINGS = ("data", "architecture", "defense", "norm", "eps")


def logged(log: Path, epoch: int) -> dict[str, float]:
    """Accuracy on validation images, clean and under PGD-10, as fractions, and training loss after an epoch; {} if
    there is no log.

    Raises ValueError naming the file if it does not contain them.
    """
    if not log.is_file():
        return {}
    try:
        epochs = pd.read_csv(log).set_index("epoch")
        return {name: float(epochs.loc[epoch, column]) for name, column in LOGGED.items()}
    except (KeyError, ValueError, TypeError) as error:
        wanted = ", ".join(LOGGED.values())
        raise ValueError(f"{log}: found no {wanted} of epoch {epoch}, wanted a whole training log") from error


def grid_row(entry: dict[str, Any], plan: dict[str, Any], results: Path) -> dict[str, Any]:
    """What is known about one checkpoint of a run: its settings and, if training finished, its run.json."""
    run = entry["run"]
    settings = {key: text(value) for key, value in plan["runs"][run]["settings"].items()}
    row = {"run": run, "checkpoint": entry["checkpoint"], "source": "grid", **settings}
    path = results / "runs" / run / "run.json"
    if not path.is_file():
        return {**row, "status": "failed", "reason": f"no runs/{run}/run.json: training did not come to its end"}
    record = read_json(path, ["run", "status", "reason", "flags", "epochs", "seconds", "device"])
    if record["run"] != run:
        raise ValueError(f"{path}: found the record of run {record['run']}, wanted {run}")
    if record["status"] not in ("finished", "collapsed"):
        raise ValueError(f"{path}: found status {record['status']!r}, wanted finished or collapsed")
    done = {key: record[key] for key in ("status", "reason", "seconds", "device")}
    # The column `epochs` holds the number trained, unless the number of epochs is an axis of the study.
    epochs = settings["epochs"] if "epochs" in plan["axes"] else text(record["epochs"])
    accuracies = logged(path.with_name("log.csv"), record.get(EPOCH_KEYS[entry["checkpoint"]], record["epochs"]))
    origin = {
        "arithmetic": arithmetic(record.get("made_by", [])),
        "weights_sha256": record.get("weights_sha256", {}).get(entry["checkpoint"], ""),
    }
    return {**row, **done, **accuracies, **origin, "flags": ";".join(record["flags"]), "epochs": epochs}


def train_again(entry: dict[str, Any], plan: dict[str, Any], results: Path) -> None:
    """Remove the files that keep the workflow from training a damaged run again: the manifest of its batch, and the
    outcomes of its chunk, since nothing would request the manifest otherwise. Intact results stay in their caches."""
    tables = [name for name, chunk in outcome_tables(plan).items() if chunk == entry["chunk"]]
    for file in (f"runs/{plan['runs'][entry['run']]['batch']}.json", *tables):
        (results / file).unlink(missing_ok=True)


def foreign_row(entry: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """Row of a model trained elsewhere: settings are NA, except data, norm and eps."""
    settings = {"data": entry.get("dataset"), "norm": entry.get("threat"), "eps": plan["study"].get("eps")}
    return {"source": entry["source"], "status": "finished", **{key: text(value) for key, value in settings.items()}}


def run_table(plan: dict[str, Any], results: Path) -> pd.DataFrame:
    """The table `runs`, before outcomes are read."""
    rows = []
    for model, entry in plan["models"].items():
        try:
            row = grid_row(entry, plan, results) if entry["source"] == "grid" else foreign_row(entry, plan)
        except ValueError as error:  # only runs have files
            train_again(entry, plan, results)
            raise ValueError(f"{error}: run again, and it is trained anew") from error
        rows.append({"model": model, **row})
    settings = dict.fromkeys(key for run in plan["runs"].values() for key in run["settings"]) or FEWEST_SETTINGS
    first = ["run", "model", CHECKPOINT, "seed", "source"]
    last = ["status", "flags", "reason", "epochs", "seconds", "device", *LOGGED, *ORIGIN]
    middle = [key for key in settings if key not in [*first, *last]]
    # object: an empty column would otherwise be float and reject text
    table = pd.DataFrame(rows, columns=[*first, *middle, *last], dtype=object)
    blank = {key: "" for key in ("flags", "reason", "device", *ORIGIN)}
    table = table.fillna({**dict.fromkeys([*first, *middle, "epochs"], NA), **blank})
    numbers = dict.fromkeys(["seconds", *LOGGED], float)
    return table.astype({**dict.fromkeys(table.columns, str), **numbers})


def read_outcomes(plan: dict[str, Any], results: Path) -> pd.DataFrame:
    """Outcomes of all groups and chunks, with correctness bits. A missing file gives no rows; a model that could not be
    evaluated has one row with n = 0 and the reason.

    Raises ValueError naming the file if it is truncated, lacks a column, repeats a row or names a model not planned in
    its chunk.
    """
    tables = [pd.DataFrame(columns=OUTCOME_COLUMNS)]
    for name, chunk in outcome_tables(plan).items():
        path = results / name
        if not path.is_file():
            continue
        with set_aside_if_damaged(path):
            rows = read_parquet(path, OUTCOME_COLUMNS)
        unknown = [model for model in rows["model"] if plan["models"].get(model, {}).get("chunk") != chunk]
        if unknown:
            raise ValueError(f"{path}: found model {unknown[0]}, which the plan does not list in this chunk")
        repeated = rows[rows.duplicated(KEYS["outcomes"])]
        if len(repeated):
            row = repeated.iloc[0]
            raise ValueError(f"{path}: found two rows for {row['model']} {row['split']} {row['outcome']}, wanted one")
        tables += [rows] if len(rows) else []
    table = pd.concat(tables[1:] or tables, ignore_index=True)
    numbers = dict.fromkeys([*NUMBERS["outcomes"], *LATER_NUMBERS], float)
    return table.astype(numbers).astype({"n": int}).sort_values(KEYS["outcomes"], ignore_index=True)


def outcome_tables(plan: dict[str, Any]) -> dict[str, str]:
    """{table of outcomes, below the study's folder: its chunk}: of what all models need, then of every group."""
    folders = ["outcomes", *(f"outcomes/{group}" for group in plan.get("outcomes", {}))]
    return {f"{folder}/{chunk}.parquet": chunk for folder in folders for chunk in plan["chunks"]}


def without_outcomes(runs: pd.DataFrame, outcomes: pd.DataFrame, plan: dict[str, Any], results: Path) -> pd.DataFrame:
    """`runs` with each finished model that lacks the outcome that every model has marked as failed, with the reason."""
    reasons = outcomes.loc[outcomes["n"] == 0].drop_duplicates("model").set_index("model")["reason"]
    evaluated = outcomes.loc[(outcomes["n"] > 0) & (outcomes["outcome"] == ATTACKED), "model"]
    missing = (runs["status"] == "finished") & ~runs["model"].isin(evaluated)
    for row, model in runs.loc[missing, "model"].items():
        file = f"outcomes/{plan['models'][model]['chunk']}.parquet"
        default = f"no rows in {file}" if (results / file).is_file() else f"missing file {file}"
        runs.loc[row, ["status", "reason"]] = ["failed", reasons.get(model, default)]
    return runs


def with_evidence(runs: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """`runs` with the reasons that the outcomes give for the flags of evaluated models."""
    rows = outcomes[(outcomes["n"] > 0) & (outcomes["reason"].fillna("") != "")]
    evidence = dict(zip(rows["model"], rows["reason"], strict=True))
    reasons = [evidence.get(model, reason) for model, reason in zip(runs["model"], runs["reason"], strict=True)]
    return runs.assign(reason=reasons)


def with_masking(runs: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """`runs` with the flag GRADIENT_MASKING, and the reason, for models whose outcomes on test images contradict each
    other (analysis.ledger.masking)."""
    rows = outcomes[(outcomes["split"] == "test") & (outcomes["attack"] != "clean")]
    signs = {model: masking_signs(outcome_bits(part)) for model, part in rows.groupby("model") if len(part) > 1}
    runs = runs.copy()
    for row, model in runs["model"].items():
        if sign := signs.get(model):
            flags = [*split_flags(runs.loc[row, "flags"]), GRADIENT_MASKING]
            reasons = [text for text in (runs.loc[row, "reason"], sign) if text]
            runs.loc[row, ["flags", "reason"]] = [";".join(dict.fromkeys(flags)), "; ".join(reasons)]
    return runs


def outcome_bits(rows: pd.DataFrame) -> dict[tuple[str, str, float], np.ndarray]:
    """Correctness bits of one model by attack (with its options), norm and eps."""
    named = {row.outcome: row.attack + (f"+{row.options}" if row.options else "") for row in rows.itertuples()}
    return {
        (named[row.outcome], row.norm, row.eps): np.unpackbits(np.frombuffer(row.bits, np.uint8))[: row.n].astype(bool)
        for row in rows.itertuples()
    }


def study_catalogue(entries: dict[str, Any], names: list[str], measures: pd.DataFrame) -> dict[str, Any]:
    """Catalogue entries of the study's measures; an entry without claims for a measure written in another language."""
    variants = measures.groupby("measure")["variant"].unique()
    defaults = {name: {**NO_CLAIM, "variants": list(variants.get(name, []))} for name in names}
    return {name: entries.get(name, defaults[name]) for name in names}


def versions() -> dict[str, Any]:
    """Versions of the packages that made the ledger."""
    return {name: importlib.metadata.version(name) for name in ("numpy", "pandas", "pyarrow")}


def collect(
    results: str | Path,
    out: str | Path,
    catalogue: str | Path | None = None,
    find: Callable[[str], Path] = Path,
) -> Ledger:
    """Read plan.json, runs/, outcomes/, measures/ and the catalogue of `results`; write the ledger into `out`.

    catalogue: file written by `python -m robustgap.measures list --json` (default: catalogue.json in `results`). find:
    maps the name of the ledger that the study extends to its folder. Also writes bits.parquet, the packed correctness
    bits per model, split and attack, so that paired tests can be repeated. Raises FileNotFoundError or ValueError
    naming the file at fault, before anything is written.
    """
    results, out = Path(results), Path(out)
    plan = read_json(results / "plan.json", ["study", "axes", "runs", "models", "chunks", "excluded"])
    names = plan["study"]["measures"]
    base = Ledger.load(find(plan["study"]["extends"])) if "extends" in plan["study"] else None
    outcomes = read_outcomes(plan, results)
    runs = flag_other_arithmetic(without_outcomes(run_table(plan, results), outcomes, plan, results))
    outcomes = outcomes[(outcomes["n"] > 0) & outcomes["model"].isin(runs.loc[runs["status"] == "finished", "model"])]
    runs = with_masking(with_evidence(runs, outcomes), outcomes)
    evaluated = set(outcomes["model"])
    chunks: dict[str, dict[str, Any]] = {chunk: {} for chunk in plan["chunks"]}
    for model, entry in plan["models"].items():
        chunks[entry["chunk"]][model] = model in evaluated
    path = Path(catalogue) if catalogue else results / "catalogue.json"
    with set_aside_if_damaged(path):
        entries = read_json(path)
    measures = read_measures(results, names, chunks, entries)
    study = {key: value for key, value in plan.items() if key not in ("runs", "models", "batches", "chunks")}
    origin = {
        "trainings": trainings(plan, results),
        "packages": versions(),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    tables = {"runs": runs, "outcomes": outcomes.drop(columns=[*BITS, "reason"]), "measures": measures}
    ledger = Ledger(**tables, catalogue=study_catalogue(entries, names, measures), study=study | origin, path=out)
    bits = outcomes.loc[outcomes["bits"].map(len) > 0, [*KEYS["outcomes"], "attack", "n", *BITS]]
    if base:
        ledger, bits = extended(ledger, base), extended_bits(bits, base.path)
    ledger.check()
    write_parquet(bits, out / "bits.parquet")
    ledger.write(out)
    return ledger
