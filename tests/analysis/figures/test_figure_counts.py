"""The n that a figure states is that of the mark beside it, also where a measure is missing for some models."""

import numpy as np
import pytest

from benchmarks.known_answers import AXES, make
from robustgap.analysis import figures
from robustgap.analysis.figures import _facts
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.statistics.increments import ladder


def counted(axes) -> list[str]:
    """The words at the right of the rows of a panel."""
    (beside,) = axes.child_axes
    return [label.get_text() for label in beside.get_yticklabels()]


def stated(title: str, labels: list[str]) -> list[int]:
    """The n of a panel of thresholds: over it, else that of the labels."""
    own = [line for line in title.split("\n") if line.startswith("n = ")]
    if own:
        return [int(number) for number in own[0].removeprefix("n = ").split(", ")]
    return [int(label.split("n = ")[1]) for label in labels]


def test_every_panel_of_thresholds_states_its_own_n(statistics_of):
    statistics = statistics_of("usual")
    module = figures.module("thresholds")
    data = module.data(statistics)
    whole = data[data["value"] == ""].set_index(["measure", "quantile"])["n"]
    panels, apart = module.draw(statistics).axes, 0
    for measure, axes in zip(dict.fromkeys(data["measure"]), panels, strict=False):
        labels = [label.get_text() for label in axes.get_xticklabels()]
        cuts = [int(label.split("%")[0]) / 100 for label in labels]
        assert stated(axes.get_title(loc="left"), labels) == [whole[measure, cut] for cut in cuts]
        apart += "n = " in axes.get_title(loc="left")
    assert apart == 1, "boundary_thickness is missing for Standard models"


def test_rows_per_defense_count_the_models_that_have_the_measure(statistics_of):
    statistics = statistics_of("usual")
    module = figures.module("pi_defense")
    data = module.data(statistics)
    words = dict(zip(dict.fromkeys(data["measure"]), counted(module.draw(statistics).axes[-1]), strict=True))
    models = statistics.data.beside.table
    groups = [models[models["defense"] == value] for value in statistics.ledger.values("defense")]
    for measure, told in words.items():
        known, *parts = (
            int((part[measure].notna() & part[statistics.ledger.outcome].notna()).sum()) for part in (models, *groups)
        )
        assert told == f"n = {known}" + ("" if known == len(models) else f": {', '.join(map(str, parts))}")
    assert any(": 0, " in told for told in words.values())


@pytest.mark.parametrize("case", ["usual", "one_axis", "robustbench"])
@pytest.mark.parametrize("name", ["forest", "pi_defense"])
def test_rows_are_counted_at_the_right_of_the_last_panel_that_is_drawn(statistics_of, case, name):
    statistics = statistics_of(case)
    figure = figures.module(name).draw(statistics)
    axes = [axes for axes in figure.axes if axes.axison][-1]
    taus = statistics.table("correlations").query("statistic == 'tau'").set_index("measure")
    wanted = [f"n = {n:.0f}" for n in taus.loc[_facts.row_names(statistics), "n"]]
    assert len(wanted) > len(statistics.ledger.columns), "baselines and controls have rows of their own"
    assert [told.split(":")[0] for told in counted(axes)] == wanted


def test_steps_with_one_measure_count_the_models_that_have_it():
    table = make("genuine", 24, 0)[1].table
    table["holes"] = table["m"].where(np.random.default_rng(0).random(len(table)) < 0.9)
    found = ladder(make_study(table, axes=AXES, outcome="gap", measures=["m", "holes"]))
    assert set(found.loc[(found["axis"] == "") & (found["measure"] != "holes"), "n"]) == {len(table)}
    for (axis, value), rows in found[found["measure"] == "holes"].groupby(["axis", "value"]):
        inside = table[table[axis] == value] if axis else table
        assert set(rows["n"]) == {inside["holes"].notna().sum()}
