"""Ledgers told otherwise are the same ledgers; and the benchmarks that judge them count what changes."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from benchmarks import verdict_stability as stability
from benchmarks.changed_ledgers import EXP, RENAMINGS, TIMES_100, exponential, outlier
from benchmarks.error_rates import changed, changed_table, changed_targets, one, wrong
from benchmarks.known_answers import AXES, make
from robustgap.analysis.verdicts.claims import PROXY, REPLICATES, UNRESOLVED

RULE, GENUINE, CHANGES = "checkpoint", "genuine", ["renamings", stability.OTHER_SEED, EXP, TIMES_100]


@pytest.fixture(scope="module")
def ledger() -> pd.DataFrame:
    return make(GENUINE, 24, 0)[1].table


@pytest.mark.parametrize("name", RENAMINGS)
def test_a_renamed_ledger_has_the_same_models_in_the_same_cells(ledger, name):
    """Models, known by their gaps, share a value of an axis as before, and at least one thing is told otherwise."""
    table, axes, names = RENAMINGS[name](ledger, np.random.default_rng(3))
    assert sorted(axes) == sorted(AXES) and RULE not in names
    order = np.argsort(table["gap"].to_numpy()), np.argsort(ledger["gap"].to_numpy())
    after, before = (one.iloc[rows].reset_index(drop=True) for one, rows in zip((table, ledger), order, strict=True))
    for column in ("gap", "se_gap", "seed", "m"):
        pd.testing.assert_series_equal(after[column], before[column])
    for axis in AXES:
        pairs = pd.DataFrame({"after": after[axis], "before": before[names.get(axis, axis)]}).drop_duplicates()
        assert pairs["after"].is_unique and pairs["before"].is_unique
    assert axes != AXES or list(table) != list(ledger) or not table.equals(ledger)


def test_a_monotone_outcome_keeps_ranks_and_its_errors_are_those_of_its_slope(ledger):
    steep = exponential(ledger)
    np.testing.assert_array_equal(rankdata(steep["gap"]), rankdata(ledger["gap"]))
    slightly = exponential(ledger.assign(gap=ledger["gap"] + 1e-6))
    np.testing.assert_allclose((slightly["gap"] - steep["gap"]) / 1e-6 * 0.2, steep["se_gap"], rtol=1e-4)


def test_one_gap_of_a_ledger_is_multiplied_and_always_the_same(ledger):
    places = []
    for which in range(4):
        ratio = (outlier(ledger, 5, which)["gap"] / ledger["gap"]).to_numpy()
        assert sorted(ratio.round(9)) == [1.0] * 95 + [100.0]
        places.append(int(ratio.argmax()))
    assert len(set(places)) == 4 and outlier(ledger, 5).equals(outlier(ledger, 5))


def test_a_wrong_proxy_is_counted_where_the_settings_do_not_say_as_much():
    kinds = ("null", "clustered_null", GENUINE, "sign_flip")
    assert [wrong(kind, PROXY, "") for kind in kinds] == [PROXY] * 4
    assert not any(wrong(kind, PROXY, "") for kind in ("axis_proxy", "interaction_proxy", "noisy_proxy"))


def test_verdicts_with_changed_outcomes_are_counted_against_the_first():
    before = pd.DataFrame([one(GENUINE, 24, number, copies=2) for number in (1, 4)])
    rows = pd.DataFrame([changed(EXP, GENUINE, 24, number) for number in (1, 4)])
    (same,) = changed_table(rows, before).to_dict("records")
    assert (same["n"], same["changed"]) == (2, 0)
    turned = pd.concat([rows.assign(verdict=PROXY), rows.assign(verdict=REPLICATES, kind="null", outcome=TIMES_100)])
    told = changed_table(turned, pd.concat([before, before.assign(kind="null")]))
    assert told[f"wrong {PROXY}"].tolist() == [2, 0] and told[f"wrong {REPLICATES}"].tolist() == [0, 2]
    assert [met for _, met in changed_targets(told)] == [False, False, True]


def planted(changed: bool, then: str) -> pd.DataFrame:
    """A row for each change of 10 genuine ledgers in each design."""
    rows = [
        {"configurations": size, "kind": GENUINE, "number": k, "change": change, "detail": "", "changed": changed}
        for size in (64, 24)
        for change in CHANGES
        for k in range(10)
    ]
    return pd.DataFrame(rows).assign(first=UNRESOLVED, then=then)


def test_every_bar_can_be_missed():
    steady = stability.changes_table(planted(False, UNRESOLVED))
    assert all(met for _, met in stability.bars(steady, 105, 200, 1.0))
    moved = stability.changes_table(planted(True, PROXY))
    assert moved["share"].tolist() == [1.0] * 8 and moved["genuine to proxy"].tolist() == [10] * 8
    told = stability.bars(moved, 97, 200, 26.0)
    assert not any(met for _, met in told) and len(told) == 8 + 2 + 3


def test_the_benchmark_of_steady_verdicts_writes_its_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(stability, "SIZES", (24,))
    monkeypatch.setattr(stability, "STABLE", (GENUINE,))
    assert stability.main(["--ledgers", "1", "--genuine", "1", "--quick", "--out", str(tmp_path / "a.md")]) == 0
    text = (tmp_path / "a.md").read_text()
    assert text in capsys.readouterr().out
    for change, many in (("renamings", 6), (stability.OTHER_SEED, 6), (EXP, 1)):
        assert f"| 24 | {change} | 0 | {many} | 0.000 | 0 | 0 |" in text
    assert "of 4 verdicts changed, at most 10%" in text and text.count("\n- ") == 4 + 1 + 3
