"""Numeric axes in classes, and seeds that no two runs share: designs in which no two models have settings in common."""

import itertools

import numpy as np
import pandas as pd
import pytest

from benchmarks.random_search import AXES, BINS, MEASURES, make_search
from robustgap.analysis.__main__ import main
from robustgap.analysis.model_table import read_models
from robustgap.analysis.model_table.bins import cut, read_bins
from robustgap.analysis.statistics import Statistics, StudyData
from robustgap.analysis.statistics.correlations import correlations
from robustgap.analysis.verdicts.claims import claims


def random_search(n: int) -> pd.DataFrame:
    """Learning rate and weight decay drawn anew for each model; the measure knows more of the gap than they do."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"defense": rng.choice(["AT", "TRADES"], n), "lr": 10 ** rng.uniform(-3, -1, n)})
    hidden = rng.standard_normal(n)
    table["wd"] = 10 ** rng.uniform(-5, -3, n)
    return table.assign(gap=np.log(table["lr"]) + hidden, m=hidden + rng.standard_normal(n) / 3)


def test_classes_are_quantiles_and_named_by_what_is_in_them():
    values = np.random.default_rng(0).permutation(10.0 ** np.arange(-4, 4))
    labels, notes = cut(pd.Series([f"{value:g}" for value in values], name="lr"), 4, "a.csv")
    names = ["0.0001 to 0.001", "0.01 to 0.1", "1 to 10", "100 to 1e+03"]
    assert labels.tolist() == [names[(place + 4) // 2] for place in np.log10(values).round().astype(int)]
    assert notes == [f"axis lr in 4 classes, models in each: {', '.join(f'{name} (2)' for name in names)}"]


def test_equal_values_share_a_class_and_cells_without_a_number_keep_their_text():
    cells = pd.Series(["1"] * 6 + ["2", "3", "NA", "(empty)"], name="lr")
    labels, notes = cut(cells, 4, "a.csv")
    assert labels.tolist() == ["1"] * 6 + ["2 to 3"] * 2 + ["NA", "(empty)"]
    assert notes == ["axis lr in 2 classes (4 asked for: values repeat), models in each: 1 (6), 2 to 3 (2)"]


def test_names_of_classes_have_the_digits_that_tell_them_apart():
    cells = pd.Series([repr(1 + place / 1e6) for place in range(8)], name="lr")
    labels = cut(cells, 2, "a.csv")[0]
    assert labels.tolist() == ["1 to 1.000003"] * 4 + ["1.000004 to 1.000007"] * 4


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["1", "2", "big"], "--bins: found 'big' in axis 'lr', wanted numbers"),
        (["5", "5", "5"], "--bins: 2 classes of axis 'lr' are one, wanted at least two"),
        (["", "", "NA"], "--bins: 2 classes of axis 'lr' are one, wanted at least two"),
    ],
)
def test_axes_that_cannot_be_cut_are_named(cells, told):
    with pytest.raises(ValueError, match=f"^a.csv: {told}"):
        cut(pd.Series(cells, name="lr"), 2, "a.csv")


@pytest.mark.parametrize("listed", ["lr", "lr=1", "lr=x", "=4", "lr=4=", "lr=2.5"])
def test_a_cut_that_is_not_axis_and_classes_is_named(listed):
    with pytest.raises(ValueError, match=r"wanted AXIS=CLASSES"):
        read_bins([listed])


def test_a_random_search_has_increments_and_psi_once_its_axes_are_cut(tmp_path, capsys):
    random_search(320).to_csv(tmp_path / "a.csv", index=False)
    given = [str(tmp_path / "a.csv"), "--axes", "defense,lr,wd", "--outcome", "gap"]
    assert main(["claims", *given, "--out", str(tmp_path / "plain")]) == 0
    told = capsys.readouterr().out
    assert "axis lr has 320 different numbers, so that few models share one: `--bins lr=4` cuts it" in told
    assert "configurations are too few" in pd.read_csv(tmp_path / "plain" / "claims.csv")["reason"][0]
    cut_now = ["--bins", "lr=4,wd=4"]
    assert main(["claims", *given, *cut_now, "--out", str(tmp_path / "cut")]) == 0
    told = capsys.readouterr().out
    assert "axis lr in 4 classes, models in each: " in told and "`--bins" not in told
    found = pd.read_csv(tmp_path / "cut" / "claims.csv").set_index("kind")["verdict"]
    assert found["measure"] == "replicates" and "replicates" not in set(found["control"])
    assert main(["correlate", *given, *cut_now, "--draws", "20", "--out", str(tmp_path / "cut")]) == 0
    found = pd.read_csv(tmp_path / "cut" / "correlations.csv")
    psi = found[(found["statistic"] == "psi") & found["given_axis"].isna() & (found["kind"] == "measure")]
    psi = psi.set_index("axis")
    assert psi["n"].to_dict() == {"defense": 16, "lr": 8, "wd": 8} and (psi["undefined"] == 0).all()


def test_a_setting_in_disguise_knows_nothing_more_than_settings_that_are_cut(tmp_path):
    """By four classes it would: it knows how the learning rate differs within a class."""
    make_search("linear", 320, 0).to_csv(tmp_path / "a.csv", index=False)
    options = {"axes": AXES, "outcome": "gap", "measures": MEASURES}
    read = read_models(tmp_path / "a.csv", **options, bins=BINS)
    assert "increments over the settings use finer classes: learning_rate 20, weight_decay 20" in read.notes
    (verdict, found), (coarse, alone) = (claims(read.rows, **options, fine=fine) for fine in (read.fine, None))
    assert dict(zip(MEASURES, verdict["verdict"], strict=True))["genuine"] == "replicates"
    for name in ("increment_ridge", "increment_trees"):
        assert (coarse[name][:2] > 0.01).all() and (verdict[name][:2] < 0.005).all()  # a percent of R2 is negligible
    others = found["statistic"] != "increment"  # tau and pi are of the classes that were asked for
    pd.testing.assert_frame_equal(found[others], alone[others])


def test_increments_of_statistics_go_by_the_finer_classes(tmp_path):
    make_search("linear", 60, 0).to_csv(tmp_path / "a.csv", index=False)
    read = read_models(tmp_path / "a.csv", axes=AXES, outcome="gap", measures=["lr"], bins=BINS)
    found = Statistics(StudyData.of_table(read, draws=0)).table("increments")
    assert read.rows["learning_rate"].nunique() == 4
    assert len(set(found.loc[found["axis"] == "learning_rate", "value"])) == read.fine["learning_rate"].nunique() == 6


def test_models_of_one_class_are_different_runs_and_checkpoints_of_one_run_are_one(tmp_path):
    table = random_search(40).drop(columns="defense")
    both = pd.concat(
        [table.assign(checkpoint=rule, gap=table["gap"] + shift) for rule, shift in (("last", 0), ("best", 1))]
    )
    both.to_csv(tmp_path / "a.csv", index=False)
    axes = ["lr", "wd", "checkpoint"]
    found = read_models(tmp_path / "a.csv", axes=axes, outcome="gap", bins={"lr": 2, "wd": 2})
    assert found.rows[found.seed_column].nunique() == 40
    assert len(found.rows[["lr", "wd"]].drop_duplicates()) == 4
    with pytest.raises(ValueError, match="found 2 models with lr="):
        twice = pd.concat([both, both[:1]])
        twice.to_csv(tmp_path / "b.csv", index=False)
        read_models(tmp_path / "b.csv", axes=axes, outcome="gap", bins={"lr": 2, "wd": 2})


@pytest.mark.parametrize("command", ["correlate", "claims", "statistics"])
def test_bad_bins_are_one_line(tmp_path, capsys, command):
    random_search(20).to_csv(tmp_path / "a.csv", index=False)
    given = [
        command,
        str(tmp_path / "a.csv"),
        "--axes",
        "defense,lr",
        "--outcome",
        "gap",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*given, "--bins", "wd=3"]) == 1
    assert capsys.readouterr().err.endswith("--bins: found 'wd', wanted one of the axes: defense, lr\n")
    with pytest.raises(SystemExit):
        main([*given, "--bins", "lr"])
    assert "argument --bins: found 'lr', wanted AXIS=CLASSES" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def design(seeds: str) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = itertools.product(["AT", "MART", "TRADES"], ["32", "64"], ["last", "best"], range(2))
    table = pd.DataFrame(rows, columns=["defense", "batch", "checkpoint", "seed"])
    run = table.groupby(["defense", "batch", "seed"]).ngroup()
    own = {"own": 1000 + run, "shared": table["seed"]}[seeds]
    return table.assign(seed=own.astype(str), gap=rng.standard_normal(24), m=rng.standard_normal(24))


def test_psi_of_runs_with_seeds_of_their_own_does_not_fix_the_seed(tmp_path, capsys):
    """It is psi without a seed; that of the checkpoint rule, whose models share their run's seed, still fixes it."""
    axes, found = ["defense", "batch", "checkpoint"], {}
    given = ["--axes", ",".join(axes), "--outcome", "gap", "--seed-column", "seed", "--draws", "20"]
    for seeds in ("own", "shared"):
        design(seeds).to_csv(tmp_path / f"{seeds}.csv", index=False)
        assert main(["correlate", str(tmp_path / f"{seeds}.csv"), *given, "--out", str(tmp_path / seeds)]) == 0
        told = "psi of defense, batch: runs that differ in it have seeds of their own"
        assert (told in capsys.readouterr().out) == (seeds == "own")
        read = pd.read_csv(tmp_path / seeds / "correlations.csv")
        read = read[read["kind"] == "measure"]
        found[seeds] = read[(read["statistic"] == "psi") & read["given_axis"].isna()].set_index("axis")
    free = correlations(design("own"), axes=axes, outcome="gap", measures=["m"], seed_column=None, draws=0)
    free = free[(free["statistic"] == "psi") & (free["given_axis"] == "")].set_index("axis")
    assert found["own"].loc[["defense", "batch"], "n"].tolist() == [4, 6]
    for axis in ("defense", "batch"):
        assert found["own"].loc[axis, "estimate"] == pytest.approx(free.loc[axis, "estimate"])
    assert found["own"].loc["checkpoint", "estimate"] == pytest.approx(found["shared"].loc["checkpoint", "estimate"])
    assert found["shared"]["n"].tolist() == [8, 12, 12]


def test_a_missing_setting_is_a_value_in_plain_functions_too():
    table = design("shared").replace({"AT": None, "32": None, "last": None})
    named = design("shared").replace({"AT": "(empty)", "32": "(empty)", "last": "(empty)"})
    options = {"axes": ["defense", "batch", "checkpoint"], "outcome": "gap", "measures": ["m"], "seed_column": "seed"}
    found, wanted = (correlations(one, **options, draws=5) for one in (table, named))
    pd.testing.assert_frame_equal(found, wanted)
