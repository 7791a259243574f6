"""Tables with many models of one configuration: sums in parts equal the formulas written out, in bounded memory."""

import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr

from robustgap.analysis import __main__ as command
from robustgap.analysis.models.shared_images import Sharing
from robustgap.analysis.statistics import _ceilings as module
from robustgap.analysis.statistics._ceilings import NODES, ceilings, pairs
from robustgap.analysis.statistics._components import Levels, cells, components, image_covariance, within_configurations
from robustgap.analysis.statistics.noise import noise

MEGABYTE = 2**20


def levels(rng: np.random.Generator, balanced: bool) -> Levels:
    """6 configurations of 3 seeds and 2 checkpoints; unless balanced, some models missing and others doubled."""
    table = pd.DataFrame(list(itertools.product(range(6), range(3), range(2))), columns=["home", "seed", "rule"])
    if not balanced:
        table = table.iloc[np.sort(rng.integers(0, len(table), 30))]
    home = np.unique(table["home"], return_inverse=True)[1]
    run = np.unique(home * 3 + table["seed"].to_numpy(), return_inverse=True)[1]
    return Levels(home, run, table["rule"].to_numpy())


def case(seed: int, balanced: bool) -> tuple[np.ndarray, np.ndarray, Levels, Sharing]:
    """Outcomes with standard errors (0 in every third case), levels and shared noise."""
    rng = np.random.default_rng(seed)
    found = levels(rng, balanced)
    n = len(found.run)
    y = rng.standard_normal(n) + 2 * rng.standard_normal(6)[found.configuration]
    shared = Sharing(*np.sort(rng.random(3) / 2)[::-1])
    return y, rng.random(n) * (seed % 3 > 0), found, shared


def plain_ceilings(y, se, found, shared, parts, chosen) -> dict[str, float]:
    """Both ceilings of all models at once, from covariances of n x n."""
    own = found.configuration[:, None] == found.configuration
    image = np.zeros(own.shape)
    for block in found.blocks:
        image[np.ix_(block, block)] = image_covariance(se[block], found.run[block], shared)
    same = {name: own & (codes[:, None] == codes) for name, codes in (("run", found.run), ("rule", found.rule))}
    expected = parts["beta"] * own + parts["alpha"] * same["rule"]
    seeds = parts["rho"] * same["run"] + parts["delta"] * np.eye(len(y))
    means = np.array([y[found.rule == rule].mean() for rule in found.rule])
    taus = {}
    for name, prior, noise_ in (("run", expected + seeds, image), ("configuration", expected, seeds + image)):
        gain = prior @ np.linalg.pinv(prior + noise_, hermitian=True)
        mean, left = means + gain @ (y - means), prior - gain @ prior
        agreed = untied = 0.0
        for i, j in zip(chosen.left, chosen.right, strict=True):
            spread, fresh = (max(v[i, i] + v[j, j] - 2 * v[i, j], 0) for v in (left, noise_))
            difference = mean[i] - mean[j]
            if difference**2 + spread > 1e-9 * y.var():
                untied += 1
                size = np.abs(difference + np.sqrt(spread) * NODES) / np.sqrt(max(fresh, 1e-30))
                agreed += (2 * ndtr(size) - 1).mean()
        taus[name] = agreed / np.sqrt(untied * len(chosen.left)) if untied else np.nan
    return taus


@pytest.mark.parametrize("at_once", [1, 2**22])
@pytest.mark.parametrize("balanced", [True, False])
def test_ceilings_in_parts_are_those_of_all_models_at_once(balanced, at_once, monkeypatch):
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", at_once)
    for seed in range(6):
        y, se, found, shared = case(seed, balanced)
        weights = np.ones((1, len(found.blocks)))
        known, _ = components(y, se, found, shared, weights)
        parts = {name: float(np.nan_to_num(part[0])) for name, part in vars(known).items()}
        wanted = plain_ceilings(y, se, found, shared, parts, pairs(found, 0))
        got = ceilings(y, se, found, shared, known, weights, 0)
        assert not np.isnan(got["run"][0])
        for name, tau in wanted.items():
            assert got[name][0] == pytest.approx(tau, rel=1e-10, nan_ok=True), (seed, name)


def projection(*codes: np.ndarray) -> np.ndarray:
    columns = np.concatenate([(code[:, None] == np.unique(code)).astype(float) for code in codes], axis=1)
    return columns @ np.linalg.pinv(columns)


@pytest.mark.parametrize("balanced", [True, False])
def test_sums_of_squares_and_their_expectations_are_those_of_projections(balanced):
    for seed in range(12):
        y, se, found, shared = case(seed, balanced)
        squares, means = within_configurations(y, se, found, shared), cells(y, se, found, shared)
        for number, block in enumerate(found.blocks):
            run, rule = found.run[block], found.rule[block]
            image, same = image_covariance(se[block], run, shared), run[:, None] == run
            full, about = projection(rule, run), projection(rule)
            inner, outer = np.eye(len(block)) - full, full - about
            wanted = {"inner": y[block] @ inner @ y[block], "inner_delta": np.trace(inner)}
            wanted |= {"outer": y[block] @ outer @ y[block], "outer_delta": np.trace(outer)}
            wanted |= {"inner_image": (inner * image).sum(), "outer_image": (outer * image).sum()}
            wanted |= {"outer_rho": (outer * same).sum()}
            assert {name: part[number] for name, part in squares.items()} == pytest.approx(wanted, abs=1e-10)
            rows = np.stack([(rule == one) / (rule == one).sum() for one in np.unique(rule)])
            for name, covariance in (("rho", same), ("delta", np.eye(len(block))), ("image", image)):
                noise_ = rows @ covariance @ rows.T
                assert means[f"mean_{name}"][number] == pytest.approx(noise_.mean(), abs=1e-10)
                spread = np.trace(noise_) - noise_.sum() / len(rows)
                assert means[f"about_{name}"][number] == pytest.approx(spread, abs=1e-10)


def test_one_configuration_of_many_seeds_does_not_make_all_others_as_large():
    """200 configurations trained once and one trained 300 times: a matrix of 300 x 300 for each would be 144 MB."""
    rng = np.random.default_rng(0)
    rows = [(str(number), "0") for number in range(200)] + [("0", str(seed)) for seed in range(1, 300)]
    table = pd.DataFrame(rows, columns=["a", "seed"]).assign(gap=rng.standard_normal(499), se=0.1)
    tracemalloc.start()
    try:
        found = noise(table, axes=["a"], outcome="gap", seed_column="seed", se="se", draws=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * MEGABYTE
    assert 0 < found.loc[found["component"] == "run", "estimate"].iloc[0] < 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "error: memory ran out\n"),
        (MemoryError("Unable to allocate 3 GiB"), "error: memory ran out (Unable to allocate 3 GiB)\n"),
    ],
)
def test_too_little_memory_is_one_line(error, told, monkeypatch, capsys):
    def fails(_given):
        raise error

    monkeypatch.setattr(command.handlers, "run_claims", fails)
    assert command.main(["claims", "table.csv", "--out", "there"]) == 1
    assert capsys.readouterr().err == told
