"""Statistics, figures and the report of a study, or correlations of anybody's table with one row per model."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.association import correlations
from analysis.collect import collect
from analysis.files import write_csv
from analysis.ledger import Ledger
from analysis.tables import ModelTable, read_models

PUBLISHED = Path(__file__).parent / "published"
LEDGER: dict[str, Any] = {
    "metavar": "STUDY|LEDGER",
    "help": "a study by name (results/STUDY/ledger, else the shipped one) or a ledger folder",
}

AXES = (
    "columns of settings that vary; one named `checkpoint` is taken for the checkpoint rule: its values are of one "
    "trained network, and like seeds no configurations of their own"
)


def find_ledger(name: str) -> Path:
    """A ledger folder, or by the name of a study: results/NAME/ledger, else the shipped one."""
    places = [Path(name), Path("results") / name / "ledger", PUBLISHED / name]
    found = [place for place in places if (place / "study.json").is_file()]
    if not found:
        raise FileNotFoundError(f"{name}: found no ledger (study.json) in {', '.join(map(str, places))}")
    return found[0]


def run_ledger(given: argparse.Namespace) -> None:
    """Write the ledger of a study's results and say how its models fared."""
    ledger = collect(given.results, given.out, given.catalogue)
    fared = ledger.runs["status"].value_counts()
    told = ", ".join(f"{fared.get(status, 0)} {status}" for status in ("finished", "collapsed", "failed"))
    print(f"{given.out}: {len(ledger.runs)} models ({told}), {len(ledger.columns)} measure columns")


def run_correlate(given: argparse.Namespace) -> None:
    """Correlations of any table; says on stdout how the table was understood."""
    table = read_models(
        given.table, axes=given.axes, outcome=given.outcome, measures=given.measures, seed_column=given.seed_column
    )
    for note in table.notes:
        print(note)
    found = correlations(
        table.rows,
        axes=table.axes,
        outcome=table.outcome,
        measures=table.measures,
        seed_column=table.seed_column,
        draws=given.draws,
    )
    path = given.out / "correlations.csv"
    write_csv(found, path)
    print(f"{path}: {len(table.rows)} models, {len(table.measures)} measures, {len(found)} rows")


def is_ledger(path: Path) -> bool:
    """Whether a folder or the name of a study is meant, not a file."""
    return path.is_dir() or not (path.suffix or path.is_file())


def read_table(given: argparse.Namespace, *, beside: Sequence[str] = (), state: Sequence[str] = ()) -> ModelTable:
    """The table that a command was given, with the options of `add_table_options`."""
    if not given.axes or not given.outcome:
        raise ValueError(f"{given.table}: wanted --axes and --outcome (only a ledger knows its own)")
    return read_models(
        given.table,
        axes=given.axes,
        outcome=given.outcome,
        measures=given.measures,
        seed_column=given.seed_column,
        se=given.se_column,
        beside=beside,
        state=state,
    )


def run_claims(given: argparse.Namespace) -> None:
    """Verdicts on the measures of a ledger or of any table; says on stdout how they were reached."""
    from analysis import claims
    from analysis.ledger_table import read_ledger_table

    signs: dict[str, int | None] = {}
    se = given.se_column
    if is_ledger(given.table):
        ledger = Ledger.load(find_ledger(str(given.table)))
        table, se = read_ledger_table(
            ledger, axes=given.axes, outcome=given.outcome, measures=given.measures, se=given.se_column
        )
        signs = {column: ledger.expects(column) for column in table.measures}
    else:
        table = read_table(given)
    signs = claims.read_signs(given.signs) if given.signs else signs
    for note in [*table.notes, *claims.notes(table.measures, signs, se)]:
        print(note)
    verdict, found = claims.claims(
        table.rows,
        axes=table.axes,
        outcome=table.outcome,
        measures=table.measures,
        signs=signs,
        se=se,
    )
    paths = claims.write_claims(verdict, found, given.out)
    counted = ", ".join(f"{number} {name}" for name, number in verdict["verdict"].value_counts().items())
    print(f"{paths[0]}: {len(table.rows)} models, {len(verdict)} measures: {counted}")


def run_statistics(given: argparse.Namespace) -> None:
    """All statistics of a ledger, or of any table; says on stdout how the table was understood."""
    from analysis.information import notes
    from analysis.statistic_files import read_statistic

    if is_ledger(given.table):
        from analysis.statistics import write_statistics

        paths = write_statistics(Ledger.load(find_ledger(str(given.table))), given.out)
    else:
        from analysis.claims import read_signs
        from analysis.table_statistics import Columns, write_table_statistics

        signs = read_signs(given.signs) if given.signs else {}
        columns = Columns(given.state or [], given.target, given.images_column, given.se_column, signs)
        beside = [name for name in (given.target, given.images_column) if name]
        table = read_table(given, beside=beside, state=columns.state)
        for note in table.notes:
            print(note)
        paths = write_table_statistics(table, given.out, columns, draws=given.draws)
    for path in paths:
        print(path)
    for note in notes(read_statistic(given.out, "information")):
        print(note)


def run_figures(given: argparse.Namespace) -> None:
    """Draw every figure of a ledger. Matplotlib is imported only here and for the report."""
    from analysis.figures import draw_all

    ledger = Ledger.load(find_ledger(given.ledger))
    out = given.out or Path("results") / ledger.name / "figures"
    print(f"{ledger.path}: {len(draw_all(ledger, out, given.statistics, given.jobs))} files in {out}")


def run_tables(given: argparse.Namespace) -> None:
    """Write the tables that a reader is shown, as CSV and LaTeX."""
    from analysis.views import write_views

    for path in write_views(Ledger.load(find_ledger(given.ledger)), given.statistics, given.out):
        print(path)


def run_report(given: argparse.Namespace) -> None:
    """Write the report of a ledger from its figures and statistics."""
    from analysis.report import write

    write(Ledger.load(find_ledger(given.ledger)), figures=given.figures, statistics=given.statistics, out=given.out)
    print(given.out)


def names(listed: str) -> list[str]:
    """'a, b' -> ['a', 'b']."""
    return [name.strip() for name in listed.split(",") if name.strip()]


def positive(number: str) -> int:
    """A whole number above 0, or argparse's own complaint."""
    if not number.isdecimal() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"found {number!r}, wanted a whole number above 0")
    return int(number)


def add_table_options(one: argparse.ArgumentParser) -> None:
    """Options of the commands that take a ledger or any table."""
    one.add_argument("table", type=Path, metavar="TABLE|STUDY|LEDGER", help=f"a file, {LEDGER['help']}")
    one.add_argument("--axes", type=names, metavar="A,B", help=f"{AXES} (a ledger knows its own)")
    one.add_argument("--outcome", metavar="COLUMN", help="what is to be explained (a ledger knows its own)")
    one.add_argument("--measures", type=names, metavar="X,Y", help="default: all other numeric columns")
    one.add_argument("--seed-column", metavar="S", help="column of the training seed")
    one.add_argument("--se-column", metavar="SE", help="column of the outcome's standard error from image sampling")
    one.add_argument(
        "--signs",
        type=Path,
        metavar="FILE",
        help='JSON {"MEASURE": 1, -1 or null}, or a catalogue.json (default: that of the ledger, else none)',
    )


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("ledger", help="collect the results of a study into its ledger")
    one.add_argument("--results", type=Path, required=True, help="results/STUDY")
    one.add_argument("--out", type=Path, required=True, help="ledger folder to write")
    one.add_argument(
        "--catalogue",
        type=Path,
        help="output of `python -m measures list --json` (default: catalogue.json among the results)",
    )
    one.set_defaults(run=run_ledger)

    one = commands.add_parser("correlate", help="tau, psi and pi of any CSV or parquet table with one row per model")
    one.add_argument("table", type=Path)
    one.add_argument("--axes", type=names, required=True, metavar="A,B", help=AXES)
    one.add_argument("--outcome", required=True, metavar="COLUMN", help="what is to be explained, such as the gap")
    one.add_argument("--measures", type=names, metavar="X,Y", help="default: all other numeric columns")
    one.add_argument("--seed-column", metavar="S", help="column of the training seed")
    one.add_argument("--draws", type=positive, default=2000, metavar="N", help="bootstrap draws (default 2000)")
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="where correlations.csv goes")
    one.set_defaults(run=run_correlate)

    one = commands.add_parser("claims", help="a verdict on each measure of a ledger, or of any table (CSV, parquet)")
    add_table_options(one)
    one.add_argument("--out", type=Path, required=True, metavar="DIR", help="where claims.csv and statements.csv go")
    one.set_defaults(run=run_claims)

    one = commands.add_parser("statistics", help="every statistic of a ledger, or of any table, as tables")
    add_table_options(one)
    one.add_argument("--state", type=names, metavar="X,Y", help="table: columns of the training state (accuracy, loss)")
    one.add_argument("--target", metavar="COLUMN", help="table: robust test accuracy, by which selection is judged")
    one.add_argument("--images-column", metavar="N", help="table: 1 / (1 / n_train + 1 / n_test) of each model")
    one.add_argument("--draws", type=positive, default=2000, metavar="N", help="table: bootstrap draws (default 2000)")
    one.add_argument("--out", type=Path, required=True, metavar="DIR")
    one.set_defaults(run=run_statistics)

    one = commands.add_parser("figures", help="draw every figure of a ledger")
    one.add_argument("ledger", nargs="?", default="digits", **LEDGER)
    one.add_argument("--statistics", type=Path, metavar="DIR", help="what `statistics` wrote (default: computed)")
    one.add_argument("--out", type=Path, metavar="DIR", help="default: results/STUDY/figures")
    one.add_argument("--jobs", type=positive, default=1, metavar="N", help="processes (default 1)")
    one.set_defaults(run=run_figures)

    one = commands.add_parser("tables", help="the tables of the report, as CSV and LaTeX")
    one.add_argument("ledger", **LEDGER)
    one.add_argument("--statistics", type=Path, required=True, metavar="DIR", help="what `statistics` wrote")
    one.add_argument("--out", type=Path, required=True, metavar="DIR")
    one.set_defaults(run=run_tables)

    one = commands.add_parser("report", help="write the self-contained HTML report of a ledger")
    one.add_argument("ledger", **LEDGER)
    one.add_argument("--figures", type=Path, required=True, metavar="DIR", help="what `figures` wrote")
    one.add_argument("--statistics", type=Path, required=True, metavar="DIR", help="what `statistics` wrote")
    one.add_argument("--out", type=Path, required=True, metavar="FILE")
    one.set_defaults(run=run_report)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command. A fault in what was given is one line on stderr and exit code 1."""
    given = parser().parse_args(arguments)
    try:
        given.run(given)
    except (ValueError, LookupError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, LookupError) else error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
