"""Statistics, figures and the report of a study, or correlations of anybody's table with one row per model."""

import argparse
import csv
import os
import sys
from pathlib import Path
from typing import Any, TypeAlias

from robustgap.analysis import commands as does  # `commands` below are the parsers
from robustgap.analysis.files import at_home
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


def listed_names(listed: str) -> list[str]:
    """'a, b' -> ['a', 'b']; a name with a comma stands in quotes: '"a, b", c' -> ['a, b', 'c']."""
    try:
        found = next(csv.reader([listed], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        wanted = 'wanted names with commas between them, quotes around a name with a comma: "a, b",c'
        raise argparse.ArgumentTypeError(f"found {listed!r}, {wanted}") from error
    return [name.strip() for name in found if name.strip()]


def bins(listed: str) -> dict[str, int]:
    """'lr=4,wd=3' -> {'lr': 4, 'wd': 3}, or argparse's own complaint."""
    try:
        return read_bins(listed_names(listed))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive(number: str) -> int:
    """A whole number above 0, or argparse's own complaint."""
    if not number.isdecimal() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"found {number!r}, wanted a whole number above 0")
    return int(number)


def add_table_options(one: argparse.ArgumentParser, own: str = "") -> argparse._ArgumentGroup:
    """Options of the commands that take a ledger or any table. own: heading of those that a ledger takes too, if any.
    Returns the group of those that only a table takes (`does.refuse_for_ledger`), for more of them."""
    one.add_argument("table", type=Path, metavar="TABLE|STUDY|LEDGER", help=f"a file, {LEDGER['help']}")
    both = one.add_argument_group(own or TABLE_HEADING)
    alone = one.add_argument_group(TABLE_HEADING) if own else both
    both.add_argument("--axes", type=listed_names, metavar="A,B", help=AXES)
    both.add_argument("--outcome", metavar="COLUMN", help="what is to be explained")
    both.add_argument("--measures", type=listed_names, metavar="X,Y", help=MEASURES)
    both.add_argument("--se-column", metavar="SE", help="column of the outcome's standard error from image sampling")
    signs = 'JSON {"MEASURE": 1, -1 or null} with columns of the table, or a catalogue.json (default: none)'
    both.add_argument("--signs", type=Path, metavar="FILE", help=signs)
    alone.add_argument("--seed-column", metavar="S", help=SEEDS)
    alone.add_argument("--bins", type=bins, metavar="A=4,B=3", help=BINS)
    return alone


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
    one = commands.add_parser("ledger", help="collect the results of a study into its ledger")
    one.add_argument("--results", type=Path, required=True, help="results/STUDY")
    one.add_argument("--out", type=Path, required=True, help="ledger folder to write")
    one.add_argument(
        "--catalogue",
        type=Path,
        help="output of `python -m robustgap.measures list --json` (default: catalogue.json among the results)",
    )
    one.set_defaults(run=does.run_ledger)

    one = commands.add_parser("interim", help="ledger and report of a study from what is there, at any time")
    one.add_argument("study", metavar="STUDY|RESULTS", help="a study by name, or its folder results/STUDY")
    one.add_argument("--out", type=Path, metavar="DIR", help="default: results/STUDY/interim")
    one.set_defaults(run=does.run_interim)


def _add_tables(commands: Commands) -> None:
    """Commands that take any table with one row per model; two of them take a ledger too."""
    one = commands.add_parser("correlate", help="tau, psi and pi of any table (CSV, parquet) with one row per model")
    one.add_argument("table", type=Path)
    one.add_argument("--axes", type=listed_names, required=True, metavar="A,B", help=AXES)
    one.add_argument("--outcome", required=True, metavar="COLUMN", help="what is to be explained, such as the gap")
    one.add_argument("--measures", type=listed_names, metavar="X,Y", help=MEASURES)
    one.add_argument("--seed-column", metavar="S", help=SEEDS)
    one.add_argument("--bins", type=bins, metavar="A=4,B=3", help=BINS)
    one.add_argument("--draws", type=positive, default=2000, metavar="N", help="bootstrap draws (default 2000)")
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="where correlations.csv goes")
    one.set_defaults(run=does.run_correlate)

    one = commands.add_parser("claims", help="a verdict on each measure of a ledger, or of any table (CSV, parquet)")
    add_table_options(one, "of a table, or of a ledger in place of its own")
    state = "columns of the training state (accuracy, loss): increments over settings and these are given too"
    one.add_argument("--state", type=listed_names, metavar="X,Y", help=state)
    removals = "judge again without each configuration (minutes), to say what each verdict rests on"
    one.add_argument("--removals", action="store_true", help=removals)
    one.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where claims.csv, statements.csv and comparisons.csv go"
    )
    one.set_defaults(run=does.run_claims)

    one = commands.add_parser("statistics", help="every statistic of a ledger, or of any table, as tables")
    alone = add_table_options(one)
    alone.add_argument(
        "--state", type=listed_names, metavar="X,Y", help="columns of the training state (accuracy, loss)"
    )
    alone.add_argument("--target", metavar="COLUMN", help="robust test accuracy, by which selection is judged")
    alone.add_argument("--validation", metavar="COLUMN", help="accuracy on validation images, a rival way to select")
    alone.add_argument("--images-column", metavar="N", help="1 / (1 / n_train + 1 / n_test) of each model")
    unit = "unit of the outcome, which --images-column needs (default: told from its values, and said)"
    alone.add_argument("--outcome-unit", choices=["fractions", "points"], help=unit)
    alone.add_argument("--draws", type=positive, metavar="N", help=f"bootstrap draws (default {does.DRAWS})")
    one.add_argument("--out", type=Path, required=True, metavar="DIR")
    one.set_defaults(run=does.run_statistics)


def _add_showing(commands: Commands) -> None:
    """Commands that show what is in a ledger and its statistics."""
    one = commands.add_parser("figures", help="draw every figure of a ledger")
    one.add_argument("ledger", nargs="?", default="digits", **LEDGER)
    one.add_argument("--statistics", type=Path, metavar="DIR", help="what `statistics` wrote (default: computed)")
    one.add_argument("--out", type=Path, metavar="DIR", help="default: results/STUDY/figures")
    one.add_argument("--jobs", type=positive, default=1, metavar="N", help="processes (default 1)")
    one.set_defaults(run=does.run_figures)

    one = commands.add_parser("tables", help="the tables of the report, as CSV and LaTeX")
    one.add_argument("ledger", **LEDGER)
    one.add_argument("--statistics", type=Path, required=True, metavar="DIR", help="what `statistics` wrote")
    one.add_argument("--out", type=Path, required=True, metavar="DIR")
    one.set_defaults(run=does.run_tables)

    one = commands.add_parser("report", help="write the self-contained HTML report of a ledger")
    one.add_argument("ledger", **LEDGER)
    one.add_argument("--figures", type=Path, required=True, metavar="DIR", help="what `figures` wrote")
    one.add_argument("--statistics", type=Path, required=True, metavar="DIR", help="what `statistics` wrote")
    one.add_argument("--out", type=Path, required=True, metavar="FILE")
    one.set_defaults(run=does.run_report)


def main(arguments: list[str] | None = None, prog: str = "python -m robustgap.analysis") -> int:
    """Run one command. A fault in what was given, or too little memory, is one line on stderr and exit code 1."""
    given = parser(prog).parse_args(arguments)
    try:
        for name, value in vars(given).items():
            if isinstance(value, Path):
                setattr(given, name, at_home(value))
        given.run(given)
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
