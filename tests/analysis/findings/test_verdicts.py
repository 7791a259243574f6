"""Verdicts in words: counted as they are, and each unresolved measure under the part of the rule that failed."""

import numpy as np
import pandas as pd
import pytest
from ledger_cases import CASES

from robustgap.analysis.findings.verdicts import LACKS, lacking, verdict_sentence, why_unresolved
from robustgap.analysis.statistics import Statistics, read_statistic
from robustgap.analysis.statistics_folder import write_statistics

REASONS = {  # what analysis.verdicts.claims writes as the reason of each
    "tau": "Tau is undefined",
    "few": "Too few configurations",
    "zero": "interval of tau includes 0",
    "settings": "too few for an increment",
    "against": "opposite to the declared sign",
    "increment": "clearly above 0",
    "increment_ridge": "by boosted trees, clearly above 0",
    "increment_trees": "by ridge regression, clearly above 0",
    "turned": "the relation has the other sign",
}


def row(tau=(0.5, 0.4, 0.6), ridge=(-0.1, 0.3), trees=(-0.2, 0.2), sign=None, verdict="unresolved") -> dict:
    """One row of claims.csv."""
    numbers = dict(zip(("tau", "tau_family_low", "tau_family_high"), tau, strict=True))
    for name, ends in (("ridge", ridge), ("trees", trees)):
        numbers |= {f"increment_{name}_family_{end}": value for end, value in zip(("low", "high"), ends, strict=True)}
    return {"verdict": verdict, "sign": sign, "configurations": 32, **numbers}


NONE = (np.nan, np.nan)
ROWS = {
    "tau": row(tau=(np.nan, *NONE), ridge=NONE, trees=NONE),
    "few": row(tau=(0.5, *NONE), ridge=NONE, trees=NONE),
    "zero": row(tau=(0.1, -0.1, 0.3), sign=-1),
    "settings": row(ridge=NONE, trees=NONE, sign=-1),
    "against": row(sign=-1),
    "increment": row(sign=1),
    "increment_ridge": row(trees=(0.1, 0.2), sign=1),
    "increment_trees": row(ridge=(0.1, 0.2), sign=1),
    "turned": row(ridge=(0.1, 0.2), trees=(0.1, 0.2), sign=1),
}


def test_each_measure_counts_under_the_part_of_the_rule_that_failed():
    table = pd.DataFrame([*ROWS.values(), row(verdict="replicates")])
    assert lacking(table).tolist() == list(LACKS) == list(ROWS)
    told = why_unresolved(table)[0]
    assert told.startswith("Why 9 are unresolved") and all(f"{words}: 1" in told for words in LACKS.values())


@pytest.mark.parametrize("case", ["usual", "four_models", "one_axis", "robustbench", "nothing_trained"])
def test_the_words_agree_with_the_reasons_of_the_verdicts(case, tmp_path):
    write_statistics(Statistics(CASES[case](tmp_path / "ledger")), tmp_path / "analysis")
    table = read_statistic(tmp_path / "analysis", "claims")
    if "grid has no two models" not in "".join(table["reason"]):
        for place, name in lacking(table).items():
            assert REASONS[name] in table.loc[place, "reason"]
    table = table[table["kind"] == "measure"]
    for sentence in [verdict_sentence(table, table["measure"]), *why_unresolved(table)]:
        assert sentence.endswith(".") and "nan" not in sentence


def test_what_would_resolve_them_follows_from_the_width_of_the_intervals():
    told = why_unresolved(pd.DataFrame([ROWS["increment"]]))
    assert told[0].startswith("Why 1 is unresolved")
    assert "32 configurations" in told[1] and "0.20 in R²" in told[1] and "some 100 of them" in told[1]  # 32 x 2^2
    narrow = why_unresolved(pd.DataFrame([row(ridge=(-0.01, 0.05), trees=(-0.01, 0.05))]))
    assert "increments smaller than that cannot be told from 0" in narrow[1]
    assert why_unresolved(pd.DataFrame([row(verdict="replicates")])) == []


def test_verdicts_are_counted_and_named_but_for_the_unresolved():
    table = pd.DataFrame({"verdict": ["unresolved", "replicates", "unresolved", "sign depends"]})
    told = "Of 4 measure columns, 1 replicates (b); 1 has a sign that depends on a setting (d); 2 are unresolved."
    assert verdict_sentence(table, list("abcd")) == told
    assert verdict_sentence(table.iloc[:0], []) == "There is no measure to judge."
