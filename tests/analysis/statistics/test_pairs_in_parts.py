"""Environments with more pairs of seeds than memory holds: their pairs come in parts."""

import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from robustgap.analysis.statistics import _environments as module
from robustgap.analysis.statistics._environments import environments
from robustgap.analysis.statistics.sign_errors import environment_errors, sign_errors

AXES = ["a", "b"]


def table(seeds: tuple[int, ...]) -> pd.DataFrame:
    """Six cells with so many seeds each, a measure that knows something, one with gaps in it, and ties."""
    cells = list(itertools.product("uvw", "01"))
    rows = [(*cell, seed) for cell, many in zip(cells, seeds, strict=True) for seed in range(many)]
    found, rng = pd.DataFrame(rows, columns=[*AXES, "seed"]), np.random.default_rng(0)
    found["gap"] = (10 * rng.standard_normal(len(found))).round()
    found["m"] = found["gap"] + 5 * rng.standard_normal(len(found))
    found["holes"] = found["m"].where(rng.random(len(found)) < 0.7)
    return found.assign(images=1000).sample(frac=1, random_state=0, ignore_index=True)


def test_pairs_are_those_of_every_two_cells_that_differ_in_one_axis(monkeypatch):
    models = table((3, 1, 2, 4, 1, 5))
    found = environments(models, AXES)
    for at_once in (1, 4, 2**20):
        monkeypatch.setattr(module, "PAIRS_AT_ONCE", at_once)
        parts = list(found.pairs())
        assert all(len(part) <= at_once for parts_ in parts for part in parts_)
        left, right, home = (np.concatenate(part) for part in zip(*parts, strict=True))
        got = list(zip(left, right, home, strict=True))
        assert len(set(got)) == len(got)
        cells = models[AXES].apply(tuple, axis=1)
        for one in range(len(found)):
            axis, (first, second) = found.axis[one], found.value[one].split("|")
            own = {(left, right) for left, right, place in got if place == one}
            ends = {(cells[left], cells[right]) for left, right in own}
            assert len(ends) == 1
            assert [cell[AXES.index(axis)] for cell in ends.pop()] == [first, second]
        differ = [sum(x != y for x, y in zip(*pair, strict=True)) for pair in itertools.combinations(cells, 2)]
        assert len(got) == differ.count(1)


@pytest.mark.parametrize("images", [None, "images"])
def test_sign_errors_do_not_depend_on_how_many_pairs_are_held(images, monkeypatch):
    models = table((30, 1, 2, 41, 12, 5))
    given = {"axes": AXES, "outcome": "gap", "measures": ["m", "holes"], "images": images}
    whole, each = sign_errors(models, draws=20, **given), environment_errors(models, **given)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 37)
    pd.testing.assert_frame_equal(sign_errors(models, draws=20, **given), whole, rtol=1e-12)
    pd.testing.assert_frame_equal(environment_errors(models, **given), each, rtol=1e-12)


def test_thousands_of_seeds_take_no_more_memory_than_one_part_of_their_pairs():
    """6 million pairs; as arrays of all of them 48 MB each, of which there were a dozen."""
    models = table((2000, 2000, 200, 200, 200, 200))
    tracemalloc.start()
    try:
        sign_errors(models, axes=AXES, outcome="gap", measures=["m"], draws=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * 2**20
