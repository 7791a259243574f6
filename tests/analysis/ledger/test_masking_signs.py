"""Gradient masking in outcomes: planted networks, honest ones, and tests that can be written down."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from masked import Behind, digits, trained
from outcome_cases import attacked, limit_library
from result_files import make_results
from trees import ROOT

from robustgap.analysis.ledger import GRADIENT_MASKING
from robustgap.analysis.ledger.collect import collect
from robustgap.analysis.ledger.masking import masking_signs

N = 100


CURVE = [("pgd10", eps) for eps in (0.0, 0.05, 0.1, 0.2)]


def outcomes(model: torch.nn.Module, monkeypatch, asked=(*CURVE, ("apgd_ce", 0.1), ("square", 0.1)), n: int = N):
    """Outcomes of the first digits; by default PGD-10 at four eps, APGD and Square at one of them."""
    limit_library(monkeypatch, queries=400, steps=20)
    (x, y), index = digits(n, "train" if n <= 500 else "test"), torch.arange(n)
    return {
        (attack, "Linf", eps): attacked(model, x, y, index, attack=attack, eps=eps, norm="Linf")[0].numpy()
        for attack, eps in asked
    }


HIDDEN = {
    "rounded": ("AT", 10, lambda net, x: net((16 * x).round() / 16)),
    "saturated": ("Standard", 20, lambda net, x: 1e6 * net(x)),
}


@pytest.mark.parametrize("hidden", HIDDEN)
def test_gradients_that_are_rounded_away_are_seen(hidden: str, monkeypatch):
    """PGD and APGD move no image anywhere: their accuracy stays, however large eps is, and Square finds more."""
    defense, epochs, hides = HIDDEN[hidden]
    model = Behind(trained(defense, epochs), hides).eval()
    told = masking_signs(outcomes(model, monkeypatch))
    for attack in ("pgd10", "apgd_ce"):
        assert f" images that {attack} does not, which breaks 0 that it does not" in told
    if hidden == "rounded":  # where a random start alone changes few images
        curve = outcomes(model, monkeypatch, (("pgd10", 0.05), ("pgd10", 0.2)), n=400)
        assert "images that withstand Linf 0.05 fall at 0.2" in masking_signs(curve)


@pytest.mark.parametrize(("defense", "epochs"), [("Standard", 20), ("AT", 10)])
def test_honest_networks_show_no_sign(defense: str, epochs: int, monkeypatch):
    bits = outcomes(trained(defense, epochs), monkeypatch)
    assert bits["pgd10", "Linf", 0.0].mean() > 0.8 > bits["pgd10", "Linf", 0.2].mean()
    assert masking_signs(bits) == ""


def first(right: int, n: int = N) -> np.ndarray:
    """The first images are classified correctly."""
    return np.arange(n) < right


def test_square_and_transfer_must_break_more_alone_than_chance_would():
    """k of k discordant images: p = 2^-k. One test, level .01: 7 are a sign, 6 are none."""
    for black in ("square", "transfer+source=a,b"):
        for k, sign in ((6, False), (7, True)):
            bits = {("pgd10", "Linf", 0.1): first(50 + k), (black, "Linf", 0.1): first(50)}
            told = f"{black} breaks {k} images that pgd10 does not, which breaks 0 that it does not (Linf 0.1)"
            assert masking_signs(bits) == (told if sign else "")
        bits[black, "Linf", 0.1][:50] = np.arange(50) >= 0
        bits["pgd10", "Linf", 0.1][:7] = False  # as many the other way round
        assert masking_signs(bits) == ""
    two = {("pgd10", "Linf", 0.1): first(57), ("apgd_ce", "Linf", 0.1): first(50), ("square", "Linf", 0.1): first(50)}
    assert masking_signs(two) == ""  # two tests, each at .005
    two["pgd10", "Linf", 0.1] = first(58)
    assert masking_signs(two).startswith("square breaks 8 images that pgd10 does not")


def test_only_the_same_norm_and_eps_are_compared_on_the_images_that_both_have():
    bits = {("pgd10", "Linf", 0.1): first(90), ("square", "Linf", 0.2): first(10), ("square", "L2", 0.1): first(10)}
    assert masking_signs(bits) == ""
    assert masking_signs({**bits, ("square", "Linf", 0.1): first(80)[:70]}) == ""
    assert "breaks 20 images" in masking_signs({**bits, ("square", "Linf", 0.1): first(50)[:70]})
    assert masking_signs({}) == ""
    assert masking_signs({("fgsm", "Linf", 0.1): first(90), ("square", "Linf", 0.1): first(10)}) == ""


def test_accuracy_that_rises_or_stays():
    curve = {("pgd10", "Linf", eps): first(right) for eps, right in ((0.0, 95), (0.1, 60), (0.2, 70), (0.4, 20))}
    assert masking_signs(curve) == "pgd10: accuracy rises from 60.0% at Linf 0.1 to 70.0% at 0.2"
    for n, largest, fallen, sign in ((228, 2.0, 0, 1), (227, 2.0, 0, 0), (228, 1.9, 0, 0), (228, 2.0, 1, 0)):
        flat = {("pgd10", "L2", eps): first(n, 300) for eps in (0.0, 0.5)} | {
            ("pgd10", "L2", largest): first(n - fallen, 300)
        }
        # .98^228 = .00999, .98^227 = .0102
        told = "pgd10: 0 of 228 images that withstand L2 0.5 fall at 2"
        assert masking_signs(flat) == (told if sign else ""), (n, largest, fallen)


def test_it_needs_no_torch():
    code = "import sys, robustgap.analysis.ledger.masking; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_ledger_flags_the_model_and_gives_the_reason(tmp_path):
    results = make_results(tmp_path / "S")
    file = results / "outcomes" / "000.parquet"
    table = pd.read_parquet(file)
    square = table[(table["attack"] == "pgd10") & (table["split"] == "test")].assign(attack="square", outcome="square")
    broken = square["model"] == "r1-last"  # 50 of 100 images withstand PGD-10, and 30 of these Square
    square.loc[broken, "bits"] = [np.packbits(np.arange(100) < 30).tobytes()]
    pd.concat([table, square]).to_parquet(file)
    runs = collect(results, tmp_path / "ledger").runs.set_index("model")
    told = "square breaks 20 images that pgd10 does not, which breaks 0 that it does not (Linf 0.15)"
    assert runs.loc["r1-last", "reason"] == told and runs.loc["r1-last", "flags"] == GRADIENT_MASKING
    assert runs.loc["r1-best", "reason"] == "" and GRADIENT_MASKING not in runs.loc["r1-best", "flags"]
