"""Sentences of the report say no more of a measure than its verdict."""

import json

import ledger_cases
import ledgers
import numpy as np
import pytest

from robustgap.analysis.ledger import Ledger
from robustgap.analysis.statistics import Statistics, read_statistic
from robustgap.analysis.statistics_folder import write_statistics

DEPENDS = "the sign of its relation with the gap depends on defense"


def noisy(folder, noise: float) -> Ledger:
    """boundary_thickness alone, which rises with the gap under TRADES and falls elsewhere, with more noise."""
    ledger = ledgers.make(folder, axes=ledger_cases.DIGITS, troubles=False)
    own = ledger.measures[ledger.measures["measure"] == "boundary_thickness"]
    value = own["value"] + noise * np.random.default_rng(5).standard_normal(len(own))
    return ledger_cases.saved(ledger, measures=own.assign(value=value))


@pytest.mark.parametrize(("noise", "depends"), [(0.05, True), (0.3, False)])
def test_a_sign_is_said_to_depend_on_a_setting_where_the_verdict_says_so(tmp_path, noise, depends):
    """In both ledgers the plain intervals of pi lie on opposite sides of 0."""
    write_statistics(Statistics(noisy(tmp_path / "ledger", noise)), tmp_path)
    wanted = "kind == 'measure' and statistic == 'pi' and axis == 'defense'"
    pi = read_statistic(tmp_path, "correlations").query(wanted).set_index("value")
    assert pi.loc["TRADES", "low"] > 0 > pi.loc["AT", "high"]
    (verdict,) = read_statistic(tmp_path, "claims").query("kind == 'measure'").to_dict("records")
    assert (verdict["verdict"] == "sign depends") == depends
    told = " ".join(json.loads((tmp_path / "findings.json").read_text())["sentences"])
    assert (f"{DEPENDS}. {verdict['reason']}" in told) == depends
    assert "opposite sides of 0" not in told or "hold for all measures together" in told
