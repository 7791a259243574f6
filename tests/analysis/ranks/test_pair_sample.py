"""Conditional mutual information from a sample of the pairs: what it is an estimate of, and what it costs."""

import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from robustgap.analysis.ranks import pair_sample
from robustgap.analysis.ranks.pair_sample import PairSample, all_pairs, draw_pairs
from robustgap.analysis.statistics.information import conditional_information, sampling_notes

AXES = ["a", "b", "checkpoint"]
MEASURES = ["proxy", "genuine", "null", "itself", "coarse", "half", "few"]
OPTIONS = {"axes": AXES, "outcome": "gap", "seed_column": "seed"}
NUMBERS = ["estimate", "low", "high"]


def design(values: int = 30) -> pd.DataFrame:
    """8 models a value of `a`, on which the gap depends; measures with known answers, some with ties or missing."""
    levels = list(itertools.product(range(values), "01", ["last", "best"], "01"))
    table = pd.DataFrame(levels, columns=["a", "b", "checkpoint", "seed"])
    table["a"] = table["a"] % 6
    table["seed"] = (np.arange(len(table)) // 8).astype(str) + table["seed"]
    rng = np.random.default_rng(0)
    noise, other, null = rng.standard_normal((3, len(table)))
    table = table.assign(gap=10 * table["a"] + noise.round(2), proxy=table["a"] * 1.0, genuine=noise + other / 2)
    table = table.assign(null=null, itself=table["gap"], coarse=(noise + other / 2).round())
    known = rng.random(len(table)) < 0.5
    few = np.arange(len(table)) < 40
    return table.assign(half=table["genuine"].where(known), few=table["genuine"].where(few))


def test_up_to_the_limit_every_pair_is_used(monkeypatch):
    table = design(6)
    alone = conditional_information(table, measures=MEASURES, draws=10, **OPTIONS)
    assert (alone["pairs"] == alone["n"]).all() and sampling_notes(alone) == []
    monkeypatch.setattr(pair_sample, "MOST_PAIRS", all_pairs(len(table)))
    pd.testing.assert_frame_equal(
        conditional_information(table, measures=MEASURES, draws=10, **OPTIONS), alone, check_exact=True
    )
    monkeypatch.setattr(pair_sample, "MOST_PAIRS", all_pairs(len(table)) - 1)
    found = conditional_information(table, measures=MEASURES[:1], draws=10, **OPTIONS)
    assert found["estimate"].tolist() == pytest.approx(alone["estimate"][: len(found)].tolist(), abs=0.05)
    assert found["estimate"].tolist() != alone["estimate"][: len(found)].tolist()


def test_beyond_the_limit_the_sample_comes_near_all_pairs_and_known_answers(monkeypatch):
    table = design(60)
    exact = conditional_information(table, measures=MEASURES, draws=40, **OPTIONS)
    monkeypatch.setattr(pair_sample, "MOST_PAIRS", 25_000)  # of 114,960
    found = conditional_information(table, measures=MEASURES, draws=40, **OPTIONS)
    same = ["measure", "statistic", "n", "undefined"]
    pd.testing.assert_frame_equal(found[same], exact[same])
    whole = (found["measure"] == "few").to_numpy()
    pd.testing.assert_frame_equal(found[whole], exact[whole], check_exact=True)  # its 780 pairs are within the limit
    known = exact["estimate"].notna()
    assert (found["estimate"].notna() == known).all()
    far = np.abs(found[NUMBERS] - exact[NUMBERS])[known].groupby(found["measure"]).max()
    assert (far.drop("half") < [0.02, 0.04, 0.04]).all(axis=None)
    assert (far.loc["half"] < 0.06).all(), "it has a third of the pairs"
    used, there = (found.groupby("measure")[name].first() for name in ("pairs", "n"))
    assert 24_900 < used["proxy"] <= 25_000
    assert used["half"] / used["proxy"] == pytest.approx(there["half"] / there["proxy"], rel=0.05)
    found = found.set_index(["measure", "statistic"])["estimate"]
    assert found["proxy", "cmi"].item() == 0 and found["itself", "cmi_normalised"].item() == pytest.approx(1)
    assert found["null", "cmi"].item() < 0.005
    # Within a value of `a` both are normal, of correlation 1 / sqrt(1.25): they agree on a pair with probability p.
    p = 0.5 + np.arcsin(1 / np.sqrt(1.25)) / np.pi
    wanted = 1 + p * np.log2(p) + (1 - p) * np.log2(1 - p)
    assert found["genuine", "information_normalised"].iloc[1] == pytest.approx(wanted, abs=0.08), "given a"


def test_the_sample_is_the_same_for_all_measures_and_in_any_order_of_rows(monkeypatch):
    monkeypatch.setattr(pair_sample, "MOST_PAIRS", 3000)
    table = design()
    found = conditional_information(table, measures=MEASURES, draws=10, **OPTIONS)
    mixed = table.sample(frac=1, random_state=1)
    again = conditional_information(mixed, measures=MEASURES, draws=10, **OPTIONS)
    pd.testing.assert_frame_equal(again, found, check_exact=True)
    alone = conditional_information(table, measures=["null"], draws=10, **OPTIONS)
    both = found[found["measure"] == "null"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, both, check_exact=True)
    other = conditional_information(table, measures=["null"], draws=10, seed=1, **OPTIONS)
    assert (other["estimate"] != alone["estimate"]).all()
    assert sampling_notes(found)[0].startswith("conditional information of 6 measures: estimated from up to 3,000 of ")


@pytest.mark.parametrize(("models", "size"), [(2, 1), (3, 2), (30, 100), (30, 434), (30, 435)])
def test_every_pair_is_drawn_as_often_as_any_other(models, size):
    counts, times = np.zeros((models, models)), 2000
    for seed in range(times):
        first, second = draw_pairs(models, size, seed)
        assert len(first) == size and (first >= 0).all() and (first < second).all() and (second < models).all()
        np.add.at(counts, (first, second), 1)
    share = counts[np.triu_indices(models, 1)] / times
    wanted = size / all_pairs(models)
    assert share.mean() == pytest.approx(wanted)
    assert np.abs(share - wanted).max() < 5 * np.sqrt(wanted / times)


def test_counts_are_sums_of_weights_however_they_are_cut(monkeypatch):
    monkeypatch.setattr(pair_sample, "MOST_PAIRS", 150)
    rng = np.random.default_rng(2)
    y, x, group = rng.integers(5, size=40), rng.integers(4, size=40), rng.integers(3, size=40)
    weights = rng.integers(4, size=(6, 40))
    sample = PairSample.draw(rng.permutation(40), y, weights, 0)
    assert (y[sample.upper] > y[sample.lower]).all() and 100 < len(sample.upper) < 150
    wanted = np.zeros((3, 3, 3, 6))
    for i, j in zip(sample.upper, sample.lower, strict=True):
        wanted[group[i], group[j], {1: 0, -1: 1, 0: 2}[int(np.sign(x[i] - x[j]))]] += weights[:, i] * weights[:, j]
    groups = {"one": group, "none": np.zeros(40, dtype=int)}
    for pairs, numbers in [(2**16, 2**26), (17, 1)]:
        monkeypatch.setattr(pair_sample, "PAIRS_AT_ONCE", pairs)
        monkeypatch.setattr(pair_sample, "NUMBERS_AT_ONCE", numbers)
        found = dict(sample.counts(x, groups))
        assert (found["one"] == wanted).all() and (found["none"] == wanted.sum(axis=(0, 1))).all()


def test_memory_grows_with_the_sample_and_not_with_the_square_of_the_models(monkeypatch):
    monkeypatch.setattr(pair_sample, "MOST_PAIRS", 10_000)
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"a": np.arange(12_000).astype(str), "gap": rng.random(12_000), "m": rng.random(12_000)})
    table = table.assign(b=(np.arange(12_000) % 4).astype(str))
    tracemalloc.start()
    found = conditional_information(table, axes=["a", "b"], outcome="gap", measures=["m"], draws=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6, "a matrix of one byte for every pair has 144e6"
    assert found["undefined"].tolist()[:2] == [2, 2] and found["estimate"][0] < 0.001, "a has too many values"
