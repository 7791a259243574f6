"""Curves over eps: an attack that a ledger holds at three or more eps of one norm, for every model and split.

    area          area under the model's accuracy against eps, by the trapezoid rule over [0, largest eps], divided by
                  the largest eps: mean accuracy, in percent, over an eps drawn uniformly from that range
    breaking_eps  mean over images of the smallest eps of the curve at which the image is misclassified, where images
                  that none misclassifies count with the largest eps (a restricted mean, as of survival times)
    censored      share of these images

The curve begins at eps 0: the attack at eps 0 if the ledger has it, else the outcome `clean`; without one on as many
images as the other points there is no area. breaking_eps and censored need the correctness bits (bits.parquet) of the
same images at every eps; where an attack is weak, an image may be right again at a larger eps than the smallest that
breaks it. n: images; undefined: 1 if the area is not known, as for a model that lacks a point of the curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import BITS, Ledger, read_bits_table
from robustgap.analysis.statistics import Statistic, Statistics
from robustgap.analysis.statistics._data import StudyData
from robustgap.analysis.view import COUNT, Column, View
from robustgap.analysis.words import NORMS, outcome_name

FAMILY = ["attack", "norm", "target", "options"]
RESULT = ["model", "split", *FAMILY, "points", "largest_eps", "area", "breaking_eps", "censored", "n", "undefined"]
FEWEST = 3  # eps of a curve
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Curve:
    """The outcomes (ids) of one attack, norm, target and options by increasing eps (k,), 0 first if the ledger has it
    or `clean`."""

    attack: str
    norm: str
    target: str
    options: str
    outcomes: tuple[str, ...]
    eps: np.ndarray

    @property
    def key(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in FAMILY}

    @property
    def name(self) -> str:
        """'PGD-10, L∞'."""
        plain = self.attack + (f">{self.target}" if self.target else "")
        norm = NORMS.get(self.norm, self.norm)
        return f"{outcome_name(plain)}, {norm}{f', {self.options}' if self.options else ''}"


def curves_of(ledger: Ledger) -> list[Curve]:
    """The curves of a ledger, sorted by attack, norm, target and options."""
    rows = ledger.outcomes[ledger.outcomes["attack"] != "clean"].drop_duplicates(["outcome"])
    clean = "clean" in set(ledger.outcomes["outcome"])
    curves = []
    for key, part in rows.groupby(FAMILY, sort=True):
        part = part.drop_duplicates("eps").sort_values("eps")
        names, eps = part["outcome"].tolist(), part["eps"].to_numpy(float)
        if len(eps) >= FEWEST and not np.isnan(eps).any():
            if eps[0] > 0 and clean:
                names, eps = ["clean", *names], np.array([0.0, *eps])
            attack, norm, target, options = map(str, key)
            curves.append(Curve(attack, norm, target, options, tuple(names), eps))
    return curves


def mean_accuracy(eps: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Area under accuracy (models, k) over eps (k,) from 0, over the largest eps: (models,); NaN if a point is missing
    or the curve does not begin at 0."""
    if eps[0] > 0:
        return np.full(len(accuracy), np.nan)
    return np.asarray(np.trapezoid(accuracy, eps, axis=1) / eps[-1])


def breaking(eps: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Restricted mean of the smallest eps that breaks an image, and the share of images that none breaks. eps (k,);
    right (k, images): whether an image is classified rightly."""
    broken = ~right.astype(bool)
    unbroken = ~broken.any(axis=0)
    first = np.where(unbroken, eps[-1], eps[broken.argmax(axis=0)])
    return float(first.mean()), float(unbroken.mean())


def broken_at(bits: pd.DataFrame, curve: Curve, models: Sequence[str], split: str) -> np.ndarray:
    """breaking_eps and censored of each model (models, 2); NaN where bits are missing or of different images. bits: of
    this split, indexed by model and outcome."""
    found = np.full((len(models), 2), np.nan)
    if curve.eps[0] > 0:
        return found
    for number, model in enumerate(models):
        keys = [(model, outcome) for outcome in curve.outcomes]
        if not all(key in bits.index for key in keys):
            continue
        rows = bits.loc[keys]
        if len(set(rows["index_sha"])) == len(set(rows["n"])) == 1:
            n = int(rows["n"].iloc[0])
            packed = np.stack([np.frombuffer(row, np.uint8) for row in rows["bits"]])
            found[number] = breaking(curve.eps, np.unpackbits(packed, axis=1)[:, :n])
    return found


def rows_of(ledger: Ledger, models: pd.Series, curve: Curve, bits: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of one curve: every model, by split."""
    tables = []
    for split in SPLITS:
        rows = ledger.outcomes[ledger.outcomes["split"] == split]
        wide = rows.pivot_table(index="model", columns="outcome", values=["accuracy", "n"])
        names = pd.MultiIndex.from_product([["accuracy", "n"], curve.outcomes])
        wide = wide.reindex(index=models, columns=names)
        images = wide["n"].to_numpy(float)
        same = (images == images[:, :1]).all(axis=1)
        area = np.where(same, 100 * mean_accuracy(curve.eps, wide["accuracy"].to_numpy(float)), np.nan)
        own = bits[bits["split"] == split].set_index(["model", "outcome"])
        broken = broken_at(own, curve, list(models), split)
        columns = {"model": models.to_numpy(), "split": split, **curve.key, "points": len(curve.eps)}
        columns |= {"largest_eps": curve.eps[-1], "area": area, "breaking_eps": broken[:, 0], "censored": broken[:, 1]}
        columns |= {"n": np.where(same, images[:, 0], np.nan), "undefined": np.isnan(area).astype(int)}
        tables.append(pd.DataFrame(columns, columns=RESULT))
    return tables


def compute(data: StudyData) -> pd.DataFrame:
    """The curves of every model of a ledger; no rows without an attack at three eps."""
    ledger = data.ledger
    assert ledger is not None, "needs the ledger"
    path, found = ledger.path / "bits.parquet", curves_of(ledger)
    bits = read_bits_table(path) if found and path.is_file() else pd.DataFrame(columns=[*BITS, "outcome"])
    tables = [table for curve in found for table in rows_of(ledger, data.models["model"], curve, bits)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=RESULT)


def curves_view(statistics: Statistics) -> View:
    rows, names = statistics.table("curves"), {}
    for curve in curves_of(statistics.ledger):
        names[tuple(curve.key.values())] = curve.name
    frame = []
    for key, part in rows[rows["undefined"] == 0].groupby([*FAMILY, "split"], sort=False):
        means = part[["largest_eps", "area", "breaking_eps", "censored"]].mean()
        frame.append({"label": names[key[:-1]], "split": key[-1], **means, "least": part["area"].min(), "n": len(part)})
        frame[-1]["most"] = part["area"].max()
    columns = (
        Column("label", "attack"),
        Column("split", "images"),
        Column("largest_eps", "largest ε", ".4g"),
        Column("area", "accuracy over ε (%), mean", ".1f"),
        Column("least", "lowest model", ".1f"),
        Column("most", "highest model", ".1f"),
        Column("breaking_eps", "ε that breaks an image", ".4g"),
        Column("censored", "images that none breaks", ".3f"),
        COUNT,
    )
    look = (
        "Accuracy averaged over ε from 0 to the largest (the area under the curve, over its width), and the smallest ε "
        "of the curve that breaks an image, averaged over images; images that no ε of the curve breaks count with the "
        "largest. Means over models; n: models with the whole curve. Each model's are in curves.csv."
    )
    return View("curves", "Accuracy over all ε", look, columns, pd.DataFrame(frame))


STATISTIC = Statistic(
    asks="attacks at three or more ε: area under each model's accuracy, and the smallest ε that breaks an image",
    place=154,
    compute=compute,
    text=("model", "split", *FAMILY),
    columns=RESULT,
    needs=("ledger",),
    views=(curves_view,),
    section="outcomes",
)
