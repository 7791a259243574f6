"""The heat map of outcomes shows the numbers of the statistics, each in its place."""

import numpy as np
import outcome_ledgers
import pytest
from outcome_ledgers import Given

from robustgap.analysis import figures
from robustgap.analysis.statistics import Statistics

OTHER = "pgd10@L2:1/2"
AXES = {"defense": ["AT", "TRADES"], "batch_size": [32, 128], "awp": [False, True]}
HEADINGS = ["gap", "accuracy on\ntraining images", "accuracy on\ntest images"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Statistics:
    rng = np.random.default_rng(3)
    test = rng.uniform(0.2, 0.5, 16)
    given = [Given(name, test + rng.uniform(0.1, 0.4, 16), test, loss=2 - test) for name in ("pgd10", OTHER)]
    path = tmp_path_factory.mktemp("outcomes") / "ledger"
    return Statistics(outcome_ledgers.make(path, *given, axes=AXES, checkpoints=("last",)))


def numbers(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_cells_are_those_of_the_table_and_marked_where_the_interval_is_clear(made):
    module = figures.module("outcomes")
    data, table = module.data(made), made.table("outcomes_tau").set_index(["measure", "outcome"])
    cells = data[~data["panel"].isin(["ceiling", "agreement"])]
    assert len(cells) == (3 * 4 + 2 * 2) * len(made.ledger.columns)
    for row in cells.to_dict("records"):
        wanted = table.loc[(row["measure"], row["outcome"])]
        for name in ("estimate", "low", "high", "family_low", "family_high"):
            assert row[name] == pytest.approx(wanted[name], nan_ok=True)
        assert row["marked"] == bool(wanted["family_low"] > 0 or wanted["family_high"] < 0)
    assert cells["marked"].any() and not cells["marked"].all()


def test_the_square_shows_gaps_above_and_test_accuracies_below_the_diagonal(made):
    cells, table = figures.module("outcomes").data(made), made.data.models
    square = cells[cells["panel"] == "agreement"]
    assert len(square) == 16
    for place, row in enumerate(square.to_dict("records")):
        i, j = divmod(place, 4)
        known = {name.startswith("gap_") for name in (row["outcome"], row["other"])}
        assert known == {j > i}
        if i == j:
            assert np.isnan(row["estimate"])
        else:
            tau = table[row["outcome"]].corr(table[row["other"]], method="kendall")
            assert row["estimate"] == pytest.approx(tau, nan_ok=True)


def test_panels_are_named_and_hold_their_numbers(made):
    module = figures.module("outcomes")
    data, figure = module.data(made), module.draw(made)
    by_title = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert set(HEADINGS) < set(by_title) and "loss on\ntest images" in by_title
    assert [tick.get_text() for tick in by_title["gap"].get_xticklabels()] == [
        *("no attack", "FGSM", "PGD-10", "PGD-10 at L2 1/2")
    ]
    for heading in HEADINGS:
        part = data[data["panel"] == heading]
        shown = numbers(by_title[heading])
        ceilings = data[(data["panel"] == "ceiling") & data["outcome"].isin(part["outcome"])]
        wanted = ["n/a" if np.isnan(x) else f"{abs(x):.2f}"[1:] for x in [*part["estimate"], *ceilings["estimate"]]]
        assert [text.lstrip("+−±") for text in shown] == wanted
    assert "±" in numbers(by_title["gap"])[-1], "the ceilings are marked"


def test_the_studys_own_outcome_has_a_panel_if_it_is_no_gap_accuracy_or_loss(made):
    module = figures.module("outcomes")
    one = Statistics(outcome_ledgers.asked(made.ledger, "average_ce"))
    figure = module.draw(one)
    assert figure.axes[0].get_title(loc="left") == "asked"
    assert "average_ce" not in set(module.data(one)["measure"])
