"""Increments over settings and training state: the ladder's own, exactly 0 for the state itself, and on request."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.known_answers import AXES, make
from robustgap.analysis.__main__ import main
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.statistics.increments import ladder
from robustgap.analysis.verdicts.claims import claims

ASKED = {"axes": AXES, "outcome": "gap", "measures": ["m", "loss"]}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """A known ledger with a training loss that knows half of what the measure knows."""
    found = make("genuine", 24, 3)[1].table
    return found.assign(loss=found["m"] + np.random.default_rng(0).standard_normal(len(found)))


def test_increments_over_the_state_are_the_ladders_and_those_of_the_state_are_0(table):
    _, found = claims(table, **ASKED, state=["loss"])
    rows = found[found["statistic"] == "increment_state"].set_index(["measure", "learner"])["estimate"]
    steps = ladder(make_study(table, **ASKED), state=["loss"])
    steps = steps[(steps["step"] == "measure") & (steps["over"] == "state") & (steps["axis"] == "")]
    steps = steps[steps["statistic"] == "increment"].set_index(["measure", "learner"])["estimate"]
    for learner in ("ridge", "trees"):
        assert rows["m", learner] == pytest.approx(steps["m", learner], rel=1e-9)
        assert rows["loss", learner] == 0 and rows["m", learner] != 0


def test_verdicts_do_not_rest_on_the_state(table):
    with_state, _ = claims(table, **ASKED, state=["loss"])
    plain, _ = claims(table, **ASKED)
    pd.testing.assert_frame_equal(with_state[plain.columns], plain)


def test_the_command_writes_them(table, tmp_path):
    table.to_csv(tmp_path / "a.csv", index=False)
    given = ["--axes", ",".join(AXES), "--outcome", "gap", "--measures", "m", "--state", "loss"]
    given += ["--seed-column", "seed"]
    assert main(["claims", str(tmp_path / "a.csv"), *given, "--out", str(tmp_path)]) == 0
    found = pd.read_csv(tmp_path / "claims.csv").set_index("measure")
    assert found.loc["m", ["increment_state_ridge", "increment_state_trees_family_high"]].notna().all()
