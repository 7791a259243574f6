"""`python -m robustgap.analysis statistics` on anybody's table: every statistic that its columns allow."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.known_answers import AXES, make_family
from robustgap.analysis.__main__ import main

ALWAYS = {
    "correlations",
    "simpson",
    "claims",
    "statements",
    "comparisons",
    "information",
    "sign_errors",
    "environments",
}
ALWAYS |= {"noise", "increments", "reliability"}


@pytest.fixture
def table() -> pd.DataFrame:
    table = make_family(24, 0).table
    return table.assign(robust_test=50 - table["gap"], images=8000, loss=table["null_0"])


def run(command: str, table: pd.DataFrame, folder, *more: str, axes: str = ",".join(AXES)) -> int:
    table.to_csv(folder / "a.csv", index=False)
    given = ["--axes", axes, "--outcome", "gap", "--measures", "genuine,null_1", "--out", str(folder / command)]
    return main([command, str(folder / "a.csv"), *given, *more])


def read(folder) -> dict[str, pd.DataFrame]:
    return {path.stem: pd.read_csv(path, keep_default_na=False) for path in folder.iterdir()}


def test_a_table_has_the_statistics_that_its_columns_allow(table, tmp_path, capsys):
    more = ["--seed-column", "seed", "--se-column", "se_gap", "--draws", "40"]
    columns = ["--state", "loss", "--target", "robust_test", "--images-column", "images"]
    assert run("statistics", table, tmp_path, *more, *columns) == 0
    found = read(tmp_path / "statistics")
    assert set(found) == ALWAYS | {"partial", "thresholds", "selection"}
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("outcome gap (") and "taken to be in points" in told[0] and len(told) == len(found) + 2
    assert run("correlate", table, tmp_path, *more[:2], *more[4:]) == 0
    assert run("claims", table, tmp_path, *more[:4]) == 0
    named = {**read(tmp_path / "claims"), **read(tmp_path / "correlate")}  # neither knows the training state
    for name, alone in named.items():
        rest = found[name][found[name]["kind"] != "baseline"].reset_index(drop=True)
        pd.testing.assert_frame_equal(alone, rest)
    assert found["claims"].set_index("measure")["kind"].to_dict() == {
        **dict.fromkeys(["genuine", "null_1"], "measure"),
        "loss": "baseline",
        **dict.fromkeys(["random number", "fit of the settings"], "control"),
    }
    reliability = found["reliability"].set_index("measure")["estimate"].astype(float)
    assert reliability["genuine"] > 0.5 > abs(reliability["null_1"])
    assert "state" in set(found["increments"]["step"]) and set(found["partial"]["given_axis"]) == {"loss"}
    regret = found["selection"].query("statistic == 'regret' and choice == 'model'").set_index("measure")["estimate"]
    assert float(regret["genuine"]) < float(regret["random choice"])


def test_selection_of_a_table_is_compared_with_validation_accuracy(table, tmp_path, capsys):
    """Where it is known: like the measure, for the models that have it."""
    more = ["--seed-column", "seed", "--draws", "10", "--target", "robust_test"]
    rows = table.assign(robust_val=table["robust_test"] + np.random.default_rng(0).normal(0, 0.1, len(table)))
    for name, values in {"plain": None, "known": rows["robust_val"], "missing": "", "one": [40.0, *[""] * 95]}.items():
        (tmp_path / name).mkdir()
        given = [] if values is None else ["--validation", "robust_val"]
        assert run("statistics", rows.assign(robust_val=values), tmp_path / name, *more, *given) == 0
    found = {name: read(tmp_path / name / "statistics")["selection"] for name in ("plain", "known", "missing", "one")}
    models = {name: one[one["choice"] == "model"].set_index(["measure", "statistic"]) for name, one in found.items()}
    assert "validation accuracy" not in set(models["plain"].index.get_level_values("measure"))
    regret = models["known"]["estimate"].astype(float)
    assert regret["validation accuracy", "regret"] < regret["genuine", "regret"] < regret["random choice", "regret"]
    won = regret["validation accuracy", "regret"] - regret["genuine", "regret"]
    assert regret["genuine", "over_validation"] == pytest.approx(won)
    for name in ("missing", "one"):
        assert models[name].loc[("validation accuracy", "regret"), ["estimate", "low"]].tolist() == ["", ""]
    capsys.readouterr()
    assert run("statistics", rows, tmp_path, "--validation", "robust_val") == 1
    assert capsys.readouterr().err.endswith("--validation: wanted --target too, by which selection is judged\n")


SPOIL = {
    "one seed": lambda t: t[t["seed"] == "0"],
    "one checkpoint": lambda t: t[t["checkpoint"] == "last"],
    "12 models": lambda t: t[::8],
    "3 models": lambda t: t.iloc[[0, 37, 90]],
    "no measures": lambda t: t.assign(genuine=1.0, null_1=""),
    "a coin": lambda t: t.assign(genuine=(t["genuine"] > 0) * 1, gap=(t["gap"] > 0) * 1),
    "values drawn anew": lambda t: t.assign(batch=np.arange(len(t))),
}


@pytest.mark.parametrize("name", SPOIL)
def test_poor_tables_have_statistics_too(table, tmp_path, name):
    rows = SPOIL[name](table)
    axes = ",".join(axis for axis in AXES if len(set(rows[axis])) > 1)
    more = ["--seed-column", "seed", "--draws", "10", "--state", "loss", "--target", "robust_test"]
    assert run("statistics", rows, tmp_path, *more, axes=axes) == 0
    found = read(tmp_path / "statistics")
    assert set(found) >= ALWAYS
    for content in found.values():
        assert not content.isin([np.inf, -np.inf, "inf", "-inf", "nan"]).any(axis=None)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--target", "robust_tes"], "'robust_tes'; did you mean 'robust_test'?"),
        (["--state", "defense"], "row 1: found 'defense0' in named column 'defense', wanted a number"),
        (["--target", "gap"], "column 'gap' is named twice"),
        (["--target", "robust_test", "--validation", "robust_val"], "wanted named column 'robust_val'"),
        (["--outcome", "loss_"], "wanted outcome column 'loss_'"),
    ],
)
def test_bad_columns_are_one_line(table, tmp_path, capsys, more, message):
    assert run("statistics", table, tmp_path, "--seed-column", "seed", *more) == 1
    told = capsys.readouterr().err
    assert message in told and told.startswith("error: ") and told.count("\n") == 1
    assert not (tmp_path / "statistics").exists()


def test_pairs_that_were_sampled_are_told(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("robustgap.analysis.ranks.pair_sample.MOST_PAIRS", 50)
    assert run("statistics", table[::7], tmp_path, "--seed-column", "seed", "--draws", "10") == 0
    told = "conditional information of 2 measures: estimated from up to 50 of 91 pairs of models, the same for all"
    assert capsys.readouterr().out.splitlines()[-2] == told
    assert set(read(tmp_path / "statistics")["information"]["pairs"]) == {50}
