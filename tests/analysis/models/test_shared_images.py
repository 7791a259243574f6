"""What models that were judged on the same images have in common, and what that does to ceilings."""

import itertools

import numpy as np
import pandas as pd
import pytest
from noise_designs import INDEPENDENT, design, ones
from scipy.stats import kendalltau, norm

from robustgap.analysis.commands import PUBLISHED
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.models.shared_images import ranking_error, read_bits, shared_image_noise, sharing
from robustgap.analysis.statistics._ceilings import block_structure, ceilings
from robustgap.analysis.statistics._components import components


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
    monkeypatch.setattr("robustgap.analysis.models.shared_images.NUMBERS_AT_ONCE", 96)
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
    assert block_structure(np.stack(found.blocks), se, found, shared).image.shape == (30, 4, 4)


def test_models_of_the_shipped_study_fail_on_the_same_images_the_more_they_have_in_common():
    ledger = Ledger.load(PUBLISHED / "digits")
    table = ledger.models()
    shared = shared_image_noise(ledger, table, ledger.outcome)
    assert 1 > shared.run > shared.configuration > shared.everywhere > 0.2
    np.testing.assert_allclose(
        ranking_error(table, ledger.outcome, shared) ** 2,
        table[f"se_{ledger.outcome}"] ** 2 * (1 - shared.everywhere),
    )
    assert shared_image_noise(ledger, table, "gap_pgd10_rest") is None


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
