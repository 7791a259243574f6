"""A measure of a hand-written rule may have any name: also one that a statistic gives to a column of its own."""

import ledger_cases
import ledgers
import pandas as pd
import pytest

from robustgap.analysis.ledger import Ledger
from robustgap.analysis.statistics import Statistics


def named(ledger: Ledger, name: str, folder) -> Ledger:
    """The ledger with one measure (and its adversarial variant), under that name."""
    kept = ledger.measures[ledger.measures["measure"] == "average_ce"].assign(measure=name)
    study = {**ledger.study, "study": {**ledger.study["study"], "measures": [name]}}
    return ledger_cases.saved(Ledger(ledger.runs, ledger.outcomes, kept, {}, study, folder))


def tables(ledger: Ledger) -> dict[str, pd.DataFrame]:
    """Every statistic; the measures are called by their place."""
    statistics = Statistics(ledger)
    found = {name: statistics.table(name) for name in statistics.names if name not in ("models", "issues")}
    places = {column: f"measure {place}" for place, column in enumerate(ledger.columns)}
    found["increments"] = found["increments"].drop(columns="members")  # names in sentences
    naming = ("measure", "other", "group")
    return {
        name: table.assign(**{column: table[column].replace(places) for column in naming if column in table})
        for name, table in found.items()
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> tuple[Ledger, dict[str, pd.DataFrame]]:
    folder = tmp_path_factory.mktemp("plain")
    ledger = ledgers.make(folder / "made", troubles=False)
    return ledger, tables(named(ledger, "plain", folder / "ledger"))


@pytest.mark.parametrize("name", ["error", "images", "block"])
def test_statistics_do_not_depend_on_the_name_of_a_measure(plain, tmp_path, name):
    ledger, wanted = plain
    found = tables(named(ledger, name, tmp_path))
    assert found.keys() == wanted.keys()
    for table, content in wanted.items():
        pd.testing.assert_frame_equal(found[table], content, obj=f"{table} of a measure named {name}")
