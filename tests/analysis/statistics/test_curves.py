"""Curves over eps: areas and breaking eps by brute force on small ledgers with known bits."""

import numpy as np
import outcome_ledgers
import pandas as pd
import pytest
from outcome_ledgers import SIZES, Given

from robustgap.analysis import figures
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics.curves import breaking, curves_of, mean_accuracy

EPS = {"pgd10@Linf:1/20": 0.05, "pgd10": 0.15, "pgd10@Linf:1/5": 0.2}
AXES = {"defense": ["AT", "TRADES"], "batch_size": [32, 128]}


def make(path, names=tuple(EPS), clean=True, lacking=0, more=()):
    """8 models; the last `lacking` of them lack the last point of the curve."""
    rng = np.random.default_rng(0)
    base, here = rng.uniform(0.5, 0.8, 8), np.arange(8) < 8 - lacking
    given = [Given("clean", base + 0.15, base, eps=0.0)] if clean else []
    for name in names:
        fall = 2 * EPS[name]
        models = here if name == names[-1] else None
        given.append(Given(name, base + 0.1 - fall, base - fall, eps=EPS[name], models=models))
    return outcome_ledgers.make(path, *given, *more, axes=AXES, checkpoints=("last",))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Statistics:
    return Statistics(make(tmp_path_factory.mktemp("curves") / "ledger", lacking=1))


def test_a_curve_begins_at_clean_and_is_sorted_by_eps(made):
    (curve,) = curves_of(made.ledger)
    assert curve.outcomes == ("clean", "pgd10@Linf:1/20", "pgd10", "pgd10@Linf:1/5")
    assert curve.eps.tolist() == [0.0, 0.05, 0.15, 0.2] and curve.name == "PGD-10, L∞"


def test_area_and_breaking_eps_are_those_of_loops_over_images(made):
    bits = pd.read_parquet(made.ledger.path / "bits.parquet").set_index(["model", "split", "outcome"])["bits"]
    rows, names, eps = made.table("curves"), ["clean", *EPS], [0.0, *EPS.values()]
    assert len(rows) == 16 and rows["undefined"].sum() == 2
    for row in rows[rows["undefined"] == 0].to_dict("records"):
        n = SIZES[row["split"]]
        right = [np.unpackbits(np.frombuffer(bits[row["model"], row["split"], name], np.uint8))[:n] for name in names]
        area = sum((eps[k + 1] - eps[k]) * (right[k].mean() + right[k + 1].mean()) / 2 for k in range(3)) / 0.2
        first = [
            next((e for e, answer in zip(eps, image, strict=True) if not answer), None)
            for image in zip(*right, strict=True)
        ]
        assert row["area"] == pytest.approx(100 * area) and row["n"] == n and row["points"] == 4
        assert row["breaking_eps"] == pytest.approx(np.mean([0.2 if e is None else e for e in first]))
        assert row["censored"] == pytest.approx(np.mean([e is None for e in first]))
    lost = rows[rows["undefined"] == 1]
    assert set(lost["model"]) == {made.ledger.runs["model"].iloc[-1]}
    assert lost[["area", "breaking_eps", "censored"]].isna().all(axis=None)


def test_closed_forms():
    eps = np.array([0.0, 1.0, 3.0])
    assert mean_accuracy(eps, np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.9, 0.6, 0.0]])) == pytest.approx(
        [1.0, 1 / 6, (0.75 + 0.6) / 3]
    )
    assert np.isnan(mean_accuracy(eps[1:], np.ones((1, 2)))).all(), "does not begin at 0"
    right = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 0, 1, 1]])  # never, at 1, at 0 (right again), at 1 (right again)
    assert breaking(eps, right) == pytest.approx(((3 + 1 + 0 + 1) / 4, 0.25))
    falling = np.sort(np.random.default_rng(0).random((3, 50)) < 0.5, axis=0)[::-1]
    mean, censored = breaking(eps, falling)
    by_steps = falling[0].mean() * 1 + falling[1].mean() * 2  # sum of eps steps survived
    assert mean == pytest.approx(by_steps) and censored == pytest.approx(falling[2].mean())


@pytest.mark.parametrize(
    ("names", "clean", "defined"),
    [(tuple(EPS)[:2], True, None), (tuple(EPS), True, 16), (tuple(EPS), False, 0)],
    ids=["two eps", "three", "clean on other images"],
)
def test_what_makes_a_curve(tmp_path, names, clean, defined):
    statistics = Statistics(make(tmp_path / "ledger", names, clean))
    rows = statistics.table("curves")
    if defined is None:
        assert rows.empty and not curves_of(statistics.ledger)
    else:
        assert len(rows) == 16 and (rows["undefined"] == 0).sum() == defined == rows["breaking_eps"].notna().sum()


def test_bits_of_different_images_give_no_breaking_eps(tmp_path):
    ledger = make(tmp_path / "ledger")
    bits = pd.read_parquet(ledger.path / "bits.parquet")
    other = (bits["outcome"] == "clean") & (bits["split"] == "test")
    bits.assign(index_sha=bits["index_sha"].mask(other, "sha-other")).to_parquet(ledger.path / "bits.parquet")
    rows = Statistics(ledger).table("curves")
    assert rows["breaking_eps"].notna().equals(rows["split"] == "train")
    (ledger.path / "bits.parquet").unlink()
    rows = Statistics(ledger).table("curves")
    assert rows["breaking_eps"].isna().all() and rows["area"].notna().all()


def test_families_are_kept_apart(tmp_path):
    rng = np.random.default_rng(1)
    more = [Given(f"pgd10@L2:{k}", *rng.uniform(0.3, 0.9, (2, 8)), eps=k) for k in (1, 2, 3)]
    more += [Given(f"targeted_pgd@Linf:{k}>3", *rng.uniform(0.3, 0.9, (2, 8)), eps=k) for k in (1, 2)]
    statistics = Statistics(make(tmp_path / "ledger", more=more))
    names = [curve.name for curve in curves_of(statistics.ledger)]
    assert names == ["PGD-10, L2", "PGD-10, L∞"] and len(statistics.table("curves")) == 32


def test_the_figure_shows_means_over_the_models_with_the_whole_curve(made):
    module = figures.module("eps_curves")
    data, outcomes = module.data(made), made.ledger.outcomes
    last = made.ledger.runs["model"].iloc[-1]
    for row in data.to_dict("records"):
        (name,) = [name for name, eps in {"clean": 0.0, **EPS}.items() if eps == row["eps"]]
        own = made.data.models.query(f"defense == {row['group']!r} and model != {last!r}")["model"]
        part = outcomes[(outcomes["outcome"] == name) & (outcomes["split"] == row["split"])]
        part = part[part["model"].isin(own)]
        assert row["accuracy"] == pytest.approx(100 * part["accuracy"].mean()) and row["n"] == len(own) == len(part)
    figure = module.draw(made)
    assert len(figure.axes) == 4 and figure.axes[0].get_ylabel().endswith("7 models")
    drawn = [line.get_ydata() for line in figure.axes[0].lines]
    wanted = [part["accuracy"] for _, part in data[data["split"] == "test"].groupby("group", sort=False)]
    for one, other in zip(drawn, wanted, strict=True):
        np.testing.assert_allclose(one, other)
