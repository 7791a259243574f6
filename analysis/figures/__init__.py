"""Figures of a ledger, one file each: `draw(ledger) -> Figure`, `data(ledger)` the numbers drawn, `CAPTION`.

A figure is found by its file's name; files starting with an underscore are shared helpers. ORDER is its place in the
report, TITLE its heading, and CAPTION a text with fields in braces (see `facts`).
"""

import importlib
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

from robustgap.analysis.figures import _numbers, _statistics, _style
from robustgap.analysis.files import write_csv
from robustgap.analysis.ledger import Ledger


def module(name: str) -> ModuleType:
    """The module of one figure."""
    return importlib.import_module(f"{__name__}.{name}")


def names() -> list[str]:
    """Names of all figures, in the order in which a reader meets them."""
    found = [entry.name for entry in pkgutil.iter_modules(__path__) if not entry.name.startswith("_")]
    return sorted(found, key=lambda name: (module(name).ORDER, name))


def facts(ledger: Ledger) -> dict[str, object]:
    """What captions state about a ledger."""
    least = _statistics.table(ledger, "sign_errors")["min_ess"].max()
    told = {"ceilings": _statistics.ceiling_words(ledger), "min_ess": "undefined" if least != least else f"{least:g}"}
    return {**_numbers.facts(ledger), **told}


def caption(name: str, ledger: Ledger) -> str:
    """The caption of one figure, with n, attack, interval method and draws of this ledger filled in."""
    return module(name).CAPTION.format(**facts(ledger))


def draw_one(name: str, ledger: Ledger, out: Path) -> list[Path]:
    """Draw one figure into folder `out`, its numbers beside it; returns the files written."""
    written = _style.save(module(name).draw(ledger), out / name)
    write_csv(module(name).data(ledger), out / f"{name}.csv")
    return [*written, out / f"{name}.csv"]


def draw_all(ledger: Ledger, out: str | Path, statistics: str | Path | None = None, jobs: int = 1) -> list[Path]:
    """Draw every figure into folder `out` as NAME.pdf, NAME.svg, NAME.png, and its numbers as NAME.csv.

    statistics: the folder of this ledger's statistics, to spare computing them again; None computes what is drawn.
    jobs: processes that draw side by side. Returns the files written. Raises FileNotFoundError or ValueError when
    `statistics` lacks a table that is drawn.
    """
    if statistics is not None:
        _numbers.take(ledger, Path(statistics))
    if jobs == 1:
        return [path for name in names() for path in draw_one(name, ledger, Path(out))]
    _statistics.prepare(ledger)  # once, before the ledger is handed to other processes
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        drawn = [pool.submit(draw_one, name, ledger, Path(out)) for name in names()]
        return [path for one in drawn for path in one.result()]
