"""The noise of ledgers whose components and ceilings are known: recovered, tidy, and undefined where nothing tells."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from benchmarks import known_answers
from robustgap.analysis.models.design import codes, configurations
from robustgap.analysis.statistics.noise import RESULT, measure_noise, noise

OPTIONS = {"axes": known_answers.AXES, "outcome": "gap", "seed_column": "seed"}


def truth(ledger: known_answers.Ledger, rng: np.random.Generator, copies: int = 10) -> tuple[float, float]:
    """Both ceilings of a known ledger: tau of its true gaps with gaps observed anew."""
    shape = (-1, 2, 2)
    run, configuration = ledger.run_gap, ledger.configuration_gap
    taus = []
    for _ in range(copies):
        image = known_answers.IMAGE_SD * rng.standard_normal((2, len(run)))
        both, own = rng.standard_normal((len(run) // 4, 2, 1)), rng.standard_normal((len(run) // 4, 2, 2))
        share = known_answers.BETWEEN_CHECKPOINTS
        seeds = known_answers.SEED_SD * (np.sqrt(share) * both + np.sqrt(1 - share) * own)
        anew = (configuration.reshape(shape) + seeds).ravel() + image[1]
        taus.append([kendalltau(run, run + image[0]).statistic, kendalltau(configuration, anew).statistic])
    return tuple(np.mean(taus, axis=0))


@pytest.mark.parametrize("many", [24, 64])
def test_both_ceilings_and_all_components_of_known_ledgers_are_recovered(many):
    found, wanted, parts = [], [], []
    for number in range(40):
        _, ledger = known_answers.make("null", many, number)
        rows = noise(ledger.table, **OPTIONS, se="se_gap", draws=0)
        both = rows[rows["statistic"] == "ceiling"].set_index("component")["estimate"]
        found.append(both[["run", "configuration"]])
        wanted.append(truth(ledger, np.random.default_rng(number)))
        parts.append(rows[rows["statistic"] == "variance"].set_index("component")["estimate"])
    assert (np.abs(np.mean(found, axis=0) - np.mean(wanted, axis=0)) < 0.015).all()
    assert (np.abs(np.array(found) - wanted).mean(axis=0) < 0.03).all(), "each, not only their mean"
    mean, error = pd.DataFrame(parts).mean(), pd.DataFrame(parts).std() / np.sqrt(40)
    for name, value in (
        ("settings_main", sum(known_answers.MAIN)),
        ("settings_two_way", sum(known_answers.PAIRS)),
        ("configuration", known_answers.CONFIGURATION_SD**2),
        ("seed", 0.8 * known_answers.SEED_SD**2),
        ("checkpoint", 0.2 * known_answers.SEED_SD**2),
        ("images", known_answers.IMAGE_SD**2),
    ):
        assert abs(mean[name] - value) <= 4 * error[name] + 0.01, name


def test_rows_are_tidy_and_say_what_is_undefined():
    _, ledger = known_answers.make("null", 24, 0)
    found = noise(ledger.table, **OPTIONS, se="se_gap", draws=60)
    assert list(found.columns) == RESULT and (found["n"] == 96).all()
    known = found[found["statistic"] != "sharing"]
    assert (known["undefined"] == 0).all()
    assert ((known["low"] <= known["estimate"] + 1e-9) & (known["estimate"] <= known["high"] + 1e-9)).mean() > 0.8
    shares = found[found["statistic"] == "share"]
    assert shares["estimate"].sum() == pytest.approx(1) and shares[["low", "high"]].to_numpy().min() >= 0
    without = noise(ledger.table, **OPTIONS, draws=0).set_index(["statistic", "component"])["undefined"]
    assert without["variance", "images"] == 1 and without["ceiling", "run"] == 1
    assert without["ceiling", "configuration"] == 0
    single = ledger.table[ledger.table["seed"] == "0"]
    once = noise(single, **{**OPTIONS, "seed_column": None}, se="se_gap", draws=0)
    once = once.set_index(["statistic", "component"])["undefined"]
    assert once["variance", "seed"] == 1 and once["ceiling", "configuration"] == 1 and once["ceiling", "run"] == 0


def test_the_order_of_models_does_not_matter_where_pairs_are_drawn():
    """256 models have more pairs than are looked at."""
    table = known_answers.make("genuine", 64, 0)[1].table
    found = noise(table, **OPTIONS, se="se_gap", draws=3)
    pd.testing.assert_frame_equal(noise(table.sample(frac=1, random_state=1), **OPTIONS, se="se_gap", draws=3), found)


def test_models_trained_elsewhere_count_only_where_there_is_no_grid():
    _, ledger = known_answers.make("null", 24, 0)
    foreign = pd.DataFrame({**dict.fromkeys([*known_answers.AXES, "seed"], "NA"), "gap": [5.0, 90], "se_gap": 0.2})
    both = pd.concat([ledger.table, foreign])
    alone = noise(ledger.table, **OPTIONS, se="se_gap", draws=0)
    pd.testing.assert_frame_equal(noise(both, **OPTIONS, se="se_gap", draws=0), alone)
    rows = noise(foreign, **OPTIONS, se="se_gap", draws=0)
    assert rows.loc[rows["statistic"] == "ceiling", "n"].tolist() == [2, 2]
    assert noise(foreign.assign(gap=np.nan), **OPTIONS, draws=0).empty


def test_measure_noise_is_the_share_of_sampling_variance():
    rng = np.random.default_rng(0)
    _, ledger = known_answers.make("null", 64, 0)
    values = 2 * rng.standard_normal(len(ledger.table))
    table, errors = ledger.table.assign(m=values), pd.DataFrame({"m": np.full(len(values), 0.5)})
    found = measure_noise(table, errors, axes=known_answers.AXES, draws=50).iloc[0]
    assert found["estimate"] == pytest.approx(0.25 / values.var(ddof=1)) and found["low"] < found["estimate"]
    assert len(codes(table, ["gap"])) == len(configurations(table, known_answers.AXES)) == 256
