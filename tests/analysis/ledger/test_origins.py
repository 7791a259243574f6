"""What the runs of a ledger were trained by: in words, summed up, and flagged where a study mixes it."""

import json

import pandas as pd

from robustgap.analysis.ledger import Ledger
from robustgap.analysis.ledger.collect import collect
from robustgap.analysis.ledger.origins import OTHER_ARITHMETIC, arithmetic, flag_other_arithmetic
from robustgap.analysis.report.provenance import provenance
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.words import FLAGS

PINNED = {"cpu": "Epyc", "device": "x86_64", "instructions": "AVX2", "reproducible": True, "threads": 1}
PINNED |= {"packages": {"torch": "2.13.0"}, "commit": "c0ffee"}
NATIVE = {**PINNED, "cpu": "Xeon", "instructions": "AVX512", "reproducible": False}


def say(results, **made_by):
    """Let run.json of these runs say what made them."""
    for run, parts in made_by.items():
        file = results / "runs" / run / "run.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "made_by": parts}))


def test_arithmetic_in_words():
    assert arithmetic([]) == ""
    assert arithmetic([PINNED, {**PINNED, "cpu": "Xeon"}]) == "AVX2, reproducible, torch 2.13.0"
    assert arithmetic([NATIVE]) == "AVX512, Xeon, x86_64, torch 2.13.0"
    assert arithmetic([PINNED, NATIVE]) == f"{arithmetic([PINNED])} + {arithmetic([NATIVE])}"


def test_a_mixture_is_flagged_listed_and_kept(results):
    say(results, r1=[PINNED], r2=[NATIVE], r3=[{**PINNED, "cpu": "Xeon"}])
    ledger = collect(results, results / "ledger")
    runs = Ledger.load(results / "ledger").runs.set_index("model")
    flagged = runs.index[runs["flags"].str.contains(OTHER_ARITHMETIC)]
    assert list(flagged) == ["r2-last", "r2-best"]
    assert runs.loc["r2-last", "arithmetic"] == arithmetic([NATIVE]) and runs.loc["r4-last", "arithmetic"] == ""
    found = [(part["runs"], part["cpu"], part["commit"]) for part in ledger.study["trainings"]]
    assert sorted(found) == [(1, "Epyc", "c0ffee"), (1, "Xeon", "c0ffee"), (1, "Xeon", "c0ffee")]
    assert {"1 run: AVX2, reproducible, torch 2.13.0; CPU Xeon, commit c0ffee"} < set(provenance(ledger)["trained"])
    issues = Statistics(ledger).table("issues")
    assert set(issues.loc[issues["issue"] == OTHER_ARITHMETIC, "model"]) == set(flagged)
    assert FLAGS[OTHER_ARITHMETIC].reason and FLAGS[OTHER_ARITHMETIC].models


def test_one_arithmetic_or_none_known_is_no_mixture(results):
    assert collect(results, results / "ledger").study["trainings"] == []
    say(results, r1=[PINNED], r2=[{**PINNED, "cpu": "Xeon"}])
    runs = collect(results, results / "ledger").runs
    assert not runs["flags"].str.contains(OTHER_ARITHMETIC).any()


def test_what_counts_is_the_number_of_runs_and_other_flags_stay():
    runs = pd.DataFrame({"run": list("aabbcd"), "arithmetic": ["x", "x", "y", "y", "y", ""], "flags": ["f"] * 6})
    assert list(flag_other_arithmetic(runs)["flags"]) == ["f;other_arithmetic"] * 2 + ["f"] * 4
