"""What each command of `python -m robustgap.analysis` does with the options declared in __main__.py."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robustgap.analysis.files import require_columns, write_csv
from robustgap.analysis.labels import count
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.ledger.collect import collect
from robustgap.analysis.model_table import ModelTable, read_models
from robustgap.analysis.model_table.summary import closing_line

PUBLISHED = Path(__file__).parent / "published"
DRAWS = 2000  # bootstrap draws for a user's table; a study file sets its own number
CLAIMED = ["axes", "outcome", "measures", "se_column", "signs"]  # options that `claims` also accepts for a ledger
# Options that only a table takes, by command: for a ledger, the study file alone determines figures and report.
TABLE_ONLY = {
    "claims": ["seed_column", "bins"],
    "statistics": [
        *CLAIMED,
        *("seed_column", "bins", "state", "target", "validation", "images_column", "outcome_unit", "draws"),
    ],
}


def options(names: Sequence[str]) -> str:
    """['se_column', 'axes'] -> '--se-column, --axes'."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def find_ledger(name: str) -> Path:
    """Path of a ledger folder. A study's name stands for results/NAME/ledger, or else for the shipped ledger."""
    candidates = list(dict.fromkeys([Path(name), Path("results") / name / "ledger", PUBLISHED / name]))
    ledgers = [folder for folder in candidates if (folder / "study.json").is_file()]
    if not ledgers:
        raise FileNotFoundError(f"{name}: found no ledger (study.json) in {', '.join(map(str, candidates))}")
    return ledgers[0]


def run_ledger(arguments: argparse.Namespace) -> None:
    """Write the ledger of a study's results and print the status of its models."""
    ledger = collect(arguments.results, arguments.out, arguments.catalogue, find_ledger)
    counts = ledger.distinct["status"].value_counts()
    statuses = ", ".join(f"{counts.get(status, 0)} {status}" for status in ("finished", "collapsed", "failed"))
    columns = count(len(ledger.columns), "measure column")
    print(f"{arguments.out}: {count(len(ledger.distinct), 'model')} ({statuses}), {columns}")


def run_correlate(arguments: argparse.Namespace) -> None:
    """Compute the correlations of a table and print how the table was read."""
    from robustgap.analysis.statistics import Statistics, StudyData

    table = read_models(
        arguments.table,
        axes=arguments.axes,
        outcome=arguments.outcome,
        measures=arguments.measures,
        seed_column=arguments.seed_column,
        bins=arguments.bins,
    )
    for note in table.notes:
        print(note)
    correlations = Statistics(StudyData.of_table(table, draws=arguments.draws)).table("correlations")
    path = arguments.out / "correlations.csv"
    write_csv(correlations, path)
    counted = {"model": table.rows, "measure": table.measures, "row": correlations}
    print(f"{path}: {', '.join(count(len(items), word) for word, items in counted.items())}")
    print(closing_line(table, correlations))


def is_ledger(path: Path) -> bool:
    """Whether the path is a ledger folder or a study name rather than a file."""
    return path.is_dir() or not (path.suffix or path.is_file())


def refuse_for_ledger(arguments: argparse.Namespace, command: str) -> None:
    """Raise ValueError for options that only a table takes, rather than ignore them silently."""
    if refused := [name for name in TABLE_ONLY[command] if getattr(arguments, name) is not None]:
        for_claims = [name for name in refused if name in CLAIMED]
        hint = f" (`claims` takes {options(for_claims)} for a ledger too)" if for_claims else ""
        raise ValueError(
            f"{arguments.table}: {command} takes {options(refused)} only for a table, not for a ledger{hint}"
        )


def read_table(
    arguments: argparse.Namespace, *, beside: Sequence[str] = (), state: Sequence[str] = (), counts: Sequence[str] = ()
) -> ModelTable:
    """The table given to a command, read with the options of `add_table_options`."""
    if not arguments.axes or not arguments.outcome:
        raise ValueError(f"{arguments.table}: wanted --axes and --outcome (only a ledger knows its own)")
    return read_models(
        arguments.table,
        axes=arguments.axes,
        outcome=arguments.outcome,
        measures=arguments.measures,
        seed_column=arguments.seed_column,
        se=arguments.se_column,
        beside=beside,
        state=state,
        counts=counts,
        bins=arguments.bins,
    )


def run_claims(arguments: argparse.Namespace) -> None:
    """Compute verdicts on the measures of a ledger or a table, and print how they were reached."""
    from robustgap.analysis.findings.beside import check_sentences
    from robustgap.analysis.model_table.of_ledger import read_ledger_table
    from robustgap.analysis.model_table.roles import Roles
    from robustgap.analysis.models.baselines import MEASURE
    from robustgap.analysis.statistics import Statistics, StudyData
    from robustgap.analysis.verdicts import claims

    if arguments.removals and arguments.bins:
        raise ValueError(
            f"{arguments.table}: --removals: wanted no --bins beside it (its classes change with each removal)"
        )
    state = arguments.state or []
    if is_ledger(arguments.table):
        ledger = Ledger.load(find_ledger(str(arguments.table)))
        refuse_for_ledger(arguments, "claims")
        columns = {
            "axes": arguments.axes,
            "outcome": arguments.outcome,
            "measures": arguments.measures,
            "se": arguments.se_column,
        }
        table = read_ledger_table(ledger, **columns)
        require_columns(table.rows, state, ledger.path)
        if table.outcome in state:
            raise ValueError(f"{ledger.path}: --state: found {table.outcome!r}, which is the outcome itself")
        data = StudyData.of_ledger(ledger, table, arguments.se_column)
    else:
        table = read_table(arguments, state=state)
        data = StudyData.of_table(table, Roles(state=state, se=arguments.se_column))
    signs = claims.read_signs(arguments.signs, table.columns) if arguments.signs else data.signs
    for note in [*table.notes, *claims.verdict_notes(table.measures, signs, data.se)]:
        print(note)
    statistics = Statistics(replace(data, signs=signs, judged_state=state, removals=arguments.removals))
    verdicts = statistics.table("claims")
    for name in ("claims", "statements", "comparisons"):
        write_csv(statistics.table(name), arguments.out / f"{name}.csv")
    for sentence in check_sentences(verdicts):
        print(sentence)
    of_measures = verdicts.loc[verdicts["kind"] == MEASURE, "verdict"]
    counts = ", ".join(f"{number} {name}" for name, number in of_measures.value_counts().items())
    judged = f"{count(len(table.rows), 'model')}, {count(len(of_measures), 'measure')}"
    print(f"{arguments.out / 'claims.csv'}: {judged}: {counts}")
    print(closing_line(table))


def run_statistics(arguments: argparse.Namespace) -> None:
    """Compute all statistics of a ledger or a table, and print how the table was read."""
    from robustgap.analysis.statistics import Statistics, StudyData
    from robustgap.analysis.statistics.information import sampling_notes
    from robustgap.analysis.statistics_folder import write_statistics

    if is_ledger(arguments.table):
        ledger = Ledger.load(find_ledger(str(arguments.table)))
        refuse_for_ledger(arguments, "statistics")
        statistics, table = Statistics(ledger), None
    else:
        from robustgap.analysis.model_table.roles import Roles, unit_notes
        from robustgap.analysis.verdicts.claims import read_signs

        if arguments.validation and not arguments.target:
            raise ValueError(f"{arguments.table}: --validation: wanted --target too, by which selection is judged")
        beside = [name for name in (arguments.target, arguments.validation) if name]
        counts, state = [arguments.images_column] if arguments.images_column else [], arguments.state or []
        table = read_table(arguments, beside=beside, state=state, counts=counts)
        roles = Roles(
            state=state,
            target=arguments.target,
            validation=arguments.validation,
            images=arguments.images_column,
            se=arguments.se_column,
            unit=arguments.outcome_unit,
            signs=read_signs(arguments.signs, table.columns) if arguments.signs else {},
        )
        for note in [*table.notes, *unit_notes(table, roles)]:
            print(note)
        statistics = Statistics(StudyData.of_table(table, roles, arguments.draws or DRAWS))
    for path in write_statistics(statistics, arguments.out):
        print(path)
    closing = [] if table is None else [closing_line(table, statistics.table("correlations"))]
    for note in [*sampling_notes(statistics.table("information")), *closing]:
        print(note)


def run_figures(arguments: argparse.Namespace) -> None:
    """Draw every figure of a ledger. Matplotlib is imported only here and for the report."""
    from robustgap.analysis.figures import draw_all
    from robustgap.analysis.statistics import Statistics

    ledger = Ledger.load(find_ledger(arguments.ledger))
    out = arguments.out or Path("results") / ledger.name / "figures"
    written = draw_all(Statistics(ledger, arguments.statistics), out, arguments.jobs)
    print(f"{ledger.path}: {len(written)} files in {out}")


def run_tables(arguments: argparse.Namespace) -> None:
    """Write the tables shown to readers, as CSV and LaTeX."""
    from robustgap.analysis.statistics import Statistics
    from robustgap.analysis.tables import write_views

    for path in write_views(
        Statistics(Ledger.load(find_ledger(arguments.ledger)), arguments.statistics), arguments.out
    ):
        print(path)


def run_report(arguments: argparse.Namespace) -> None:
    """Write the report of a ledger from its figures and statistics."""
    from robustgap.analysis.report import write
    from robustgap.analysis.statistics import Statistics

    write(
        Statistics(Ledger.load(find_ledger(arguments.ledger)), arguments.statistics), arguments.figures, arguments.out
    )
    print(arguments.out)


def run_interim(arguments: argparse.Namespace) -> None:
    """Write a ledger and a report of a study's results so far, and list what is missing."""
    from robustgap.analysis.interim import write_interim

    candidates = list(dict.fromkeys([Path(arguments.study), Path("results") / arguments.study]))
    results = next((folder for folder in candidates if (folder / "plan.json").is_file()), None)
    if results is None:
        raise FileNotFoundError(
            f"{arguments.study}: found no plan.json in {' or '.join(map(str, candidates))}: has the study started?"
        )
    out = arguments.out or results / "interim"
    for line in write_interim(results, out) or ["nothing is missing"]:
        print(line)
    print(out / "report.html")
