"""Statistics, figures and the report of a study, or correlations of anybody's table with one row per model."""

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import Any, TypeAlias

from robustgap.analysis import commands as handlers  # `commands` below are the parsers
from robustgap.analysis.files import expand_home
from robustgap.analysis.model_table.bins import read_bins

LEDGER: dict[str, Any] = {
    "metavar": "STUDY|LEDGER",
    "help": "a study by name (results/STUDY/ledger, else the shipped one) or a ledger folder",
}

AXES = (
    "columns of settings that vary; one named `checkpoint` is taken for the checkpoint rule: its values are of one "
    "trained network, and like seeds no configurations of their own"
)
MEASURES = (
    "default: all other numeric columns but ids, times, and true or false; a name with a comma stands in quotes "
    "('\"a, b\",c')"
)
SEEDS = "column of the training seed"
BINS = "numeric axes, cut at quantiles of the models into so many classes"
TABLE_HEADING = "only of a table (a ledger knows its own, and none of these is taken for it)"


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def listed_names(text: str) -> list[str]:
    """'a, b' -> ['a', 'b']; a name with a comma stands in quotes: '"a, b", c' -> ['a, b', 'c']."""
    try:
        names = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        wanted = 'wanted names with commas between them, quotes around a name with a comma: "a, b",c'
        raise argparse.ArgumentTypeError(f"found {text!r}, {wanted}") from error
    return [name.strip() for name in names if name.strip()]


def bins(text: str) -> dict[str, int]:
    """'lr=4,wd=3' -> {'lr': 4, 'wd': 3}, or argparse's own complaint."""
    try:
        return read_bins(listed_names(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive(text: str) -> int:
    """A whole number above 0, or argparse's own complaint."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"found {text!r}, wanted a whole number above 0")
    return int(text)


def add_table_options(command: argparse.ArgumentParser, heading: str = "") -> argparse._ArgumentGroup:
    """Options of the commands that take a ledger or any table. heading: of those that a ledger takes too, if any.
    Returns the group of those that only a table takes (`handlers.refuse_for_ledger`), for more of them."""
    command.add_argument("table", type=Path, metavar="TABLE|STUDY|LEDGER", help=f"a file, {LEDGER['help']}")
    options = command.add_argument_group(heading or TABLE_HEADING)
    table_only = command.add_argument_group(TABLE_HEADING) if heading else options
    options.add_argument("--axes", type=listed_names, metavar="A,B", help=AXES)
    options.add_argument("--outcome", metavar="COLUMN", help="what is to be explained")
    options.add_argument("--measures", type=listed_names, metavar="X,Y", help=MEASURES)
    options.add_argument("--se-column", metavar="SE", help="column of the outcome's standard error from image sampling")
    signs = 'JSON {"MEASURE": 1, -1 or null} with columns of the table, or a catalogue.json (default: none)'
    options.add_argument("--signs", type=Path, metavar="FILE", help=signs)
    table_only.add_argument("--seed-column", metavar="S", help=SEEDS)
    table_only.add_argument("--bins", type=bins, metavar="A=4,B=3", help=BINS)
    return table_only


def parser(prog: str) -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog=prog, description=__doc__)
    add_commands(top.add_subparsers(required=True, metavar="COMMAND"))
    return top


def add_commands(commands: Commands) -> None:
    """Declare every command and its options."""
    _add_collecting(commands)
    _add_tables(commands)
    _add_showing(commands)


def _add_collecting(commands: Commands) -> None:
    """Commands that make a ledger of the results of a study."""
    command = commands.add_parser("ledger", help="collect the results of a study into its ledger")
    command.add_argument("--results", type=Path, required=True, help="results/STUDY")
    command.add_argument("--out", type=Path, required=True, help="ledger folder to write")
    command.add_argument(
        "--catalogue",
        type=Path,
        help="output of `python -m robustgap.measures list --json` (default: catalogue.json among the results)",
    )
    command.set_defaults(run=handlers.run_ledger)

    command = commands.add_parser("interim", help="ledger and report of a study from what is there, at any time")
    command.add_argument("study", metavar="STUDY|RESULTS", help="a study by name, or its folder results/STUDY")
    command.add_argument("--out", type=Path, metavar="DIR", help="default: results/STUDY/interim")
    command.set_defaults(run=handlers.run_interim)


def _add_tables(commands: Commands) -> None:
    """Commands that take any table with one row per model; two of them take a ledger too."""
    command = commands.add_parser(
        "correlate", help="tau, psi and pi of any table (CSV, parquet) with one row per model"
    )
    command.add_argument("table", type=Path)
    command.add_argument("--axes", type=listed_names, required=True, metavar="A,B", help=AXES)
    command.add_argument("--outcome", required=True, metavar="COLUMN", help="what is to be explained, such as the gap")
    command.add_argument("--measures", type=listed_names, metavar="X,Y", help=MEASURES)
    command.add_argument("--seed-column", metavar="S", help=SEEDS)
    command.add_argument("--bins", type=bins, metavar="A=4,B=3", help=BINS)
    command.add_argument("--draws", type=positive, default=2000, metavar="N", help="bootstrap draws (default 2000)")
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where correlations.csv goes")
    command.set_defaults(run=handlers.run_correlate)

    command = commands.add_parser(
        "claims", help="a verdict on each measure of a ledger, or of any table (CSV, parquet)"
    )
    add_table_options(command, "of a table, or of a ledger in place of its own")
    state = "columns of the training state (accuracy, loss): increments over settings and these are given too"
    command.add_argument("--state", type=listed_names, metavar="X,Y", help=state)
    removals = "judge again without each configuration (minutes), to say what each verdict rests on"
    command.add_argument("--removals", action="store_true", help=removals)
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where claims.csv, statements.csv and comparisons.csv go"
    )
    command.set_defaults(run=handlers.run_claims)

    command = commands.add_parser("statistics", help="every statistic of a ledger, or of any table, as tables")
    table_only = add_table_options(command)
    table_only.add_argument(
        "--state", type=listed_names, metavar="X,Y", help="columns of the training state (accuracy, loss)"
    )
    table_only.add_argument("--target", metavar="COLUMN", help="robust test accuracy, by which selection is judged")
    table_only.add_argument(
        "--validation", metavar="COLUMN", help="accuracy on validation images, a rival way to select"
    )
    table_only.add_argument("--images-column", metavar="N", help="1 / (1 / n_train + 1 / n_test) of each model")
    unit = "unit of the outcome, which --images-column needs (default: told from its values, and said)"
    table_only.add_argument("--outcome-unit", choices=["fractions", "points"], help=unit)
    table_only.add_argument("--draws", type=positive, metavar="N", help=f"bootstrap draws (default {handlers.DRAWS})")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.set_defaults(run=handlers.run_statistics)


def _add_showing(commands: Commands) -> None:
    """Commands that show what is in a ledger and its statistics."""
    command = commands.add_parser("figures", help="draw every figure of a ledger")
    command.add_argument("ledger", nargs="?", default="digits", **LEDGER)
    command.add_argument("--statistics", type=Path, metavar="DIR", help="what `statistics` wrote (default: computed)")
    command.add_argument("--out", type=Path, metavar="DIR", help="default: results/STUDY/figures")
    command.add_argument("--jobs", type=positive, default=1, metavar="N", help="processes (default 1)")
    command.set_defaults(run=handlers.run_figures)

    command = commands.add_parser("tables", help="the tables of the report, as CSV and LaTeX")
    command.add_argument("ledger", **LEDGER)
    command.add_argument("--statistics", type=Path, required=True, metavar="DIR", help="what `statistics` wrote")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.set_defaults(run=handlers.run_tables)

    command = commands.add_parser("report", help="write the self-contained HTML report of a ledger")
    command.add_argument("ledger", **LEDGER)
    command.add_argument("--figures", type=Path, required=True, metavar="DIR", help="what `figures` wrote")
    command.add_argument("--statistics", type=Path, required=True, metavar="DIR", help="what `statistics` wrote")
    command.add_argument("--out", type=Path, required=True, metavar="FILE")
    command.set_defaults(run=handlers.run_report)


def main(arguments: list[str] | None = None, prog: str = "python -m robustgap.analysis") -> int:
    """Run one command. A fault in what was given, or too little memory, is one line on stderr and exit code 1."""
    options = parser(prog).parse_args(arguments)
    try:
        for name, value in vars(options).items():
            if isinstance(value, Path):
                setattr(options, name, expand_home(value))
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, LookupError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, LookupError) else error}", file=sys.stderr)
        return 1
    except MemoryError as error:  # numpy says how much it wanted; Python itself says nothing
        print(f"error: memory ran out{f' ({error})' if str(error) else ''}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
