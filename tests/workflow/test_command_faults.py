"""What plan, study and unlock say of a study or table that cannot be read: one line, and an exit code that is not 0."""

import pytest

from robustgap.__main__ import main


@pytest.mark.parametrize("command", ["plan", "study", "unlock"])
@pytest.mark.parametrize(
    ("given", "told"), [("~nobody-here/x", "wanted a path: no home of ~nobody-here is known"), ("x" * 300, "too long")]
)
def test_a_path_that_cannot_be_opened_is_one_line(command, given, told, capsys):
    assert main([command, given]) == 1
    error = capsys.readouterr().err
    assert told in error and given in error and error.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--cores", "1"]])
def test_study_without_a_study_says_what_it_wants(arguments, capsys):
    assert main(["study", *arguments]) == 2
    output = capsys.readouterr()
    assert output.err.startswith(
        f"error: found {arguments[0]!r}, wanted STUDY|FILE" if arguments else "error: found nothing"
    )
    assert output.err.count("\n") == 1 and not output.out


@pytest.mark.parametrize("content", ["", "x\n", "device,architecture\nG,resnet18\n"])
def test_a_table_of_rates_without_its_columns_is_one_line(content, tmp_path, capsys):
    (tmp_path / "rates.csv").write_text(content)
    assert main(["plan", "digits-tiny", "--rates", str(tmp_path / "rates.csv")]) == 1
    output = capsys.readouterr()
    assert output.err.startswith(f"{tmp_path}/rates.csv: wanted column ") and output.err.count("\n") == 1
    assert "images_per_second" in output.err and not output.out


def test_a_plan_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["plan", "digits-tiny", "--out", str(tmp_path / "file" / "plan.json")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "file") in error and error.count("\n") == 1
