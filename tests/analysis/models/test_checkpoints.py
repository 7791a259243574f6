"""A model that is both checkpoints of its run: counted once, and found under either rule. Against loops over pairs."""

import itertools
from dataclasses import replace

import ledgers
import numpy as np
import pandas as pd
import pytest
from noise_designs import INDEPENDENT, design
from scipy.stats import kendalltau

from robustgap.analysis.ledger import BOTH, Ledger
from robustgap.analysis.model_table import read_models
from robustgap.analysis.models.checkpoints import expanded, row_weights, rows_by_value
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.statistics._components import EVERY, Levels, within_configurations
from robustgap.analysis.statistics.correlations import correlations
from robustgap.analysis.statistics.increments import ladder
from robustgap.analysis.statistics.information import conditional_information
from robustgap.analysis.statistics.noise import noise
from robustgap.analysis.statistics.reliability import over_seeds, seed_cells
from robustgap.analysis.statistics.selection import selection
from robustgap.analysis.statistics.sign_errors import sign_errors
from robustgap.analysis.verdicts.claims import claims

AXES = ["a", "b", "checkpoint"]
KEYS = {"axes": AXES, "outcome": "gap", "measures": ["m"]}


def planted(seed: int = 0, seeds: int = 3) -> pd.DataFrame:
    """Runs of a 3 x 2 design, two of five with one model that is both checkpoints; ties and missing values."""
    rng, rows = np.random.default_rng(seed), []
    for a, b, run in itertools.product("xyz", "12", range(seeds)):
        kept = [BOTH] if rng.random() < 0.4 else ["last", "best"]
        rows += [{"a": a, "b": b, "seed": str(run), "checkpoint": rule} for rule in kept]
    table = pd.DataFrame(rows)
    table["gap"] = rng.integers(0, 6, len(table)) * 10.0
    table["m"] = table["gap"] + rng.integers(-3, 4, len(table)) * 10.0
    table.loc[rng.random(len(table)) < 0.1, "m"] = np.nan
    assert 0 < (table["checkpoint"] == BOTH).sum() < len(table)
    return table


def copies(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it was before: two rows for one model, by a loop."""
    rows = []
    for row in table.to_dict("records"):
        rules = ["last", "best"] if row["checkpoint"] == BOTH else [row["checkpoint"]]
        rows += [{**row, "checkpoint": rule} for rule in rules]
    return pd.DataFrame(rows)


def tau(rows: pd.DataFrame) -> float:
    known = rows.dropna(subset=["m"])
    return float(kendalltau(known["m"], known["gap"]).statistic) if len(known) > 1 else np.nan


def row_of(found: pd.DataFrame, **where: str) -> pd.Series:
    for name in ("axis", "value", "given_axis"):
        found = found[found[name] == where.get(name, "")] if name in found else found
    (place,) = np.flatnonzero(found["statistic"] == where["statistic"])
    return found.iloc[place]


@pytest.mark.parametrize("seed", range(4))
def test_tau_psi_and_pi_equal_loops_over_the_models_that_there_are(seed):
    table = planted(seed)
    found = correlations(table, **KEYS, seed_column="seed", draws=0)
    both, known = table["checkpoint"] == BOTH, table["m"].notna()
    whole = row_of(found, statistic="tau")
    assert whole["estimate"] == pytest.approx(tau(table)) and whole["n"] == known.sum()
    for axis in AXES:
        others = [other for other in AXES if other != axis]
        source = table if axis == "checkpoint" else copies(table)
        taus = np.array([tau(cell) for _, cell in source.groupby([*others, "seed"])])
        psi = row_of(found, statistic="psi", axis=axis)
        assert psi["estimate"] == pytest.approx(np.nanmean(taus))
        assert (psi["n"], psi["undefined"]) == ((~np.isnan(taus)).sum(), np.isnan(taus).sum())
        names = ["best", "last"] if axis == "checkpoint" else sorted(table[axis].unique())
        groups = {name: table[(table[axis] == name) | (both & (axis == "checkpoint"))] for name in names}
        for name, group in groups.items():
            pi = row_of(found, statistic="pi", axis=axis, value=name)
            assert pi["estimate"] == pytest.approx(tau(group)) and pi["n"] == group["m"].notna().sum()
        pi = row_of(found, statistic="pi", axis=axis)
        assert pi["estimate"] == pytest.approx(np.mean([tau(group) for group in groups.values()]))
        assert pi["n"] == known.sum()
    assert BOTH not in set(found["value"]) | set(found["given_value"])
    undefined = row_of(found, statistic="psi", axis="checkpoint")["undefined"]
    assert undefined >= both.sum(), "a run with one model has no two checkpoints to compare"


def test_without_such_models_nothing_is_expanded():
    table = copies(planted())
    pd.testing.assert_frame_equal(expanded(table, AXES), table)
    assert (row_weights(expanded(table, AXES)) == 1).all()
    assert {value: list(rows) for value, rows in rows_by_value(table, "checkpoint").items()} == {
        value: list(table["checkpoint"] == value) for value in ("best", "last")
    }
    one = planted()[["a", "b", "checkpoint"]]
    assert len(expanded(one, ["a", "b"])) == len(one), "where the rule is no axis there are no cells of it"


def test_the_cells_of_other_axes_hold_such_a_model_twice_for_sign_errors():
    table = planted(1)
    found, two = (sign_errors(part, **KEYS, draws=0) for part in (table, copies(table)))
    for axis in ("a", "b"):
        for name in ("sign_error_mean", "sign_error_max", "sign_error_p90"):
            one, other = (row_of(rows, statistic=name, axis=axis) for rows in (found, two))
            assert (one["estimate"], one["n"]) == (other["estimate"], other["n"])


def test_two_such_models_meet_once_where_the_checkpoints_are_compared():
    """Seeds 0 and 1 have one model each, seed 2 two: 5 ordered pairs of a last and a best model, not 9."""
    rows = [("0", BOTH, 10.0), ("1", BOTH, 20.0), ("2", "last", 30.0), ("2", "best", 50.0)]
    parts = [pd.DataFrame(rows, columns=["seed", "checkpoint", "gap"]).assign(a=a) for a in "xy"]
    table = pd.concat(parts, ignore_index=True).assign(m=[1.0, 2, 3, 0, 1, 2, 3, 0])
    found = sign_errors(table, axes=["a", "checkpoint"], outcome="gap", measures=["m"], draws=0)
    pairs = [(10, 50, 1, 0), (20, 50, 2, 0), (10, 30, 1, 3), (20, 30, 2, 3), (30, 50, 3, 0), (10, 20, 1, 2)]
    wrong = np.mean([(g < h) != (m < k) for g, h, m, k in pairs])
    assert row_of(found, statistic="sign_error_mean", axis="checkpoint")["estimate"] == pytest.approx(wrong)


def brute_information(table: pd.DataFrame, names: list[str]) -> float:
    """I(V_m, V_g | U) over ordered pairs of models; one that is both has each rule with weight 1/2."""
    table = table.dropna(subset=["m"])
    places = []
    for number, row in enumerate(table.to_dict("records")):
        rules = ["last", "best"] if row["checkpoint"] == BOTH else [row["checkpoint"]]
        places += [(number, {**row, "checkpoint": rule}, 1 / len(rules)) for rule in rules]
    count: dict[tuple, float] = {}
    for (i, p, w), (j, q, v) in itertools.product(places, places):
        if i != j and p["gap"] != q["gap"]:
            group = tuple(p[name] for name in names) + tuple(q[name] for name in names)
            key = (group, np.sign(p["m"] - q["m"]), np.sign(p["gap"] - q["gap"]))
            count[key] = count.get(key, 0) + w * v
    whole = pd.Series(count)
    by_u, by_um, by_ug = (whole.groupby(level=level).transform("sum") for level in ([0], [0, 1], [0, 2]))
    return float((whole / whole.sum() * np.log2(whole * by_u / by_um / by_ug)).sum())


def test_information_gives_such_a_model_half_the_weight_under_either_rule():
    table = planted(2)
    found = conditional_information(table, **KEYS, seed_column="seed", draws=0)
    rows = found[found["statistic"] == "information"].set_index("given")
    for names in ([], ["a"], ["checkpoint"], ["a", "checkpoint"], ["b", "checkpoint"]):
        assert rows.loc["|".join(names), "estimate"] == pytest.approx(brute_information(table, names), abs=1e-9)
    values = table.dropna(subset=["m"])["gap"].to_numpy()
    assert set(found["n"]) == {sum(one != other for one, other in itertools.combinations(values, 2))}


def test_components_have_the_squares_and_freedom_of_their_projections():
    rng, whole = np.random.default_rng(0), design(5, 4, 2)
    both = np.isin(whole.run, rng.choice(whole.run.max() + 1, 8, replace=False))
    kept = ~(both & (whole.rule == 1))
    levels = Levels(whole.configuration[kept], whole.run[kept], np.where(both, EVERY, whole.rule)[kept])
    y = rng.standard_normal(kept.sum())
    found = within_configurations(y, np.zeros(len(y)), levels, INDEPENDENT)
    for number, rows in enumerate(levels.blocks):
        cells = np.where(levels.rule[rows] == EVERY, 0.5, levels.rule[rows] == np.arange(2)[:, None]).T
        runs = (levels.run[rows][:, None] == np.unique(levels.run[rows])) * 1.0
        all_of = np.hstack([cells, runs])
        inner, outer = np.eye(len(rows)) - all_of @ np.linalg.pinv(all_of), all_of @ np.linalg.pinv(all_of)
        outer = outer - cells @ np.linalg.pinv(cells)
        assert found["inner"][number] == pytest.approx(y[rows] @ inner @ y[rows], abs=1e-9)
        assert found["inner_delta"][number] == pytest.approx(np.trace(inner), abs=1e-9)
        assert found["outer"][number] == pytest.approx(y[rows] @ outer @ y[rows], abs=1e-9)
        assert found["outer_delta"][number] == pytest.approx(np.trace(outer), abs=1e-9)
        assert found["outer_rho"][number] == pytest.approx(np.trace(outer @ runs @ runs.T), abs=1e-9)


def test_the_checkpoint_component_rests_on_runs_with_two_models():
    """Half the runs have one model. Half the mean squared difference of the others' two is 2; were a copy taken for a
    second draw, the component would come out at half of that."""
    rng, rows = np.random.default_rng(1), []
    for a, run in itertools.product(range(300), range(4)):
        base = 100 * a + rng.standard_normal()
        rules = [BOTH] if run % 2 else ["last", "best"]
        rows += [(str(a), str(run), rule, base + np.sqrt(2) * rng.standard_normal()) for rule in rules]
    table = pd.DataFrame(rows, columns=["a", "seed", "checkpoint", "gap"])
    found = noise(table, axes=["a", "checkpoint"], outcome="gap", seed_column="seed", draws=0)
    parts = found[found["statistic"] == "variance"].set_index("component")
    assert parts.loc["checkpoint", "estimate"] == pytest.approx(2, abs=0.35)
    assert parts.loc["seed", "estimate"] == pytest.approx(1, abs=0.35)
    assert set(found["n"]) == {len(table)}


def test_reliability_compares_such_a_model_under_either_rule_and_ranks_it_once():
    table = planted(3)
    block = table.groupby(["a", "b"]).ngroup().to_numpy()
    group, model = seed_cells(table, AXES, block)
    (estimate, _, _), n = over_seeds(table["m"], group, block, np.ones((1, 6)), model)
    ranked = table.assign(rank=table["m"].rank()).dropna(subset=["m"])
    ranked["model"] = ranked.index
    inside, used = [], set()
    for _, cell in copies(ranked).groupby(AXES):
        pairs = list(itertools.combinations(cell[["rank", "model"]].to_numpy(), 2))
        inside += [(p[0] - q[0]) ** 2 / 2 for p, q in pairs]
        used |= {model for p, q in pairs for model in (p[1], q[1])}
    once = ranked.loc[sorted(used)]
    across = [
        (p.rank_ - q.rank_) ** 2 / 2
        for p, q in itertools.combinations(once.rename(columns={"rank": "rank_"}).itertuples(), 2)
        if (p.a, p.b) != (q.a, q.b)
    ]
    assert estimate == pytest.approx(1 - np.mean(inside) / np.mean(across)) and n == len(used)


def test_a_run_with_one_model_offers_no_choice_of_a_checkpoint():
    table = planted(seeds=4).assign(test=lambda rows: rows["gap"])
    found = selection(table, axes=AXES, target="test", measures=["m"], seed_column="seed", draws=0)
    rows = found[(found["choice"] == "checkpoint") & (found["measure"] == "last checkpoint")]
    both = (table["checkpoint"] == BOTH).sum()
    assert set(rows["n"]) == {24 - both} and set(rows["undefined"]) == {both}


def many(seed: int) -> pd.DataFrame:
    """24 configurations, enough for increments."""
    parts = [planted(seed + number).assign(c=str(number)) for number in range(4)]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(m=table["m"].fillna(0) + np.random.default_rng(0).standard_normal(len(table)))


def test_verdicts_and_the_ladder_count_models_once():
    table, keys = many(0), {**KEYS, "axes": [*AXES, "c"]}
    verdict, statements = claims(table, **keys)
    assert set(verdict["n"]) == {len(table)}
    kinds = statements[statements["statistic"] != "pi"]
    assert set(kinds["n"]) == {len(table)} and BOTH not in set(statements["value"])
    both = table["checkpoint"] == BOTH
    rule = statements[statements["axis"] == "checkpoint"].set_index("value")
    for name in ("last", "best"):
        part = table[both | (table["checkpoint"] == name)]
        assert rule.loc[name, "n"] == len(part) and rule.loc[name, "estimate"] == pytest.approx(tau(part))
    steps = ladder(make_study(table, **keys))
    assert set(steps.loc[steps["axis"] == "", "n"]) == {len(table)}
    left_out = steps[steps["axis"] == "a"].groupby("value")["n"].unique()
    assert {value: list(n) for value, n in left_out.items()} == {v: [n] for v, n in table["a"].value_counts().items()}


def test_a_ledger_has_one_row_where_the_best_checkpoint_is_the_last(tmp_path):
    ledger = ledgers.make(tmp_path)
    (run,) = ledger.runs.loc[ledger.runs["flags"] == "best_is_last", "run"].unique()
    table = ledger.models().set_index("model")
    own = table[table["run"] == run]
    assert list(own.index) == [f"{run}-last"] and list(own["checkpoint"]) == [BOTH]
    assert len(ledger.runs) - len(ledger.distinct) == 1
    pd.testing.assert_frame_equal(ledger.runs, Ledger.load(tmp_path).runs)  # the tables themselves stay as they are
    changed = ledger.outcomes.assign(
        accuracy=ledger.outcomes["accuracy"].mask(ledger.outcomes["model"] == f"{run}-best")
    )
    pd.testing.assert_frame_equal(replace(ledger, outcomes=changed).models(), ledger.models())
    lost = ledger.runs.assign(status=ledger.runs["status"].mask(ledger.runs["model"] == f"{run}-last", "failed"))
    table = replace(ledger, runs=lost).models()
    assert list(table.loc[table["run"] == run, "model"]) == [f"{run}-best"]
    last = ledgers.make(tmp_path / "last", checkpoints=("last",))
    assert set(last.models()["checkpoint"]) == {"last"}, "where no best checkpoint is planned, there is one rule"


def test_a_table_may_hold_such_models_too(tmp_path):
    path, table = tmp_path / "models.csv", many(0)
    table.to_csv(path, index=False)
    asked = {"axes": [*AXES, "c"], "outcome": "gap", "measures": ["m"], "seed_column": "seed"}
    assert len(read_models(path, **asked).rows) == len(table)
    twice = table[table["checkpoint"] == BOTH].head(1).assign(checkpoint="last")
    pd.concat([table, twice]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"found 2 models with .*checkpoint=last.* wanted one"):
        read_models(path, **asked)
