"""What each command of `python -m robustgap.analysis` does with the options declared in __main__.py."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from robustgap.analysis.files import require_columns, write_csv
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
    places = [Path(name), Path("results") / name / "ledger", PUBLISHED / name]
    found = [place for place in places if (place / "study.json").is_file()]
    if not found:
        raise FileNotFoundError(f"{name}: found no ledger (study.json) in {', '.join(map(str, places))}")
    return found[0]


def run_ledger(given: argparse.Namespace) -> None:
    """Write the ledger of a study's results and print the status of its models."""
    ledger = collect(given.results, given.out, given.catalogue, find_ledger)
    fared = ledger.distinct["status"].value_counts()
    told = ", ".join(f"{fared.get(status, 0)} {status}" for status in ("finished", "collapsed", "failed"))
    print(f"{given.out}: {len(ledger.distinct)} models ({told}), {len(ledger.columns)} measure columns")


def run_correlate(given: argparse.Namespace) -> None:
    """Compute the correlations of a table and print how the table was read."""
    from robustgap.analysis.statistics import Statistics, StudyData

    table = read_models(
        given.table,
        axes=given.axes,
        outcome=given.outcome,
        measures=given.measures,
        seed_column=given.seed_column,
        bins=given.bins,
    )
    for note in table.notes:
        print(note)
    found = Statistics(StudyData.of_table(table, draws=given.draws)).table("correlations")
    path = given.out / "correlations.csv"
    write_csv(found, path)
    print(f"{path}: {len(table.rows)} models, {len(table.measures)} measures, {len(found)} rows")
    print(closing_line(table, found))


def is_ledger(path: Path) -> bool:
    """Whether the path is a ledger folder or a study name rather than a file."""
    return path.is_dir() or not (path.suffix or path.is_file())


def refuse_for_ledger(given: argparse.Namespace, command: str) -> None:
    """Raise ValueError for options that only a table takes, rather than ignore them silently."""
    if named := [name for name in TABLE_ONLY[command] if getattr(given, name) is not None]:
        both = [name for name in named if name in CLAIMED]
        elsewhere = f" (`claims` takes {options(both)} for a ledger too)" if both else ""
        raise ValueError(
            f"{given.table}: {command} takes {options(named)} only for a table, not for a ledger{elsewhere}"
        )


def read_table(
    given: argparse.Namespace, *, beside: Sequence[str] = (), state: Sequence[str] = (), counts: Sequence[str] = ()
) -> ModelTable:
    """The table given to a command, read with the options of `add_table_options`."""
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
        counts=counts,
        bins=given.bins,
    )


def run_claims(given: argparse.Namespace) -> None:
    """Compute verdicts on the measures of a ledger or a table, and print how they were reached."""
    from robustgap.analysis.findings.beside import check_sentences
    from robustgap.analysis.model_table.of_ledger import read_ledger_table
    from robustgap.analysis.model_table.roles import Roles
    from robustgap.analysis.models.baselines import MEASURE
    from robustgap.analysis.statistics import Statistics, StudyData
    from robustgap.analysis.verdicts import claims

    if given.removals and given.bins:
        raise ValueError(
            f"{given.table}: --removals: wanted no --bins beside it (its classes change with each removal)"
        )
    state = given.state or []
    if is_ledger(given.table):
        ledger = Ledger.load(find_ledger(str(given.table)))
        refuse_for_ledger(given, "claims")
        chosen = {"axes": given.axes, "outcome": given.outcome, "measures": given.measures, "se": given.se_column}
        table = read_ledger_table(ledger, **chosen)
        require_columns(table.rows, state, ledger.path)
        data = StudyData.of_ledger(ledger, table, given.se_column)
    else:
        table = read_table(given, state=state)
        data = StudyData.of_table(table, Roles(state=state, se=given.se_column))
    signs = claims.read_signs(given.signs, table.columns) if given.signs else data.signs
    for note in [*table.notes, *claims.verdict_notes(table.measures, signs, data.se)]:
        print(note)
    statistics = Statistics(replace(data, signs=signs, judged_state=state, removals=given.removals))
    found = statistics.table("claims")
    for name in ("claims", "statements", "comparisons"):
        write_csv(statistics.table(name), given.out / f"{name}.csv")
    for sentence in check_sentences(found):
        print(sentence)
    own = found.loc[found["kind"] == MEASURE, "verdict"]
    counted = ", ".join(f"{number} {name}" for name, number in own.value_counts().items())
    print(f"{given.out / 'claims.csv'}: {len(table.rows)} models, {len(own)} measures: {counted}")
    print(closing_line(table))


def run_statistics(given: argparse.Namespace) -> None:
    """Compute all statistics of a ledger or a table, and print how the table was read."""
    from robustgap.analysis.statistics import Statistics, StudyData
    from robustgap.analysis.statistics.information import sampling_notes
    from robustgap.analysis.statistics_folder import write_statistics

    if is_ledger(given.table):
        ledger = Ledger.load(find_ledger(str(given.table)))
        refuse_for_ledger(given, "statistics")
        statistics, table = Statistics(ledger), None
    else:
        from robustgap.analysis.model_table.roles import Roles, unit_notes
        from robustgap.analysis.verdicts.claims import read_signs

        if given.validation and not given.target:
            raise ValueError(f"{given.table}: --validation: wanted --target too, by which selection is judged")
        beside = [name for name in (given.target, given.validation) if name]
        counts, state = [given.images_column] if given.images_column else [], given.state or []
        table = read_table(given, beside=beside, state=state, counts=counts)
        roles = Roles(
            state=state,
            target=given.target,
            validation=given.validation,
            images=given.images_column,
            se=given.se_column,
            unit=given.outcome_unit,
            signs=read_signs(given.signs, table.columns) if given.signs else {},
        )
        for note in [*table.notes, *unit_notes(table, roles)]:
            print(note)
        statistics = Statistics(StudyData.of_table(table, roles, given.draws or DRAWS))
    for path in write_statistics(statistics, given.out):
        print(path)
    last = [] if table is None else [closing_line(table, statistics.table("correlations"))]
    for note in [*sampling_notes(statistics.table("information")), *last]:
        print(note)


def run_figures(given: argparse.Namespace) -> None:
    """Draw every figure of a ledger. Matplotlib is imported only here and for the report."""
    from robustgap.analysis.figures import draw_all
    from robustgap.analysis.statistics import Statistics

    ledger = Ledger.load(find_ledger(given.ledger))
    out = given.out or Path("results") / ledger.name / "figures"
    written = draw_all(Statistics(ledger, given.statistics), out, given.jobs)
    print(f"{ledger.path}: {len(written)} files in {out}")


def run_tables(given: argparse.Namespace) -> None:
    """Write the tables shown to readers, as CSV and LaTeX."""
    from robustgap.analysis.statistics import Statistics
    from robustgap.analysis.tables import write_views

    for path in write_views(Statistics(Ledger.load(find_ledger(given.ledger)), given.statistics), given.out):
        print(path)


def run_report(given: argparse.Namespace) -> None:
    """Write the report of a ledger from its figures and statistics."""
    from robustgap.analysis.report import write
    from robustgap.analysis.statistics import Statistics

    write(Statistics(Ledger.load(find_ledger(given.ledger)), given.statistics), given.figures, given.out)
    print(given.out)


def run_interim(given: argparse.Namespace) -> None:
    """Write a ledger and a report of a study's results so far, and list what is missing."""
    from robustgap.analysis.interim import write_interim

    places = [Path(given.study), Path("results") / given.study]
    results = next((place for place in places if (place / "plan.json").is_file()), None)
    if results is None:
        raise FileNotFoundError(f"{given.study}: found no plan.json in {' or '.join(map(str, places))}: has it begun?")
    out = given.out or results / "interim"
    for line in write_interim(results, out) or ["nothing is missing"]:
        print(line)
    print(out / "report.html")
