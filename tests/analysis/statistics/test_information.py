"""Conditional mutual information against its definition in loops over pairs, and known answers."""

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from robustgap.analysis.models.design import configurations
from robustgap.analysis.ranks.bootstrap import Bootstrap
from robustgap.analysis.statistics.information import RESULT, conditional_information

AXES = ["a", "b", "checkpoint"]


def plain(table: pd.DataFrame, names: tuple[str, ...], weight: np.ndarray) -> tuple[float, float]:
    """(I, I / H) by the definition: a loop over all ordered pairs of different models."""
    joint: dict[tuple, Counter] = {}
    rows = table.to_dict("records")
    for (i, p), (j, q) in itertools.permutations(enumerate(rows), 2):
        if p["gap"] != q["gap"] and not np.isnan(p["m"] + q["m"]):
            u = tuple((p[name], q[name]) for name in names)
            signs = int(np.sign(p["m"] - q["m"])), int(np.sign(p["gap"] - q["gap"]))
            joint.setdefault(u, Counter())[signs] += weight[i] * weight[j]
    total = sum(sum(counter.values()) for counter in joint.values())
    if not total:
        return np.nan, np.nan
    shared = whole = 0.0
    for counter in joint.values():
        n = sum(counter.values())
        if n:
            table3 = np.array([[counter[v, w] for w in (-1, 1)] for v in (-1, 0, 1)]) / n
            h_g, h_m, h = (entropy(p, base=2) for p in (table3.sum(0), table3.sum(1), table3.ravel()))
            shared, whole = shared + n / total * (h_g + h_m - h), whole + n / total * h_g
    return (shared, shared / whole) if whole > 0 else (np.nan, np.nan)


@st.composite
def tables(draw) -> pd.DataFrame:
    """Up to 24 models of a 3 x 2 x 2-checkpoint x 2-seed design with rows missing, ties, NA and missing values."""
    cells = list(itertools.product(["x", "y", "NA"], ["1", "2"], ["last", "best"], ["0", "1"]))
    kept = draw(st.lists(st.sampled_from(cells), min_size=1, max_size=24, unique=True))
    table = pd.DataFrame(kept, columns=[*AXES, "seed"])
    small = st.integers(-2, 2).map(float)
    table["gap"] = draw(st.lists(small, min_size=len(kept), max_size=len(kept)))
    table["m"] = draw(st.lists(st.one_of(small, st.just(np.nan)), min_size=len(kept), max_size=len(kept)))
    return table


SETS = [(), ("a",), ("b",), ("checkpoint",), ("a", "b"), ("a", "checkpoint"), ("b", "checkpoint")]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(tables())
def test_information_equals_its_definition(table):
    found = conditional_information(table, axes=AXES, outcome="gap", measures=["m"], draws=0)
    assert list(found.columns) == RESULT
    look = found.set_index(["statistic", "given"])
    wanted = {names: plain(table, names, np.ones(len(table))) for names in SETS}
    known = table.dropna()
    pairs = sum(p != q for p, q in itertools.combinations(known["gap"], 2))
    assert (found["n"] == pairs).all()
    if known.empty:
        assert found["estimate"].isna().all() and (found["undefined"] == 1).all()
        return
    for names, numbers in wanted.items():
        for statistic, number in zip(["information", "information_normalised"], numbers, strict=True):
            row = look.loc[(statistic, "|".join(names))]
            assert row["estimate"] == pytest.approx(number, nan_ok=True, abs=1e-9)
            assert row["undefined"] == np.isnan(number)
    for place, statistic in enumerate(["cmi", "cmi_normalised"]):
        numbers = [pair[place] for pair in wanted.values()]
        row = found[found["statistic"] == statistic].iloc[0]
        least = np.nanmin(numbers) if not np.isnan(numbers).all() else np.nan
        assert row["estimate"] == pytest.approx(least, nan_ok=True, abs=1e-9)
        assert row["undefined"] == np.isnan(numbers).sum()
        if not np.isnan(least):
            assert wanted[tuple(filter(None, row["given"].split("|")))][place] == pytest.approx(least, abs=1e-9)


def design(seed: int = 0, values: int = 6) -> pd.DataFrame:
    levels = list(itertools.product(range(values), "01", ["last", "best"], "01"))
    table = pd.DataFrame(levels, columns=["a", "b", "checkpoint", "seed"])
    return table.assign(noise=np.random.default_rng(seed).standard_normal(len(table)))


def test_draws_are_weights_of_models_by_configuration():
    table = design(1, 3).assign(gap=lambda frame: frame["noise"], m=lambda frame: frame["noise"].round(0) + frame["a"])
    found = conditional_information(table, axes=AXES, outcome="gap", measures=["m"], draws=40)
    block = configurations(table.astype({"a": str}), AXES)
    drawn = Bootstrap(40).weights(np.zeros(block.max() + 1), "tau")[1:]
    wanted = np.array([[plain(table, names, weight[block])[0] for names in SETS] for weight in drawn])
    for place, names in enumerate(SETS):
        row = found[(found["statistic"] == "information") & (found["given"] == "|".join(names))].iloc[0]
        assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(wanted[:, place], [0.025, 0.975])))
    row = found[found["statistic"] == "cmi"].iloc[0]
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(wanted.min(axis=1), [0.025, 0.975])))


def test_a_proxy_of_one_axis_scores_without_conditions_and_nothing_given_that_axis():
    table = design().assign(gap=lambda frame: 10 * frame["a"] + frame["noise"], m=lambda frame: frame["a"] * 1.0)
    found = conditional_information(table, axes=AXES, outcome="gap", measures=["m", "gap"], draws=0)
    proxy, itself = (
        found[found["measure"] == name].set_index(["statistic", "given"])["estimate"] for name in ("m", "gap")
    )
    assert proxy["information_normalised", ""] > 0.6
    assert proxy["cmi", "a"] == proxy["cmi_normalised", "a"] == 0
    assert itself["cmi_normalised"].iloc[0] == pytest.approx(1)


def test_a_set_with_too_many_values_is_undefined_and_counted(monkeypatch):
    monkeypatch.setattr("robustgap.analysis.statistics.information.MOST_GROUPS", 6)
    table = design().assign(gap=lambda frame: frame["noise"], m=lambda frame: frame["noise"] ** 3)
    found = conditional_information(table, axes=AXES, outcome="gap", measures=["m"], draws=0).set_index(
        ["statistic", "given"]
    )
    assert np.isnan(found["estimate"]["information", "a|b"]) and found["undefined"]["information", "a|b"] == 1
    assert found["estimate"]["information", "b|checkpoint"] > 0
    assert found["undefined"]["cmi"].iloc[0] == 2
    monkeypatch.setattr("robustgap.analysis.statistics.information.MOST_GROUPS", 5)
    found = conditional_information(table, axes=AXES[:2], outcome="gap", measures=["m"], draws=0)
    found = found.set_index(["statistic", "given"])["estimate"]["information"]
    assert np.isnan(found["a|b"]) and np.isnan(found["a"]) and found["b"] > 0 and found[""] > 0


def test_models_trained_elsewhere_are_left_out_and_no_axes_leave_the_plain_information():
    table = design(3).assign(gap=lambda frame: frame["noise"], m=lambda frame: frame["noise"] * 1.0)
    foreign = pd.DataFrame({**dict.fromkeys([*AXES, "seed"], "NA"), "gap": [1.0, 2], "m": [2.0, 1]})
    options = {"outcome": "gap", "measures": ["m"], "draws": 0}
    alone = conditional_information(table, axes=AXES, **options)
    pd.testing.assert_frame_equal(conditional_information(pd.concat([table, foreign]), axes=AXES, **options), alone)
    found = conditional_information(table, axes=[], **options)
    assert found["given"].tolist() == [""] * 4 and found["estimate"].tolist() == pytest.approx([1, 1, 1, 1])
