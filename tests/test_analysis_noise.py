"""Variance components and noise ceilings against designs whose components and ceilings are known."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau, multivariate_normal, norm

from analysis.association import codes, configurations
from analysis.ceilings import agreement, arrange, ceilings, posterior
from analysis.commands import PUBLISHED
from analysis.components import Levels, components, image_covariance
from analysis.ledger import Ledger
from analysis.noise import RESULT, levels_of, measure_noise, noise
from analysis.settings_effects import settings_bases, split
from analysis.shared_images import Sharing, of_ledger, ranking_error, read_bits, sharing
from benchmarks import known_answers

INDEPENDENT = Sharing()
OPTIONS = {"axes": known_answers.AXES, "outcome": "gap", "seed_column": "seed"}


def levels(table: pd.DataFrame) -> Levels:
    return levels_of(table, known_answers.AXES, "seed")


def ones(found: Levels) -> np.ndarray:
    return np.ones((1, found.configuration.max() + 1))


def design(configurations: int = 6, seeds: int = 3, rules: int = 2) -> Levels:
    home, seed, rule = (part.ravel() for part in np.indices((configurations, seeds, rules)))
    return Levels(home, home * seeds + seed, rule)


def drawn(found: Levels, rng: np.random.Generator, beta=1.0, alpha=0.0, rho=0.0, delta=0.0) -> np.ndarray:
    """Outcomes with these variances; the second checkpoint rule is 5 higher."""
    cell = 2 * found.configuration + found.rule
    parts = zip((found.configuration, cell, found.run), (beta, alpha, rho), strict=True)
    y = sum(np.sqrt(variance) * rng.standard_normal(code.max() + 1)[code] for code, variance in parts)
    return y + 5 * found.rule + np.sqrt(delta) * rng.standard_normal(len(cell))


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


def test_expected_agreement_is_that_of_the_bivariate_normal_distribution():
    """P(D > 0, D + e > 0) + P(D < 0, D + e < 0) = (1 + agreement) / 2."""
    for mean, variance, extra in ((0.0, 1.0, 0.5), (0.7, 0.3, 1.5), (-1.2, 0.01, 0.2)):
        covariance = [[variance, variance], [variance, variance + extra]]
        both = multivariate_normal(cov=covariance)
        alike = both.cdf([mean, mean]) + both.cdf([-mean, -mean])
        found = agreement(np.array([mean]), np.array([variance]), np.array([extra]))
        assert found == pytest.approx(2 * alike - 1, abs=0.02)
    exact = agreement(np.array([0.4]), np.array([0.0]), np.array([1.0]))
    assert exact == pytest.approx(2 * norm.cdf(0.4) - 1)
    assert agreement(np.array([0.4]), np.array([1.0]), np.array([0.0])) == pytest.approx(1)


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


def judged(rng: np.random.Generator, images: dict[str, int], ability: np.ndarray) -> dict:
    """Packed bits of models (n,) whose image t is right where ability + difficulty_t + a model's own luck > 0."""
    found = {}
    for split_, many in images.items():
        difficulty = 1.5 * rng.standard_normal(many)
        shift = 0.8 * (split_ == "train")
        right = ability[split_][:, None] + shift + difficulty + rng.standard_normal((len(ability[split_]), many)) > 0
        found[split_] = np.packbits(right, axis=1), many
    return found


def test_sharing_equals_correlations_written_out_as_loops(monkeypatch):
    rng, found = np.random.default_rng(0), design(3, 2, 2)
    ability = rng.standard_normal(12)
    bits = judged(rng, {"train": 61, "test": 83}, {"train": ability, "test": ability})
    errors = []
    for rows, n in bits.values():
        right = np.unpackbits(rows, axis=1)[:, :n]
        errors.append((right - right.mean(axis=1, keepdims=True)) / n)
    every = np.hstack(errors)
    every = every / np.linalg.norm(every, axis=1, keepdims=True)
    kinds = {"run": [], "configuration": [], "everywhere": []}
    for i, j in itertools.combinations(range(12), 2):
        kind = "run" if found.run[i] == found.run[j] else "configuration"
        kind = kind if found.configuration[i] == found.configuration[j] else "everywhere"
        kinds[kind].append(every[i] @ every[j])
    monkeypatch.setattr("analysis.shared_images.NUMBERS_AT_ONCE", 96)
    got = sharing(bits, found.configuration, found.run)
    for kind, values in kinds.items():
        assert getattr(got, kind) == pytest.approx(np.mean(values))


def test_shared_test_images_do_not_lower_the_ceiling_where_independent_ones_would():
    """120 models on the same 300 images: the true gap's tau with the observed one, and its ceiling with and without
    what the correctness bits tell."""
    rng, found = np.random.default_rng(3), design(30, 2, 2)
    taus, ceiling = [], {True: [], False: []}
    for _ in range(12):
        ability = 0.3 * rng.standard_normal(30)[found.configuration]
        splits = {"train": ability, "test": 0.1 * ability}
        bits = judged(rng, {"train": 300, "test": 300}, splits)
        right = {name: np.unpackbits(rows, axis=1)[:, :n].mean(axis=1) for name, (rows, n) in bits.items()}
        scale = np.sqrt(1 + 1.5**2)
        true = norm.cdf((ability + 0.8) / scale) - norm.cdf(0.1 * ability / scale)
        y = right["train"] - right["test"]
        se = np.sqrt(sum(p * (1 - p) / 300 for p in right.values()))
        taus.append(kendalltau(true, y).statistic)
        for known in (True, False):
            shared = sharing(bits, found.configuration, found.run) if known else INDEPENDENT
            got, _ = components(y, se, found, shared, ones(found))
            ceiling[known].append(ceilings(y, se, found, shared, got, ones(found), 0)["run"][0])
    assert abs(np.mean(ceiling[True]) - np.mean(taus)) < 0.04
    assert np.mean(ceiling[False]) < np.mean(ceiling[True]) - 0.05
    assert arrange(np.stack(found.blocks), se, found, shared).image.shape == (30, 4, 4)


def test_models_of_the_shipped_study_fail_on_the_same_images_the_more_they_have_in_common():
    ledger = Ledger.load(PUBLISHED / "digits")
    table = ledger.models()
    shared = of_ledger(ledger, table, ledger.outcome)
    assert 1 > shared.run > shared.configuration > shared.everywhere > 0.2
    np.testing.assert_allclose(
        ranking_error(table, ledger.outcome, shared) ** 2,
        table[f"se_{ledger.outcome}"] ** 2 * (1 - shared.everywhere),
    )
    assert of_ledger(ledger, table, "gap_pgd10_rest") is None


def test_bits_of_models_judged_on_different_images_are_not_compared(tmp_path):
    rows = [[model, split_, "pgd10", 8, b"\x0f", f"sha-{split_}"] for model in "ab" for split_ in ("train", "test")]
    table = pd.DataFrame(rows, columns=["model", "split", "attack", "n", "bits", "index_sha"])
    table.to_parquet(tmp_path / "bits.parquet")
    assert read_bits(tmp_path / "bits.parquet", "pgd10", ["a", "b"])["test"][1] == 8
    assert read_bits(tmp_path / "none.parquet", "pgd10", ["a", "b"]) is None
    assert read_bits(tmp_path / "bits.parquet", "pgd10", ["a", "c"]) is None
    table.loc[0, "index_sha"] = "other"
    table.to_parquet(tmp_path / "bits.parquet")
    assert read_bits(tmp_path / "bits.parquet", "pgd10", ["a", "b"]) is None


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
