"""Views of noise, prediction, selection and reliability (see analysis.tables), and what readers should look for."""

import numpy as np

from robustgap.analysis import words
from robustgap.analysis.statistics.selection import LAST, RANDOM, VALIDATION
from robustgap.analysis.view import COUNT, LABEL, Column, Source, View, spread

STEPS = {
    "settings": "settings",
    "state": "+ training state",
    "measure": "+ one measure",
    "pair": "+ best pair",
    "sparse": "+ sparse combination",
}


def ladder(source: Source) -> View:
    rows = source.read("increments")
    rows = rows[(rows["axis"] == "") & (rows["measure"] == "")]
    names = rows["statistic"]
    frame = spread(rows, ["step", "learner"], names)
    chosen = rows.loc[names == "r2", ["step", "learner", "members"]]  # on the raw scale others may have been chosen
    frame = frame.merge(chosen, on=["step", "learner"], how="left")
    frame = frame.assign(shown=frame["step"].map(STEPS), by=frame["learner"].map(words.BETTER))
    if len(frame):
        place = frame["step"].map({step: number for number, step in enumerate(STEPS)})
        frame = frame.iloc[np.argsort(place, kind="stable")]
    columns = (
        Column("shown", "prediction from"),
        Column("by", "settings by"),
        Column("r2", "R²", ".2f", True),
        Column("increment", "increment in R²", "+.3f", True),
        Column("tau", "τ of prediction with gap", "+.2f", True),
        Column("mae_raw", "mean absolute error (points)", ".2f", True),
        COUNT,
        Column("members", "chosen, most often first"),
    )
    look = (
        "How well the gap of configurations never seen is predicted, step by step. If a pair or a sparse combination "
        "of measures does not raise R² over the training state, the measures together say nothing that is not in it."
    )
    return View("ladder", "The increment ladder", look, columns, frame)


def increments(source: Source) -> View:
    rows = source.read("increments")
    rows = rows[(rows["statistic"] == "increment") & (rows["step"] == "measure")]
    whole = rows[(rows["axis"] == "") & (rows["learner"] != "better")]
    frame = spread(whole, ["measure"], whole["over"] + "_" + whole["learner"])
    out = rows[(rows["axis"] != "") & (rows["over"] == "settings") & rows["estimate"].notna()]
    both = out.groupby(["measure", "axis", "value"])["estimate"].min()
    held = both.groupby("measure").agg(lambda least: f"{(least > 0).sum()} of {len(least)}")
    frame = frame.assign(held=frame["measure"].map(held).fillna("n/a"))
    bases = [("settings", "the settings"), ("state", "settings and state")]
    columns = (
        LABEL,
        *(
            Column(f"{over}_{learner}", f"over {words}, {learner}", "+.3f", True)
            for over, words in bases
            for learner in ("ridge", "trees")
        ),
        COUNT,
        Column("held", "left-out values gained"),
    )
    look = (
        "What one measure adds out of fold to R² of the gap, over the settings and over settings and training state; "
        "an increment holds if it is above 0 under ridge regression and boosted trees. Last column: with each value of "
        "each axis left out of training in turn, how often both learners still gain."
    )
    return View("increments", "Increment of each measure", look, columns, source.named(frame))


def left_out(source: Source) -> View:
    rows = source.read("increments")
    rows = rows[(rows["axis"] != "") & (rows["measure"] == "") & (rows["statistic"] == "r2")]
    frame = spread(rows, ["axis", "value"], rows["step"] + "_" + rows["learner"])
    columns = (
        Column("axis", "axis left out"),
        Column("value", "value predicted"),
        *(
            Column(f"{step}_{by}", f"{STEPS[step]}, {by}", ".2f", True)
            for step in ("settings", "state")
            for by in ("ridge", "trees")
        ),
        COUNT,
    )
    look = (
        "R² on the models of one value, predicted from all others without that axis' own columns. Below 0: worse than "
        "the mean of those models, so that what was learned does not carry over to this value."
    )
    return View("left_out", "Prediction of values never seen", look, columns, frame)


def selection(source: Source) -> View:
    rows = source.read("selection")
    rows = rows[rows["statistic"] == "regret"]
    rows = rows.assign(direction=rows["direction"].replace("", "learned"))
    frame = source.named(spread(rows, ["measure"], rows["choice"] + "_" + rows["direction"]))
    for choice in ("model", "checkpoint"):
        frame[f"n_{choice}"] = frame["measure"].map(rows[rows["choice"] == choice].groupby("measure")["n"].max())
    ways = {RANDOM: "(random choice)", VALIDATION: "(validation accuracy)", LAST: "(always the last checkpoint)"}
    frame = frame.assign(label=frame["measure"].map(ways).fillna(frame["label"]))
    columns = (
        LABEL,
        Column("model_learned", "model, learned sign", ".2f", True),
        Column("model_declared", "model, declared sign", ".2f", True),
        Column("n_model", "models", ".0f"),
        Column("checkpoint_learned", "checkpoint, learned sign", ".2f", True),
        Column("checkpoint_declared", "checkpoint, declared sign", ".2f", True),
        Column("n_checkpoint", "runs", ".0f"),
    )
    look = (
        "Robust test accuracy, in points, that picking by the measure loses against the best candidate: lower is "
        "better. Compare with the first lines, which need no measure at all."
    )
    return View("selection", "Selection regret", look, columns, frame)


def noise(source: Source) -> View:
    rows = source.read("noise")
    rows = rows[rows["measure"] == source.ledger.outcome]
    parts = rows[rows["statistic"].isin(["variance", "share"])]
    frame = spread(parts, ["component"], parts["statistic"])
    frame = frame.assign(shown=frame["component"].map({name: row for name, (_, row) in words.COMPONENTS.items()}))
    columns = (
        Column("shown", "component"),
        Column("variance", "variance (points²)", ".2f", True),
        Column("share", "share", ".3f", True),
        COUNT,
    )
    look = (
        "What sets the gaps of models apart. Settings are what a measure must go beyond; seed, checkpoint and images "
        "are noise, which bounds how high τ can rise."
    )
    return View("noise", "What the spread of the gap is made of", look, columns, frame)


def ceilings(source: Source) -> View:
    rows = source.read("noise")
    rows = rows[(rows["measure"] == source.ledger.outcome) & (rows["statistic"] == "ceiling")]
    meaning = {"run": "each model's gap on endlessly many images", "configuration": "its expectation over seeds"}
    frame = spread(rows, ["component"], rows["statistic"])
    frame = frame.assign(shown=frame["component"].map(meaning))
    columns = (
        Column("component", "level"),
        Column("shown", "a perfect measure equals"),
        Column("ceiling", "τ", ".2f", True),
        COUNT,
    )
    look = (
        "The τ that a perfect measure would be expected to reach with gaps as noisy as these. A measure near the "
        "ceiling leaves nothing to be found; one above it profits from the noise it shares with the gap."
    )
    return View("ceilings", "Noise ceilings of τ", look, columns, frame)


def reliability(source: Source) -> View:
    rows = source.read("reliability")
    frame = spread(rows, ["measure"], rows["statistic"])
    counts = rows.pivot_table(index="measure", columns="statistic", values="n")
    for name in ("seeds", "images"):
        frame[f"n_{name}"] = frame["measure"].map(counts[name]) if name in counts else np.nan
    columns = (
        LABEL,
        Column("seeds", "over seeds", ".2f", True),
        Column("n_seeds", "n", ".0f"),
        Column("images", "over images", ".2f", True),
        Column("n_images", "n", ".0f"),
    )
    look = (
        "1: a second training (or other images) would rank the models the same; 0: what sets them apart would be lost. "
        "An unreliable measure may fail for that reason alone."
    )
    return View("reliability", "Reliability of each measure", look, columns, source.named(frame))
