"""What is said with and about a table: signs, names with commas, units of the outcome, counts, and the last line."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from robustgap.analysis.__main__ import listed_names, main
from robustgap.analysis.model_table import read_models
from robustgap.analysis.model_table.roles import Roles, points_per_unit, unit_notes
from robustgap.analysis.verdicts.claims import read_signs

COMMANDS = ["correlate", "claims", "statistics"]


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = list(itertools.product(["AT", "MART"], ["32", "64"], ["0", "1"]))
    table = pd.DataFrame(rows, columns=["defense", "batch", "seed"])
    return table.assign(gap=10 + 5 * rng.standard_normal(8), m=rng.standard_normal(8), k=rng.standard_normal(8))


def run(command: str, table: pd.DataFrame, folder, *more: str) -> int:
    table.to_csv(folder / "a.csv", index=False)
    given = ["--axes", "defense,batch", "--outcome", "gap", "--seed-column", "seed", "--out", str(folder / command)]
    return main([command, str(folder / "a.csv"), *given, *(["--draws", "5"] if command != "claims" else []), *more])


def test_an_unknown_name_among_signs_is_refused(table, tmp_path, capsys):
    (tmp_path / "signs.json").write_text(json.dumps({"m": 1, "kk": -1}))
    for command in ("claims", "statistics"):
        assert run(command, table, tmp_path, "--signs", str(tmp_path / "signs.json")) == 1
        wanted = "found the sign of 'kk', wanted columns of the table; did you mean 'k'?"
        assert capsys.readouterr().err == f"error: {tmp_path / 'signs.json'}: {wanted}\n"
        assert not (tmp_path / command).exists()


def test_signs_of_other_columns_and_a_catalogue_of_more_measures_are_taken(table, tmp_path):
    (tmp_path / "signs.json").write_text(json.dumps({"m": 1, "k": -1}))
    assert run("claims", table, tmp_path, "--measures", "m", "--signs", str(tmp_path / "signs.json")) == 0
    catalogue = {name: {"expects": {"clean": -1}} for name in ("k", "not_measured")}
    (tmp_path / "catalogue.json").write_text(json.dumps(catalogue))
    assert run("claims", table, tmp_path, "--signs", str(tmp_path / "catalogue.json")) == 0
    found = pd.read_csv(tmp_path / "claims" / "claims.csv").set_index("measure")["sign"]
    assert found["k"] == -1 and np.isnan(found["m"])
    assert read_signs(tmp_path / "catalogue.json", ["k"]) == {"k": -1, "not_measured": -1}


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("a, b", ["a", "b"]),
        ('"top-1, clean", b', ["top-1, clean", "b"]),
        ('a,"say ""x, y""",', ["a", 'say "x, y"']),
        ("", []),
        ("it's,5' x", ["it's", "5' x"]),
    ],
)
def test_names_with_commas_stand_in_quotes(listed, found):
    assert listed_names(listed) == found


def test_the_nearest_column_is_named_whatever_its_capitals(table, tmp_path, capsys):
    assert run("correlate", table.rename(columns=str.upper), tmp_path) == 1
    assert "wanted axis column 'defense'; did you mean 'DEFENSE'? (found: DEFENSE, " in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_column_with_a_comma_in_its_name_can_be_asked_for(table, tmp_path, capsys, command):
    named = table.rename(columns={"m": "top-1, clean", "batch": "batch, size"})
    given = ["--measures", 'k,"top-1, clean"', "--axes", 'defense,"batch, size"']
    assert run(command, named, tmp_path, *given) == 0
    written = {"correlate": "correlations", "claims": "claims", "statistics": "correlations"}[command]
    found = pd.read_csv(tmp_path / command / f"{written}.csv")
    assert set(found.loc[found["kind"] == "measure", "measure"]) == {"k", "top-1, clean"}
    assert run(command, named, tmp_path, *given[2:], "--measures", "top-1, clean") == 1
    error = capsys.readouterr().err
    assert "'top-1'; did you mean 'top-1, clean' (in quotes, as it has a comma)?" in error
    assert 'found: defense, "batch, size", seed, gap, "top-1, clean", k)' in error
    with pytest.raises(SystemExit):
        run(command, named, tmp_path, "--measures", '"top-1, clean')
    assert "quotes around a name that contains one" in capsys.readouterr().err


def test_sign_errors_weigh_fractions_as_they_weigh_points(table, tmp_path, capsys):
    counted, found = table.assign(images=8000), {}
    given = ["--images-column", "images"]
    for unit, scale in (("points", 1), ("fractions", 1 / 100)):
        assert run("statistics", counted.assign(gap=table["gap"] * scale), tmp_path, *given) == 0
        assert f"is taken to be in {unit}, for the weights of sign errors" in capsys.readouterr().out
        for name in ("sign_errors", "environments"):
            found[unit, name] = pd.read_csv(tmp_path / "statistics" / f"{name}.csv")
    assert (found["points", "sign_errors"].query("statistic == 'sign_error_mean'")["n"] > 0).all()
    for name in ("sign_errors", "environments"):
        pd.testing.assert_frame_equal(found["points", name], found["fractions", name])
    assert run("statistics", counted, tmp_path, *given, "--outcome-unit", "fractions") == 0
    assert "is taken to be in" not in capsys.readouterr().out
    said = pd.read_csv(tmp_path / "statistics" / "environments.csv")
    assert said["ess"].mean() > found["points", "environments"]["ess"].mean()


@pytest.mark.parametrize(
    ("columns", "points"),
    [
        ({"gap": 0.1}, 100),
        ({"gap": 1.0}, 100),
        ({"gap": 1.2}, 1),
        ({"gap": -3.0}, 1),
        ({"gap": 0.1, "test": 45.0}, 1),  # a small gap in points, beside an accuracy in percent
        ({"gap": 0.1, "test": 0.45}, 100),
        ({"gap": 0.1, "se": 0.5}, 1),  # 8000 images leave a fraction less than 0.0056
        ({"gap": 0.1, "se": 0.005}, 100),
    ],
)
def test_the_unit_is_told_from_what_fractions_cannot_be(table, tmp_path, columns, points):
    scaled = table.assign(images=8000, gap=table["gap"] / table["gap"].abs().max() * columns["gap"])
    scaled.assign(**{name: value for name, value in columns.items() if name != "gap"}).to_csv(tmp_path / "a.csv")
    beside = [name for name in ("test",) if name in columns]
    se = "se" if "se" in columns else None
    options = {"outcome": "gap", "seed_column": "seed", "se": se, "beside": beside, "counts": ["images"]}
    read = read_models(tmp_path / "a.csv", axes=["defense", "batch"], **options)
    given = Roles(target=beside[0] if beside else None, images="images", se=se)
    assert points_per_unit(read, given) == points
    (told,) = unit_notes(read, given)
    assert f"is taken to be in {'fractions' if points > 1 else 'points'}" in told
    assert unit_notes(read, Roles()) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.assign(images=[8000, -5] * 4), "row 2: count column 'images' has -5, wanted numbers of 1 or more"),
        (lambda t: t.assign(images=0), "row 1: count column 'images' has 0, wanted numbers of 1 or more"),
        (lambda t: t.assign(images=""), "count column 'images' has no value, wanted numbers of 1 or more"),
        (lambda t: t.assign(images=8000, se=[1, -0.5] * 4), "row 2: standard error column 'se' has -0.5, wanted"),
    ],
)
def test_counts_and_errors_below_their_least_value_are_refused(table, tmp_path, capsys, spoil, message):
    given = ["--images-column", "images", *(["--se-column", "se"] if "se" in spoil(table) else [])]
    assert run("statistics", spoil(table), tmp_path, *given) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "statistics").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_last_line_counts_what_could_not_be_used(table, tmp_path, capsys, command):
    """Two models trained elsewhere, a cell of one model, and a measure that a model lacks."""
    elsewhere = pd.DataFrame(
        {"defense": "NA", "batch": "NA", "seed": ["0", "1"], "gap": [3.0, 4.0], "m": 1.0, "k": 2.0}
    )
    both = pd.concat([table[1:], elsewhere], ignore_index=True)
    both.loc[6, "m"] = np.nan
    assert run(command, both, tmp_path) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    away = "9 models, 2 outside the grid (NA in all of defense, batch; left out of cells, pairs and verdicts); "
    cells = "undefined cells of psi: defense 1 to 2 of 4 by measure, batch 1 to 2 of 4 by measure; "
    assert last == away + (cells if command != "claims" else "") + "values missing: m 1"
    assert run(command, table, tmp_path) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    cells = "undefined cells of psi: none; " if command != "claims" else ""
    assert last == f"8 models, none outside the grid; {cells}values missing: none"
