"""Options of `statistics` and `claims` that only a table takes: a ledger is refused with them, not judged without."""

import re

import ledgers
import pandas as pd
import pytest

from robustgap.analysis.__main__ import main


@pytest.fixture(scope="module")
def ledger(tmp_path_factory) -> str:
    return str(ledgers.make(tmp_path_factory.mktemp("study") / "ledger").path)


@pytest.mark.parametrize(
    ("command", "more", "told"),
    [
        (
            "statistics",
            ["--outcome", "gap_fgsm", "--signs", "none.json", "--axes", "nonsense", "--draws", "5"],
            "statistics takes --axes, --outcome, --signs, --draws only for a table, not for a ledger"
            " (`claims` takes --axes, --outcome, --signs for a ledger too)",
        ),
        ("statistics", ["--measures", ""], "takes --measures only for a table"),
        ("statistics", ["--se-column", "se_gap_fgsm"], "takes --se-column only for a table"),
        ("statistics", ["--draws", "2000"], "takes --draws only for a table, not for a ledger\n"),
        (
            "statistics",
            ["--state", "x", "--target", "y", "--validation", "v", "--images-column", "z"],
            "takes --state, --target, --validation, --images-column only for a table, not for a ledger\n",
        ),
        ("statistics", ["--seed-column", "seed"], "takes --seed-column only for a table, not for a ledger\n"),
        ("claims", ["--seed-column", "seed"], "claims takes --seed-column only for a table, not for a ledger\n"),
    ],
)
def test_a_ledger_is_refused_with_options_of_a_table(ledger, tmp_path, capsys, command, more, told):
    assert main([command, ledger, *more, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {ledger}: {command} takes ") and told in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_says_which_options_a_ledger_takes(capsys):
    parts = {}
    for command in ("claims", "statistics"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        parts[command] = capsys.readouterr().out.split("for a table only", 1)
    assert all(f"  {name} " in parts["claims"][0] for name in ("--axes", "--outcome", "--measures", "--signs"))
    assert "  --seed-column " in parts["claims"][1]
    assert all(f"  {name} " in parts["statistics"][1] for name in ("--axes", "--seed-column", "--draws", "--signs"))


def test_one_measure_is_counted_in_the_singular(tmp_path, capsys):
    models = pd.DataFrame({"defense": list("abcdefgh"), "gap": range(8), "margin": [3, 1, 4, 1, 5, 9, 2, 6]})
    models.to_csv(tmp_path / "models.csv", index=False)
    common = [str(tmp_path / "models.csv"), "--axes", "defense", "--outcome", "gap", "--out", str(tmp_path / "out")]
    for command, counted in (("correlate", "8 models, 1 measure, "), ("claims", "8 models, 1 measure: ")):
        assert main([command, *common]) == 0
        assert counted in capsys.readouterr().out


def test_a_path_that_holds_no_ledger_is_named_once(tmp_path, capsys):
    for command in (["tables", "--statistics", "x", "--out", "y"], ["interim"]):
        assert main([command[0], str(tmp_path / "no"), *command[1:]]) == 1
        found = capsys.readouterr().err.partition(": found no ")[2]
        assert len(re.findall(rf"{tmp_path}/no(?![/\w])", found)) == 1


def test_a_file_in_place_of_a_folder_is_no_truncated_file(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["ledger", "--results", str(tmp_path / "file"), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path}/file/plan.json: found no readable file, wanted a JSON object: Not a directory\n"
