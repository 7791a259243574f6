"""Robust sign errors against loops over configurations and seeds, and known answers."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import make

from robustgap.analysis.models.design import configurations
from robustgap.analysis.ranks.bootstrap import Bootstrap
from robustgap.analysis.statistics._environments import effective_images, environments, pair_weight
from robustgap.analysis.statistics.sign_errors import ERROR, RESULT, environment_errors, sign_errors

AXES = ["a", "b", "checkpoint"]


def plain_weight(p: dict, q: dict) -> float:
    """(P - 1/2)_+ in plain Python."""
    half = abs(p["gap"] - q["gap"]) / 200
    sure = [max(0.0, 1 - 2 * np.exp(-2 * row["images"] * half**2)) for row in (p, q)]
    return max(0.0, sure[0] * sure[1] - 0.5)


def plain(table: pd.DataFrame, images: bool) -> dict[tuple, tuple[float, float, float]]:
    """{(axis, values, other settings): (sum w, sum w^2, sum w error)} by loops over pairs of settings and of seeds."""
    cells = {key: part.to_dict("records") for key, part in table.groupby(AXES)}
    found = {}
    for one, two in itertools.combinations(cells, 2):
        differ = [place for place in range(len(AXES)) if one[place] != two[place]]
        if len(differ) != 1:
            continue
        (k,) = differ
        total = np.zeros(3)
        for p, q in itertools.product(cells[one], cells[two]):
            sign = np.sign(p["m"] - q["m"]) * np.sign(p["gap"] - q["gap"])
            if not np.isnan(sign):
                w = plain_weight(p, q) if images else float(p["gap"] != q["gap"])
                total += [w, w**2, w * (1 - sign) / 2]
        values = "|".join(sorted([one[k], two[k]]))
        found[AXES[k], values, tuple(one[i] for i in range(len(AXES)) if i != k)] = total
    return found


@st.composite
def tables(draw) -> pd.DataFrame:
    """Up to 30 models of a 3 x 2 x 2-checkpoint x 3-seed design with rows missing, ties, NA and missing values."""
    cells = list(itertools.product(["x", "y", "NA"], ["1", "2"], ["last", "best"], ["0", "1", "2"]))
    kept = draw(st.lists(st.sampled_from(cells), min_size=1, max_size=30, unique=True))
    table = pd.DataFrame(kept, columns=[*AXES, "seed"])
    small = st.integers(-2, 2).map(float)
    table["gap"] = draw(st.lists(st.integers(0, 4).map(lambda k: 4.0 * k), min_size=len(kept), max_size=len(kept)))
    table["m"] = draw(st.lists(st.one_of(small, st.just(np.nan)), min_size=len(kept), max_size=len(kept)))
    table["images"] = draw(st.lists(st.sampled_from([500.0, 2000.0, 8000.0]), min_size=len(kept), max_size=len(kept)))
    return table


def look(found: pd.DataFrame, statistic: str, axis: str = "", value: str = "") -> dict:
    keys = (found["statistic"] == f"sign_error_{statistic}") & (found["axis"] == axis) & (found["value"] == value)
    (row,) = found[keys].to_dict("records")
    return row


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tables(), st.booleans(), st.sampled_from([1, 2, 3.5]))
def test_sign_errors_equal_their_definition(table, images, min_ess):
    options = {"axes": AXES, "outcome": "gap", "measures": ["m"], "images": "images" if images else None}
    found = sign_errors(table, **options, min_ess=min_ess, draws=0)
    assert list(found.columns) == RESULT and (found["min_ess"] == min_ess).all()
    wanted = plain(table, images)
    alive = {key: e / w for key, (w, w2, e) in wanted.items() if w > 0 and w**2 / w2 >= min_ess - 1e-9}
    for axis in ["", *AXES]:
        errors = sorted(error for key, error in alive.items() if axis in ("", key[0]))
        dropped = sum(axis in ("", key[0]) for key in wanted) - len(errors)
        p90 = next((e for k, e in enumerate(errors, 1) if k >= 0.9 * len(errors) - 1e-9), np.nan)
        numbers = {"mean": np.mean(errors) if errors else np.nan, "p90": p90, "max": max(errors, default=np.nan)}
        for name, number in numbers.items():
            row = look(found, name, axis)
            assert row["estimate"] == pytest.approx(number, nan_ok=True)
            assert (row["n"], row["undefined"]) == (len(errors), dropped)
    for axis, value in {key[:2] for key in wanted}:
        parts = np.array([total for key, total in wanted.items() if key[:2] == (axis, value)])
        w, w2, e = parts.sum(axis=0)
        row = look(found, "pooled", axis, value)
        enough = w > 0 and w**2 / w2 >= min_ess - 1e-9
        assert row["estimate"] == pytest.approx(e / w if enough else np.nan, nan_ok=True)
        assert (row["n"], row["undefined"]) == ((parts[:, 0] > 0).sum(), (parts[:, 0] == 0).sum())
    each = environment_errors(table, **options, min_ess=min_ess)
    assert sorted(each["estimate"]) == pytest.approx(sorted(alive.values())) and list(each.columns) == ERROR


def design(seeds: int = 2, seed: int = 0) -> pd.DataFrame:
    """4 x 2 x 2 checkpoints x seeds; the gap rises by 10 points per step of a, and hardly with anything else."""
    levels = itertools.product(range(4), "01", ["last", "best"], map(str, range(seeds)))
    table = pd.DataFrame(levels, columns=[*AXES, "seed"])
    rng = np.random.default_rng(seed)
    return table.assign(gap=10 * table["a"] + 0.5 * rng.standard_normal(len(table)), images=8000.0)


def test_one_axis_that_fools_a_measure_is_seen_in_the_largest_error_alone():
    table = design().assign(m=lambda frame: frame["gap"] * np.where(frame["a"] == 3, -1, 1))
    options = {"axes": AXES, "outcome": "gap", "measures": ["m"], "images": "images", "draws": 200}
    found = sign_errors(table, **options)
    assert (found["min_ess"] == 1).all()
    assert look(found, "pooled", "a", "0|1")["estimate"] == 0 and look(found, "pooled", "a", "2|3")["estimate"] == 1
    row = look(found, "mean", "a")
    assert row["estimate"] == 0.5 and row["n"] == 24 and np.isnan(row["low"]), "two blocks"
    row = look(found, "mean")
    assert row["low"] < row["estimate"] == 0.5 < row["high"]
    assert look(found, "max")["estimate"] == 1 and np.isnan(look(found, "max")["low"])


def test_an_axis_whose_gaps_no_sample_tells_apart_has_no_environment_and_says_so():
    found = sign_errors(design().assign(m=1.0), axes=AXES, outcome="gap", measures=["m"], images="images", draws=50)
    row = look(found, "mean", "b")
    assert np.isnan(row["estimate"]) and (row["n"], row["undefined"]) == (0, 8)
    assert look(found, "mean", "a")["estimate"] == 0.5, "a measure that ties is wrong half of the time"
    assert np.isnan(look(found, "pooled", "b", "0|1")["estimate"])


def test_equal_gaps_say_nothing_about_a_measure():
    """The measure is the gap itself, which ties in most pairs that differ in b or in the checkpoint rule."""
    table = design().assign(gap=lambda frame: frame["gap"].round(), m=lambda frame: frame["gap"].round())
    options = {"axes": AXES, "outcome": "gap", "measures": ["m"]}
    found = sign_errors(table, **options, draws=20)
    assert found["estimate"].dropna().eq(0).all() and look(found, "mean", "b")["n"] > 0
    each = environment_errors(table, **options).query("axis != 'a'")
    assert each["pairs"].between(1, 4).all() and each["pairs"].min() < 4
    tied = sign_errors(table.assign(gap=1.0), **options, draws=20)
    assert tied["estimate"].isna().all() and tied["n"].eq(0).all()


def test_ten_seeds_ask_for_twelve_effective_pairs():
    for seeds, least in ((9, 1), (10, 12)):
        table = design(seeds).assign(m=lambda frame: frame["gap"])
        found = sign_errors(table, axes=AXES, outcome="gap", measures=["m"], images="images", draws=0)
        assert (found["min_ess"] == least).all()


def test_draws_are_of_configurations_without_the_axis_and_of_both_configurations_for_all_axes():
    rng = np.random.default_rng(4)
    table = design(1).assign(gap=lambda frame: rng.standard_normal(len(frame)), m=rng.standard_normal(16))
    found = sign_errors(table, axes=AXES, outcome="gap", measures=["m"], draws=80)
    text = table.astype({"a": str})
    groups, block = environments(text, AXES), configurations(text, AXES)
    x, y = table["m"].to_numpy(), table["gap"].to_numpy()
    ((left, right, _),) = groups.pairs()
    errors = ((x[left] > x[right]) != (y[left] > y[right])).astype(float)
    whole = Bootstrap(80).weights(np.zeros(8), "sign error")[1:]
    one, two = block[left], block[right]
    times = whole[:, one] * np.where(one == two, 1, whole[:, two])
    means = (times * errors).sum(axis=1) / times.sum(axis=1)
    row = look(found, "mean")
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    inside = groups.axis == "a"
    times = Bootstrap(80).weights(np.zeros(2), "sign error a")[1:][:, groups.block[inside]]
    means = (times * errors[inside]).sum(axis=1) / times.sum(axis=1)
    assert len(set(groups.block[inside])) == 2 and np.isnan(look(found, "mean", "a")["low"])
    inside = groups.axis == "b"
    times = Bootstrap(80).weights(np.zeros(4), "sign error b")[1:][:, groups.block[inside]]
    quantiles = [np.quantile(errors[inside], 0.9, method="inverted_cdf", weights=weight) for weight in times]
    row = look(found, "p90", "b")
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(quantiles, [0.025, 0.975])))


def test_pair_weights_grow_with_images_and_difference_as_hoeffding_says():
    y, n = np.array([0.0, 10, 10, 0]), np.array([1e4, 1e4, 100, 1e4])
    left, right = np.array([0, 0, 0]), np.array([1, 2, 3])
    found = pair_weight(y, n, left, right)
    assert found[0] == pytest.approx((1 - 2 * np.exp(-50)) ** 2 - 0.5)
    assert found[1:].tolist() == [0, 0], "few images on one side; no difference"


def test_images_of_a_ledger_are_those_of_both_splits(tmp_path):
    ledger = make(tmp_path, troubles=False)
    models = ledger.models()["model"]
    assert effective_images(ledger, models, "gap_pgd10") == pytest.approx(np.full(len(models), 500 * 897 / 1397))
    assert effective_images(ledger, models, "gap_pgd10_rest") == pytest.approx(np.full(len(models), 244 * 897 / 1141))


def test_a_study_may_name_its_least_effective_sample_size(tmp_path):
    ledger = make(tmp_path)
    assert ledger.min_ess is None
    study = {**ledger.study, "study": {**ledger.study["study"], "analysis": {"min_ess": 6}}}
    assert replace(ledger, study=study).min_ess == 6


def test_without_axes_or_models_there_is_no_environment():
    found = sign_errors(design().iloc[:1].assign(m=1.0), axes=AXES, outcome="gap", measures=["m"], draws=10)
    assert found["n"].eq(0).all() and found["estimate"].isna().all() and len(found) == 12
