"""House style of all figures and how they are saved: colours paired with markers, labels, number formats, files."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from robustgap.analysis.files import replace
from robustgap.analysis.ledger import BOTH, RULES, Ledger
from robustgap.analysis.statistics import Statistics

# M. Okabe, K. Ito, Color universal design, 2008; yellow comes last because it is too pale on white.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">"]  # 8 and 9 share no factor: 72 distinct pairs
INK, GREY, PALE = "#222222", "#6b6b6b", "#d9d9d9"
STYLE: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so figures look the same on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "path",  # outlines, so that the page looks the same without the font installed
    "svg.hashsalt": "robustgap",
    "pdf.fonttype": 42,  # TrueType: text stays text
}
OPACITY = 0.8  # of filled markers
MANY = 30_000  # points; above this an SVG panel is rasterised, or the file would be megabytes
DPI = 150


def styled(draw: Callable[[Statistics], Figure]) -> Callable[[Statistics | Ledger], Figure]:
    """Decorator of `draw(statistics)`: it takes a ledger too, and draws in the house style, leaving the caller's
    matplotlib settings alone."""

    @wraps(draw)
    def inner(source: Statistics | Ledger) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(Statistics(source) if isinstance(source, Ledger) else source)

    return inner


@mpl.rc_context(STYLE)
def save(figure: Figure, stem: Path) -> list[Path]:
    """Write STEM.png, STEM.pdf and STEM.svg, byte-identical for identical figures. Returns the paths."""
    figure.set_dpi(DPI)
    engine = figure.get_layout_engine()
    assert engine is not None, "figures are made with a layout engine"
    engine.execute(figure)
    figure.set_layout_engine("none")  # lay out once, not once per file
    for axes in figure.axes:  # the last digits of the layout solver differ between processes
        axes.set_position(np.round(axes.get_position().bounds, 6))
    # Call the canvases' own writers: Figure.savefig would draw each figure a second time to lay it out.
    writers: dict[str, Callable[[Path], object]] = {
        "png": FigureCanvasAgg(figure).print_png,
        "pdf": partial(print_vectors, figure),
        "svg": partial(FigureCanvasSVG(figure).print_svg, metadata={"Date": None}),
    }
    paths = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in writers}
    for kind, path in paths.items():
        replace(path, writers[kind])
    return list(paths.values())


def look(index: int) -> tuple[str, str]:
    """Colour and marker of the group at position `index` in the legend."""
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]


def face(checkpoint: str, colour: str) -> tuple[float, float, float, float]:
    """Marker face of a checkpoint rule: 'best' is open, so that a 'last' underneath stays visible; all others are
    filled, including a last checkpoint that is also the best."""
    return to_rgba(colour, 0 if checkpoint == "best" else OPACITY)


def scatter_group(axes: Axes, x: pd.Series, y: ArrayLike, checkpoints: pd.Series, index: int, size: float) -> None:
    """Plot one group of models: colour and marker by group, fill by checkpoint rule."""
    colour, marker = look(index)
    faces = [face(checkpoint, colour) for checkpoint in checkpoints]
    cloud = axes.scatter(x, y, s=size, marker=marker, facecolors=faces, edgecolors=colour, linewidths=0.9)
    cloud.set(zorder=2)


def print_vectors(figure: Figure, path: Path) -> None:
    """Write a PDF without rasterised parts: PDF stores each marker once anyway, and rasterising takes a page of pixels
    in memory."""
    limits = [axes.get_rasterization_zorder() for axes in figure.axes]
    for axes in figure.axes:
        axes.set_rasterization_zorder(None)
    canvas: Any = FigureCanvasPdf(figure)
    canvas.print_pdf(path, metadata={"CreationDate": None})
    for axes, limit in zip(figure.axes, limits, strict=True):
        axes.set_rasterization_zorder(limit)


def plain(text: str) -> str:
    """Text escaped so that matplotlib does not parse it as mathtext."""
    return text.replace("$", r"\$")


def broken(text: str, width: int) -> str:
    """Text wrapped to lines of at most `width` characters, at spaces and underscores where possible."""
    lines = [""]
    for part in re.findall(r"[^_ ]*[_ ]|[^_ ]+", text):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def legend(figure: Figure, labels: Sequence[str], checkpoints: Iterable[str] = (), more: Sequence[Line2D] = ()) -> None:
    """Legend above a figure: the groups in order, the checkpoint rules if there are two, then `more`."""
    used = set(checkpoints)
    rules = [rule for rule in RULES if rule in used or (rule == "last" and BOTH in used)]
    entries = []
    for index, label in enumerate(labels):
        colour, marker = look(index)
        entries.append(Line2D([], [], linestyle="", markersize=6, color=colour, marker=marker, label=plain(label)))
    for rule in rules if len(rules) > 1 else []:
        label = f"checkpoint {rule}{' (or both)' if rule == 'last' and BOTH in used else ''}"
        circle = Line2D([], [], linestyle="", markersize=6, color=GREY, marker="o", label=label)
        circle.set_fillstyle("none" if rule == "best" else "full")
        entries.append(circle)
    entries += more
    figure.legend(handles=entries, loc="outside upper center", ncols=min(len(entries), 7))


def say(axes: Axes, reason: str, size: float = 9, top: bool = False) -> None:
    """Write in an empty panel why it is empty; size: font size in points; top: near the upper edge of a tall panel."""
    axes.axis("off")  # set(yticks=[]) would remove the labels of a neighbour that shares the axis
    height, side = (0.99, "top") if top else (0.5, "center")
    words = axes.text(0.5, height, plain(reason), transform=axes.transAxes, ha="center", va=side, color=GREY, wrap=True)
    words.set_fontsize(size)


def empty(reason: str) -> Figure:
    """A figure that only states why there is nothing to draw."""
    figure = Figure(figsize=(6, 1.6), layout="constrained")
    say(figure.add_subplot(), reason)
    return figure
