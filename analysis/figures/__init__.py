"""Figures of a ledger, one file each: `draw(ledger) -> Figure`, `data(ledger)` the plotted numbers, `CAPTION`.

A figure's name is its file's name; files starting with an underscore are shared helpers. ORDER is the figure's position
in the report, TITLE its heading, and CAPTION a template with fields in braces (see `facts`).
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
    """Names of all figures, in reading order."""
    found = [entry.name for entry in pkgutil.iter_modules(__path__) if not entry.name.startswith("_")]
    return sorted(found, key=lambda name: (module(name).ORDER, name))


def facts(ledger: Ledger) -> dict[str, object]:
    """Values for the fields of captions."""
    least = _statistics.table(ledger, "sign_errors")["min_ess"].max()
    told = {"ceilings": _statistics.ceiling_words(ledger), "min_ess": "undefined" if least != least else f"{least:g}"}
    return {**_numbers.facts(ledger), **told}


def caption(name: str, ledger: Ledger) -> str:
    """The caption of one figure, with n, attack, interval method and draws of this ledger filled in."""
    return module(name).CAPTION.format(**facts(ledger))


def draw_one(name: str, ledger: Ledger, out: Path) -> list[Path]:
    """Draw one figure and its data into folder `out`; returns the files written."""
    written = _style.save(module(name).draw(ledger), out / name)
    write_csv(module(name).data(ledger), out / f"{name}.csv")
    return [*written, out / f"{name}.csv"]


def draw_all(ledger: Ledger, out: str | Path, statistics: str | Path | None = None, jobs: int = 1) -> list[Path]:
    """Draw every figure into folder `out` as NAME.pdf, NAME.svg, NAME.png, with its data as NAME.csv.

    statistics: folder with this ledger's statistics; None computes the ones needed. jobs: number of parallel processes.
    Returns the files written. Raises FileNotFoundError or ValueError if `statistics` lacks a table that is needed.
    """
    if statistics is not None:
        _numbers.take(ledger, Path(statistics))
    if jobs == 1:
        return [path for name in names() for path in draw_one(name, ledger, Path(out))]
    _statistics.prepare(ledger)  # once, before the ledger is sent to other processes
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        drawn = [pool.submit(draw_one, name, ledger, Path(out)) for name in names()]
        return [path for one in drawn for path in one.result()]
