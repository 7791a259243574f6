"""Mean accuracy and confidence against eps, for attacks that were run at three or more eps."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from robustgap.analysis.figures import _facts
from robustgap.analysis.figures._style import GREY, empty, legend, look, plain, styled
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics.curves import Curve, curves_of
from robustgap.analysis.words import NORMS

ORDER = 13
TITLE = "Accuracy and confidence against ε"
CAPTION = (
    "Test accuracy (left), training accuracy (second), and mean confidence (largest softmax probability) on the test "
    "images classified rightly (third) and wrongly (right) against ε, for each attack that was run at three or more ε: "
    "means over the models (of {n}) that have the whole curve. Colour and marker: {group}. Robust accuracy that does "
    "not fall to chance at a large ε, or confidence that rises with ε where answers are wrong, is a sign of masked "
    "gradients."
)
PANELS = {
    ("accuracy", "test"): "test accuracy (%)",
    ("accuracy", "train"): "training accuracy (%)",
    ("confidence_right", "test"): "confidence where right",
    ("confidence_wrong", "test"): "confidence where wrong",
}
NUMBERS = ["accuracy", "confidence_right", "confidence_wrong"]
COLUMNS = ["curve", "split", "group", "eps", *NUMBERS, "n"]


def whole(rows: pd.DataFrame, curve: Curve, models: pd.Series) -> list[str]:
    """The models that have every point of a curve in these rows."""
    counts = rows[rows["outcome"].isin(curve.outcomes)].groupby("model")["outcome"].nunique()
    return [model for model in models if counts.get(model, 0) == len(curve.outcomes)]


def data(statistics: Statistics) -> pd.DataFrame:
    """One row per curve, split, group and eps: means over the models with the whole curve (accuracy in percent), and
    their number."""
    rows, tables = statistics.ledger.outcomes, []
    for curve in curves_of(statistics.ledger):
        eps = dict(zip(curve.outcomes, curve.eps, strict=True))
        for split in ("train", "test"):
            own = rows[(rows["split"] == split) & rows["outcome"].isin(curve.outcomes)]
            for label, models in _facts.groups(statistics).items():
                chosen = whole(own, curve, models["model"])
                if not chosen:
                    continue
                part = own[own["model"].isin(chosen)]
                means = part.groupby("outcome")[NUMBERS].mean().loc[list(curve.outcomes)]
                means = means.assign(accuracy=100 * means["accuracy"], eps=[eps[name] for name in curve.outcomes])
                tables.append(means.assign(curve=curve.name, split=split, group=label, n=len(chosen))[COLUMNS])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


@styled
def draw(statistics: Statistics) -> Figure:
    """One row of panels per curve."""
    points, labels = data(statistics), list(_facts.groups(statistics))
    if points.empty:
        return empty("no attack was run at three or more values of ε")
    names = list(dict.fromkeys(points["curve"]))
    norms = {curve.name: NORMS.get(curve.norm, curve.norm) for curve in curves_of(statistics.ledger)}
    figure = Figure(figsize=(11.5, 0.6 + 2.4 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), len(PANELS), squeeze=False)
    for row, name in zip(grid, names, strict=True):
        for axes, ((column, split), heading) in zip(row, PANELS.items(), strict=True):
            part = points[(points["curve"] == name) & (points["split"] == split)]
            for index, label in enumerate(labels):
                own = part[(part["group"] == label) & part[column].notna()]
                colour, marker = look(index)
                axes.plot(own["eps"], own[column], color=colour, marker=marker, markersize=4.5, linewidth=1.2)
            if not part[column].notna().any():
                axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=GREY)
            axes.set(title=heading, xlabel=f"ε ({norms[name]})", xlim=(0, None))
            axes.set_ylim(*((0, 100) if column == "accuracy" else (0, 1)))
            axes.xaxis.set_major_locator(MaxNLocator(5))
        counts = points[points["curve"] == name].groupby("group")["n"].max()
        row[0].set_ylabel(f"{plain(name)}\n{counts.sum():.0f} models")
    legend(figure, labels)
    return figure
