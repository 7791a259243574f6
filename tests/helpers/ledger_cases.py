"""Ledgers that figures and reports must survive: a usual one, and one for each way in which a study can be odd."""

from dataclasses import replace
from pathlib import Path

import ledgers
import numpy as np

from robustgap.analysis.ledger import Ledger

GRID = {"defense": ["Standard", "AT", "TRADES", "MART"], "batch_size": [32, 128], "awp": [False, True]}
DIGITS = {**GRID, "augmentation": ["none", "crop"]}
NASTY = 'a<b>&"c"'  # the name of a value that HTML must escape


def saved(ledger: Ledger, **tables: object) -> Ledger:
    """The ledger with some of its tables replaced, written to its folder and loaded again."""
    replace(ledger, **tables).write(ledger.path)
    return Ledger.load(ledger.path)


def usual(path: Path) -> Ledger:
    return ledgers.make(path)


def four_models(path: Path) -> Ledger:
    return ledgers.make(path, axes={"defense": ["AT", "TRADES"]}, seeds=2, checkpoints=("last",), troubles=False)


def one_axis(path: Path) -> Ledger:
    """No defense axis at all, and one checkpoint rule."""
    return ledgers.make(path, axes={"batch_size": [32, 64, 128]}, seeds=3, checkpoints=("last",))


def no_adversarial(path: Path) -> Ledger:
    ledger = ledgers.make(path)
    return saved(ledger, measures=ledger.measures[ledger.measures["variant"] != "adversarial"])


def all_missing(path: Path) -> Ledger:
    """A measure without a single value, and one with a reason that HTML must escape."""
    ledger = ledgers.make(path)
    lost = ledger.measures["measure"] == "boundary_thickness"
    reason = ledger.measures["reason"].mask(lost, f"no other class <reached> {NASTY}")
    return saved(ledger, measures=ledger.measures.assign(value=ledger.measures["value"].mask(lost), reason=reason))


def robustbench(path: Path) -> Ledger:
    """Foreign checkpoints: no axes, no seeds, settings that do not apply."""
    ledger = ledgers.make(path, axes={"defense": ["AT"]}, seeds=5, checkpoints=("last",), troubles=False)
    runs = ledger.runs.assign(source="robustbench", seed="NA", checkpoint="NA", defense="NA")
    study = {**ledger.study, "axes": [], "study": {**ledger.study["study"], "axes": {}, "checkpoints": []}}
    return saved(ledger, runs=runs, study=study)


def nothing_trained(path: Path) -> Ledger:
    """Every run collapsed."""
    ledger = ledgers.make(path)
    runs = ledger.runs.assign(status="collapsed", reason="loss is not finite in epoch 1")
    return saved(ledger, runs=runs, outcomes=ledger.outcomes.iloc[:0], measures=ledger.measures.iloc[:0])


def nasty_names(path: Path) -> Ledger:
    """A defense, a reason and a summary with characters that HTML, CSV and matplotlib give a meaning to."""
    ledger = ledgers.make(path, axes={"defense": [NASTY, "AT$x_1$"], "batch_size": [32, 128]}, seeds=3)
    runs = ledger.runs.assign(reason=ledger.runs["reason"].mask(ledger.runs["status"] == "failed", NASTY))
    catalogue = {**ledger.catalogue, "num_params": {**ledger.catalogue["num_params"], "summary": NASTY}}
    return saved(ledger, runs=runs, catalogue=catalogue)


CASES = {
    case.__name__: case
    for case in (usual, four_models, one_axis, no_adversarial, all_missing, robustbench, nothing_trained, nasty_names)
}


def digits_size(path: Path, columns: int = 25) -> Ledger:
    """128 models of 32 configurations, and `columns` measure columns on all sorts of scales."""
    ledger = ledgers.make(path, axes=DIGITS)
    rng = np.random.default_rng(1)
    source = ledger.measures[(ledger.measures["measure"] == "average_ce")]
    tables = [ledger.measures]
    for number in range(columns - len(ledger.columns)):
        variant = ("clean", "adversarial")[number % 2]
        one = source[source["variant"] == variant]
        noise = (0.02 + 0.05 * number) * rng.standard_normal(len(one))
        value = one["value"] * (-1) ** (number // 2) + noise
        value = (value, np.exp(9 * value), np.sinh(6 * value), 1e6 * value)[number // 2 % 4]
        tables.append(one.assign(measure=f"measure_{number // 2:02d}", value=value))
    return saved(ledger, measures=ledgers.pd.concat(tables, ignore_index=True))
