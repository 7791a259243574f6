"""Reliability over seeds and images, against models whose reliability is known."""

from dataclasses import replace

import ledgers
import numpy as np
import pandas as pd
import pytest

from robustgap.analysis.ledger import Ledger
from robustgap.analysis.ranks.bootstrap import Bootstrap
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics.reliability import across_blocks, costs, over_images, over_seeds, within_groups


def ones(block):
    return np.ones((1, block.max() + 1))


def test_pairs_within_groups_and_across_blocks_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    block = np.repeat([0, 1, 2, 3], [4, 4, 2, 1])
    group = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5])
    values = rng.standard_normal(11)
    for multiplicity in ([1, 1, 1, 1], [2, 0, 1, 3]):
        weight = np.array([multiplicity], dtype=float)
        inside, outside = [], []
        for i in range(11):
            for j in range(11):
                half = (values[i] - values[j]) ** 2 / 2
                w = weight[0, block[i]]
                if i < j and group[i] == group[j]:
                    inside += [half] * int(w)
                if block[i] != block[j]:
                    outside += [half] * int(w * weight[0, block[j]])
        assert within_groups(values, group, block, weight) == pytest.approx([np.mean(inside)])
        assert across_blocks(values, block, weight) == pytest.approx([np.mean(outside)])


def planted(share, configurations=400, seeds=3, seed=0):
    """Models whose measure is sqrt(share) * (an effect of the configuration) + sqrt(1 - share) * (one of the seed)."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(configurations), seeds)
    between, inside = rng.standard_normal(configurations)[block], rng.standard_normal(len(block))
    return pd.Series(np.sqrt(share) * between + np.sqrt(1 - share) * inside), block


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_over_seeds_is_the_share_of_variance_between_configurations(share):
    values, block = planted(share)
    (found, low, high), n = over_seeds(values, block, block, Bootstrap(200).weights(np.zeros(400), "x"))
    ranked = 6 / np.pi * np.arcsin(share / 2)  # the correlation of the ranks of two normal variables
    assert found == pytest.approx(ranked, abs=0.05)
    assert low <= found <= high and n == 1200
    monotone, _ = over_seeds(np.exp(5 * values), block, block, ones(block))
    assert monotone[0] == pytest.approx(found, abs=1e-12)


def test_over_images_is_one_minus_the_share_of_sampling_noise():
    rng = np.random.default_rng(1)
    truth, se = 3 + 2 * rng.standard_normal(5000), 0.5
    values = pd.Series(truth + se * rng.standard_normal(5000))
    block = np.arange(5000)
    found, n = over_images(values, pd.Series(np.full(5000, se)), block, ones(block))
    assert found[0] == pytest.approx(1 - se**2 / values.var(), rel=1e-9)
    again = truth + se * rng.standard_normal(5000)
    assert found[0] == pytest.approx(np.corrcoef(values, again)[0, 1], abs=0.02)  # test and retest on other images
    assert n == 5000


@pytest.mark.parametrize(
    ("values", "group"),
    [
        ([1.0, 2.0, 3.0], [0, 1, 2]),  # one seed each
        ([1.0, 1.0, 1.0, 1.0], [0, 0, 1, 1]),  # a constant measure
        ([1.0, np.nan, 3.0, np.nan], [0, 0, 1, 1]),  # the second seed is missing
        ([1.0, 2.0], [0, 0]),  # one configuration
        ([np.nan] * 4, [0, 0, 1, 1]),
    ],
)
def test_what_cannot_be_known_is_undefined(values, group):
    group = np.array(group)
    assert np.isnan(over_seeds(pd.Series(values), group, group, ones(group))[0][0])
    missing = pd.Series(np.full(len(values), np.nan))
    assert np.isnan(over_images(pd.Series(values), missing, group, ones(group))[0][0])
    constant, errors = pd.Series(np.ones(len(values))), pd.Series(np.full(len(values), 0.1))
    assert np.isnan(over_images(constant, errors, group, ones(group))[0][0])


def test_the_table_of_a_study_has_both_statistics_of_every_column(tmp_path):
    ledger = ledgers.make(tmp_path, seeds=3)
    table = ledger.models()
    found = Statistics(ledger).table("reliability")
    assert found[["measure", "statistic"]].to_numpy().tolist() == [
        [column, statistic] for column in ledger.columns for statistic in ("seeds", "images")
    ]
    rows = found.set_index(["measure", "statistic"])
    assert rows.loc[("average_ce", "seeds"), "estimate"] > 0.5 and rows.loc[("average_ce", "images"), "estimate"] > 0.9
    assert (found["n"] + found["undefined"] == len(table)).all()
    assert rows.loc["num_params", "estimate"].isna().all()  # constant
    thickness = rows.loc[("boundary_thickness", "seeds")]
    assert thickness["n"] == (table["defense"] != "Standard").sum()
    defined = found[found["estimate"].notna()]
    assert ((defined["low"] <= defined["estimate"]) & (defined["estimate"] <= defined["high"])).all()


def test_models_trained_elsewhere_have_no_second_seed(tmp_path):
    ledger = ledgers.make(tmp_path, seeds=2, troubles=False)
    foreign = dict.fromkeys([*ledger.axes, "seed", "checkpoint"], "NA")
    replace(ledger, runs=ledger.runs.assign(**foreign)).write(tmp_path)
    ledger = Ledger.load(tmp_path)
    rows = Statistics(ledger).table("reliability").set_index(["measure", "statistic"])
    assert np.isnan(rows.loc[("average_ce", "seeds"), "estimate"]) and rows.loc[("average_ce", "seeds"), "n"] == 0
    assert rows.loc[("average_ce", "images"), "estimate"] > 0.9


def test_costs_are_means_over_models(tmp_path):
    ledger = ledgers.make(tmp_path)
    assert costs(ledger).loc["average_ce.adv"].tolist() == pytest.approx([0.2, 4.0])
