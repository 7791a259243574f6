"""What counts as an exact function of the settings: neither a measure's unit nor a monotone change may decide it."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.known_answers import AXES, make
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.prediction.gain import same_in_cells, settings_residuals
from robustgap.analysis.prediction.increment_statements import design_of, increments
from robustgap.analysis.statistics.increments import ladder

# Of a measure between 0 and 1 and whether a model is under one of the last two of four defenses: all strictly
# increasing once those defenses are set above the others.
CHANGES = {
    "far apart": lambda x, up: x + 1e5 * up,
    "farther apart": lambda x, up: x + 1e9 * up,
    "far up": lambda x, up: (x + up) * 1e160,
    "far down": lambda x, up: (x + up) * 1e-170,
    "huge unit": lambda x, up: (x + up) * 1e300,
    "stretched": lambda x, up: np.exp(100 * (x + up)),
}


def known_table(kind: str = "genuine", seeds: tuple[str, ...] = ("0", "1")) -> pd.DataFrame:
    """A known ledger of 64 configurations with these seeds; column x: ranks of its measure, set higher under the last
    two defenses."""
    table = make(kind, 64, 0)[1].table
    table = table[table["seed"].isin(seeds)].reset_index(drop=True)
    up = table["defense"].isin(["defense2", "defense3"]).to_numpy(float)
    ranks = (table["m"].rank() / len(table)).to_numpy()
    changed = {name: change(ranks, up) for name, change in CHANGES.items()}
    return table.assign(x=ranks + up, **changed)


def grown(table: pd.DataFrame, names: list[str]) -> dict[str, list[float]]:
    """Estimates of the increments of each column, by both learners."""
    study = make_study(table, axes=[axis for axis in AXES if axis in table], outcome="gap", measures=names)
    found = {name: [] for name in names}
    for one in increments(study, 0):
        found[one.key["measure"]].append(one.estimate)
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_a_monotone_change_leaves_the_increment_as_it_is(change):
    found = grown(known_table(), ["x", change])
    assert min(found["x"]) > 0.01
    assert found[change] == pytest.approx(found["x"], rel=1e-6)


@pytest.mark.parametrize("change", ["far apart", "far down"])
def test_a_monotone_change_leaves_the_ladder_as_it_is(change):
    table = known_table()
    found = ladder(make_study(table, axes=AXES, outcome="gap", measures=["x", change]))
    found = found[(found["step"] == "measure") & (found["statistic"] == "increment")]
    wanted, got = (found[found["measure"] == name]["estimate"].to_numpy() for name in ("x", change))
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("change", ["far apart", "far up", "far down", "huge unit"])
def test_nor_does_it_where_each_cell_of_settings_has_one_model(change):
    table = known_table(seeds=("0",))
    table = table[table["checkpoint"] == "last"].drop(columns=["checkpoint", "seed"])
    found = grown(table, ["x", change])
    assert min(map(abs, found["x"])) > 0
    assert found[change] == pytest.approx(found["x"], rel=1e-6)


@pytest.mark.parametrize("kind", ["axis_proxy", "interaction_proxy"])
@pytest.mark.parametrize("unit", [1, 1e-200, 1e200])
def test_functions_of_settings_still_add_exactly_nothing_in_any_unit(kind, unit):
    """Also as a sum of more functions than two settings have, far from 0, and missing for some models."""
    table = known_table(kind)
    pairs = table["m"] + 0.3 * table["awp"].eq("awp1") * table["augment"].eq("augment1") + 1e4
    holes = np.where(np.random.default_rng(0).random(len(table)) < 0.2, np.nan, table["m"])
    table = table.assign(own=table["m"] * unit, pairs=pairs * unit, holes=holes * unit)
    for name, estimates in grown(table, ["own", "pairs", "holes"]).items():
        assert estimates == [0, 0], name


def test_what_differs_in_one_cell_alone_is_no_function_of_the_settings():
    table = known_table("axis_proxy")
    table.loc[0, "m"] = np.nextafter(table.loc[0, "m"], np.inf)
    study = make_study(table, axes=AXES, outcome="gap", measures=["m"])
    design, (fold,) = design_of(study, 0)
    y, values = table["gap"].to_numpy(), table[["m"]].to_numpy(copy=True)
    assert not same_in_cells(design.cell, values).any()
    assert settings_residuals(design, y, values, fold).measures.any()
    values[0] = np.nan
    assert same_in_cells(design.cell, values).all(), "a model without the measure differs from nobody"
    values[:] = np.nan
    assert same_in_cells(design.cell, values).all()
    assert not settings_residuals(design, y, values, fold).measures.any()
