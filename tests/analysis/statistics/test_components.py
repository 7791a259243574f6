"""Variance components and ceilings against mean squares, closed forms and designs whose components are known."""

import numpy as np
import pandas as pd
import pytest
from noise_designs import INDEPENDENT, design, drawn, ones
from scipy.stats import multivariate_normal, norm

from benchmarks import known_answers
from robustgap.analysis.models.shared_images import Sharing
from robustgap.analysis.statistics._ceilings import ceilings, expected_agreement, posterior
from robustgap.analysis.statistics._components import Levels, components, image_covariance
from robustgap.analysis.statistics._settings_effects import settings_bases, split


def test_a_balanced_design_gives_the_mean_squares_of_textbooks():
    found, (many, seeds, rules) = design(), (6, 3, 2)
    rng = np.random.default_rng(0)
    y = drawn(found, rng, beta=4, alpha=2, rho=2, delta=0.1)
    cube = y.reshape(many, seeds, rules)
    cells, runs, own = cube.mean(axis=1), cube.mean(axis=2), cube.mean(axis=(1, 2))
    inner = cube - cells[:, None] - runs[:, :, None] + own[:, None, None]
    delta = (inner**2).sum() / (many * (seeds - 1) * (rules - 1))
    between_runs = rules * ((runs - own[:, None]) ** 2).sum() / (many * (seeds - 1))
    about = cells - own[:, None] - cells.mean(axis=0) + cells.mean()
    alpha = (about**2).sum() / ((many - 1) * (rules - 1)) - delta / seeds
    rho = (between_runs - delta) / rules
    beta = own.var(ddof=1) - rho / seeds - delta / seeds / rules - alpha / rules
    got, _ = components(y, np.zeros(len(y)), found, INDEPENDENT, ones(found))
    np.testing.assert_allclose([part[0] for part in vars(got).values()], [beta, alpha, rho, delta])


def test_components_are_unbiased_with_models_missing_and_configurations_drawn_twice():
    """The truth is the mean over 300 studies, each with a fifth of the models lost and random multiplicities."""
    rng, whole, got = np.random.default_rng(1), design(30, 2, 2), []
    se = 0.3 + 0.4 * rng.random(len(whole.run))
    shared = Sharing(run=0.8, configuration=0.5, everywhere=0.3)
    for _ in range(300):
        kept = np.sort(rng.permutation(len(se))[: len(se) * 4 // 5])
        some = Levels(np.unique(whole.configuration[kept], return_inverse=True)[1], whole.run[kept], whole.rule[kept])
        y = drawn(whole, rng, beta=4, alpha=1, rho=2, delta=1)[kept]
        shift = np.sqrt(shared.everywhere) * rng.standard_normal()
        for block in some.blocks:
            image = image_covariance(se[kept][block], some.run[block], shared)
            y[block] += rng.multivariate_normal(np.zeros(len(block)), image) + shift
        weights = rng.multinomial(ones(some).size, ones(some)[0] / ones(some).size, size=1).astype(float)
        got.append([part[0] for part in vars(components(y, se[kept], some, shared, weights)[0]).values()])
    mean, error = np.nanmean(got, axis=0), np.nanstd(got, axis=0) / np.sqrt(300)
    assert (np.abs(mean - [4, 1, 2, 1]) < 4 * error).all() and (error < 0.15).all()


def test_a_pair_of_copies_of_a_configuration_never_counts():
    found = design(8)
    y = drawn(found, np.random.default_rng(2), alpha=0.5, rho=0.3, delta=0.2)
    once, _ = components(y, np.zeros(len(y)), found, INDEPENDENT, ones(found))
    thrice, _ = components(y, np.zeros(len(y)), found, INDEPENDENT, 3 * ones(found))
    for a, b in zip(vars(once).values(), vars(thrice).values(), strict=True):
        np.testing.assert_allclose(a, b)


@pytest.mark.parametrize(("seeds", "rules"), [(1, 2), (2, 1), (1, 1)])
def test_what_a_design_cannot_tell_is_undefined(seeds, rules):
    found = design(5, seeds, rules)
    y = drawn(found, np.random.default_rng(0))
    got, _ = components(y, np.zeros(len(y)), found, INDEPENDENT, ones(found))
    assert np.isfinite(got.beta[0]) and np.isnan(got.alpha[0]) == (rules == 1)
    assert np.isnan(got.rho[0]) == (seeds == 1) and np.isnan(got.delta[0]) == (seeds == 1 or rules == 1)


def test_effects_of_settings_without_any_noise_are_exact():
    world = known_answers.make_world(24, np.random.default_rng(0))
    settings = pd.DataFrame(world.level.astype(str), columns=known_answers.AXES[:4])
    bases = settings_bases(settings)
    assert [basis.shape[1] for basis in bases] == [5, 9]
    found = split(world.f, np.zeros(24), bases)
    np.testing.assert_allclose(found, [sum(known_answers.MAIN), sum(known_answers.PAIRS), 0], atol=1e-12)
    everything = np.random.default_rng(1).standard_normal(6)
    small = settings_bases(settings.drop_duplicates(settings.columns[:2])[settings.columns[:2]])
    assert np.isnan(split(everything, np.zeros(6), small)[2]), "two axes and all combinations: no freedom is left"


def test_expected_agreement_is_that_of_the_bivariate_normal_distribution():
    """P(D > 0, D + e > 0) + P(D < 0, D + e < 0) = (1 + agreement) / 2."""
    for mean, variance, extra in ((0.0, 1.0, 0.5), (0.7, 0.3, 1.5), (-1.2, 0.01, 0.2)):
        covariance = [[variance, variance], [variance, variance + extra]]
        both = multivariate_normal(cov=covariance)
        alike = both.cdf([mean, mean]) + both.cdf([-mean, -mean])
        found = expected_agreement(np.array([mean]), np.array([variance]), np.array([extra]))
        assert found == pytest.approx(2 * alike - 1, abs=0.02)
    exact = expected_agreement(np.array([0.4]), np.array([0.0]), np.array([1.0]))
    assert exact == pytest.approx(2 * norm.cdf(0.4) - 1)
    assert expected_agreement(np.array([0.4]), np.array([1.0]), np.array([0.0])) == pytest.approx(1)


def test_posterior_is_the_conditional_normal_distribution():
    rng = np.random.default_rng(0)
    prior, noise_, y = np.cov(rng.standard_normal((3, 9))), np.diag([0.1, 0.5, 2.0]), rng.standard_normal(3)
    mean, covariance = posterior(y, prior, noise_)
    precision = np.linalg.inv(prior) + np.linalg.inv(noise_)
    np.testing.assert_allclose(covariance, np.linalg.inv(precision))
    np.testing.assert_allclose(mean, np.linalg.inv(precision) @ np.linalg.inv(noise_) @ y)


def test_without_noise_the_ceiling_is_one_and_without_signal_it_is_low():
    found = design(20)
    y = drawn(found, np.random.default_rng(0), rho=0.1, delta=0.1)
    for se, low, high in ((0.0, 1, 1), (1000.0, 0, 0.3)):
        errors = np.full(len(y), se)
        got, _ = components(y, errors, found, INDEPENDENT, ones(found))
        both = ceilings(y, errors, found, INDEPENDENT, got, ones(found), 0)
        assert low - 1e-9 <= both["run"][0] <= high + 1e-9
