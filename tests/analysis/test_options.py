"""Options of `statistics` and `claims` that only a table takes: a ledger is refused with them, not judged without."""

import ledgers
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
