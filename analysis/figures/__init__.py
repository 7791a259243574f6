"""Figures of a ledger, one file each: `draw(statistics) -> Figure`, `data(statistics)` the plotted numbers, `CAPTION`.

`statistics` is `analysis.statistics.Statistics(ledger)`; `draw` takes a ledger too. A figure's name is its file's name;
files starting with an underscore are shared helpers. ORDER is the figure's position in the report, TITLE its heading,
and CAPTION a template with fields in braces (analysis.figures._facts.caption_fields).
"""

import pkgutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

from robustgap.analysis.figures import _facts, _style
from robustgap.analysis.files import make_folder, write_csv
from robustgap.analysis.plugins import import_plugin
from robustgap.analysis.statistics import Statistics

PARTS = ("draw", "data", "TITLE", "CAPTION", "ORDER")


def module(name: str) -> ModuleType:
    """The module of one figure. Raises LookupError if it lacks a part, and ValueError if it is not Python."""
    found = import_plugin(f"{__name__}.{name}")
    if missing := [part for part in PARTS if not hasattr(found, part)]:
        raise LookupError(f"analysis/figures/{name}.py: found no {missing[0]}, wanted {', '.join(PARTS)}")
    return found


def names() -> list[str]:
    """Names of all figures, in reading order."""
    modules = [entry.name for entry in pkgutil.iter_modules(__path__) if not entry.name.startswith("_")]
    return sorted(modules, key=lambda name: (module(name).ORDER, name))


def caption(name: str, statistics: Statistics) -> str:
    """The caption of one figure, with n, attack, interval method and draws of this ledger filled in."""
    template: str = module(name).CAPTION
    return template.format(**_facts.caption_fields(statistics))


def draw_one(name: str, statistics: Statistics, out: Path) -> list[Path]:
    """Draw one figure into folder `out`; returns the files written."""
    figure = module(name).draw(statistics)
    if figure.get_layout_engine() is None:
        wanted = 'wanted Figure(layout="constrained"), or labels could be cut off'
        raise ValueError(f"analysis/figures/{name}.py: found a figure without a layout engine, {wanted}")
    return _style.save(figure, out / name)


def draw_all(statistics: Statistics, out: str | Path, jobs: int = 1) -> list[Path]:
    """Draw every figure into folder `out` as NAME.pdf, NAME.svg, NAME.png, with its data as NAME.csv.

    jobs: number of parallel processes. Returns the files written. Raises FileNotFoundError or ValueError if the folder
    of statistics lacks a table that is needed.
    """
    out = make_folder(out)
    _facts.caption_fields(statistics)  # all tables are computed here, once, before they are sent to other processes
    data = {name: out / f"{name}.csv" for name in names()}
    for name, path in data.items():
        write_csv(module(name).data(statistics), path)
    if jobs == 1:
        return [*data.values(), *(path for name in data for path in draw_one(name, statistics, out))]
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        drawn = [pool.submit(draw_one, name, statistics, out) for name in data]
        return [*data.values(), *(path for job in drawn for path in job.result())]
