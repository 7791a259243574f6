"""Identity of a run: pinned ids, defaults that rename nothing, exact budgets, clear errors."""

import hashlib
import subprocess
import sys

import pytest

from robustgap.training import settings
from robustgap.training.settings import DEFAULTS, NA, chunk_of, complete, exact, model_id, number, run_id

# Settings that apply to some runs only, and one such run.
WHERE: dict[str, dict] = {
    "awp_gamma": {"awp": True},
    "sam_rho": {"sam": "SAM"},
    "asam_rho": {"sam": "ASAM"},
    "trades_beta": {"defense": "TRADES"},
    "mart_beta": {"defense": "MART"},
    "fgsm_alpha": {"defense": "FGSM-RS"},
    "alp_weight": {"defense": "ALP"},
    "free_replays": {"defense": "FreeAT"},
}
DIGITS = {"data": "digits", "architecture": "cnn", "defense": "Standard", "eps": "0.15", "seed": 3}


@pytest.mark.parametrize(
    "given, pinned",
    [
        ({}, "44136fa355"),
        (DIGITS, "d4c2c59112"),
        ({"defense": "TRADES", "awp": True, "batch_size": 32, "inner_steps": 1}, "f365afdf2f"),
    ],
)
def test_three_ids_are_pinned(given, pinned):
    """Stored results are found again by these ids: they must never change."""
    assert run_id(given) == pinned


def test_an_id_is_the_hash_of_what_differs_from_the_defaults():
    canonical = '{"architecture":"cnn","data":"digits","defense":"Standard","eps":"3/20","seed":3}'
    assert run_id(DIGITS) == hashlib.sha256(canonical.encode()).hexdigest()[:10]


def test_keys_at_their_default_rename_nothing(monkeypatch):
    before = run_id(DIGITS)
    assert run_id({**DEFAULTS, **DIGITS}) == before
    monkeypatch.setitem(settings.DEFAULTS, "a_new_axis", "off")
    assert run_id(DIGITS) == before
    assert run_id({**DIGITS, "a_new_axis": "on"}) != before


@pytest.mark.parametrize("key", [key for key in DEFAULTS if key != "eps"])
def test_every_setting_changes_the_id(key):
    other = {"str": "other", "int": 12345, "float": 0.123, "bool": True}[type(DEFAULTS[key]).__name__]
    other = "TRADES" if key == "defense" else other
    context = WHERE.get(key, {})
    assert run_id({**context, key: other}) != run_id(context)


def test_order_of_keys_and_spelling_of_eps_do_not_matter():
    assert run_id(dict(reversed(DIGITS.items()))) == run_id(DIGITS)
    ids = {run_id({**DIGITS, "eps": eps}) for eps in ("0.15", 0.15, "3/20", "6/40", " 3 / 20 ")}
    assert len(ids) == 1


@pytest.mark.parametrize("key", WHERE)
def test_a_setting_that_does_not_apply_neither_shows_nor_renames(key):
    assert complete({key: 0.5})[key] == NA
    assert run_id({key: 0.5}) == run_id({})


@pytest.mark.parametrize("defense", ["MART", "FreeAT"])
def test_label_smoothing_is_of_a_cross_entropy_that_no_attack_climbs(defense):
    assert complete({"defense": defense, "label_smoothing": 0.1})["label_smoothing"] == NA
    assert run_id({"defense": defense, "label_smoothing": 0.1}) == run_id({"defense": defense})


@pytest.mark.parametrize("defense", ["Standard", "FGSM-RS", "FreeAT"])
def test_inner_steps_of_some_defenses_are_not_applicable(defense):
    assert complete({"defense": defense, "inner_steps": 1})["inner_steps"] == NA
    assert run_id({"defense": defense, "inner_steps": 1}) == run_id({"defense": defense})
    assert run_id({"defense": "AT", "inner_steps": 1}) != run_id({"defense": "AT"})


def test_unknown_setting():
    with pytest.raises(ValueError, match=r"setting 'batchsize' is unknown.*batch_size"):
        complete({"batchsize": 32})


def test_eps_is_exact():
    spellings = {"8/255": "8/255", "16/510": "8/255", 0.15: "3/20", "1e-2": "1/100", 0: "0", "0.0": "0"}
    assert {given: exact(given) for given in spellings} == spellings
    assert number("8/255") == 8 / 255
    assert exact(number("1/8")) == "1/8"


@pytest.mark.parametrize("bad", ["-1/255", "8/0", "eight", None, float("nan"), float("inf"), "8//255", True])
def test_impossible_eps(bad):
    with pytest.raises(ValueError, match="eps: found"):
        exact(bad)


def test_models_of_a_run_share_a_stable_chunk():
    assert model_id("3f2a9c01de", "best") == "3f2a9c01de-best"
    assert chunk_of("3f2a9c01de", 8) == f"{int(hashlib.sha256(b'3f2a9c01de').hexdigest()[:8], 16) % 8:03d}"
    chunks = [chunk_of(run_id({"seed": seed}), 8) for seed in range(800)]
    assert set(chunks) == {f"{i:03d}" for i in range(8)}
    assert min(chunks.count(c) for c in set(chunks)) > 60  # 100 expected, standard deviation 9.4


def test_importing_training_and_its_settings_needs_no_torch():
    code = "import sys, robustgap.training, robustgap.training.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
