"""Computes every statistic of a ledger as tables, one file each in the statistics folder."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from robustgap.analysis.files import write_csv, write_text
from robustgap.analysis.findings.numbers import find
from robustgap.analysis.findings.sentences import sentences
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.models.baselines import Beside, beside_ledger, free_name, with_kinds
from robustgap.analysis.models.design import in_grid
from robustgap.analysis.models.flags import ALL, left_out, model_table
from robustgap.analysis.models.shared_images import Sharing, of_ledger, ranking_error
from robustgap.analysis.models.study_table import make_study
from robustgap.analysis.progress import bar
from robustgap.analysis.statistics._environments import effective_images
from robustgap.analysis.statistics.increments import RESULT as INCREMENT
from robustgap.analysis.statistics.increments import ladder
from robustgap.analysis.statistics.information import conditional_information
from robustgap.analysis.statistics.noise import measure_noise, noise
from robustgap.analysis.statistics.partial import partial_correlations
from robustgap.analysis.statistics.reliability import per_model, reliability
from robustgap.analysis.statistics.selection import selection
from robustgap.analysis.statistics.sign_errors import environment_errors, sign_errors
from robustgap.analysis.statistics.simpson import simpson
from robustgap.analysis.statistics.summary import issue_table, ledger_correlations, summary_table
from robustgap.analysis.statistics.thresholds import DEFAULT_COLUMN, thresholds
from robustgap.analysis.verdicts.claims import RESULT as CLAIM
from robustgap.analysis.verdicts.claims import UNRESOLVED
from robustgap.analysis.verdicts.comparisons import RESULT as COMPARISON
from robustgap.analysis.verdicts.judged import judged
from robustgap.analysis.verdicts.removals import removals, with_removals
from robustgap.analysis.verdicts.statements import RESULT as STATEMENT
from robustgap.analysis.verdicts.unflagged import with_unflagged

GIVEN = ("average_ce",)  # measures controlled for in partial tau, besides training accuracy
STATE = ("average_ce.adv", "average_ce")  # training loss, if the study measured it


@dataclass(frozen=True)
class Part:
    """Input of a statistic: the ledger, its models (or a subset), and their correlations if already computed."""

    ledger: Ledger
    models: pd.DataFrame
    known: pd.DataFrame | None = None

    @cached_property
    def correlations(self) -> pd.DataFrame:
        return ledger_correlations(self.ledger, self.beside) if self.known is None else self.known

    @property
    def asked(self) -> dict:
        """Arguments common to most statistics."""
        ledger = self.ledger
        return {"axes": ledger.axes, "outcome": ledger.outcome, "measures": ledger.columns}

    @cached_property
    def beside(self) -> Beside:
        """The models with baselines and controls."""
        return beside_ledger(self.ledger, self.models, self.ledger.axes, self.ledger.outcome)

    @property
    def rows(self) -> dict:
        """Arguments of statistics with one row per measure, baseline and control."""
        return {**self.asked, "measures": [*self.ledger.columns, *self.beside.kinds]}

    @property
    def attack(self) -> str:
        """The outcome's attack."""
        return self.ledger.outcome.removeprefix("gap_").removesuffix("_rest")

    @cached_property
    def shared(self) -> Sharing | None:
        """Correlation of the image noise of the models' gaps, from the ledger's correctness bits; None without them."""
        return of_ledger(self.ledger, self.models, self.ledger.outcome)

    @cached_property
    def unflagged(self) -> "Part | None":
        """The same without the models flagged in analysis.models.flags.LEFT_OUT; None if there are none, or no
        others."""
        flagged = left_out(self.models).get(ALL)
        return None if flagged is None else Part(self.ledger, self.models[~flagged].reset_index(drop=True))

    @cached_property
    def noise(self) -> pd.DataFrame:
        return noise_table(self)

    @cached_property
    def verdicts(self) -> dict[str, pd.DataFrame]:
        return judged_tables(self)

    @property
    def decidable(self) -> bool:
        """Whether a verdict is possible: there are measures, and grid models with different outcomes."""
        known = self.models.loc[in_grid(self.models, self.ledger.axes), self.ledger.outcome]
        return len(set(known.dropna())) > 1 and bool(self.ledger.columns)

    @property
    def judged(self) -> tuple[pd.DataFrame, str]:
        """The models, and the name of the column with the number of images behind their gaps, chosen so that it clashes
        with no measure (a user's rule may use any name)."""
        table = self.beside.table
        name = free_name("images", table.columns)
        images = effective_images(self.ledger, table["model"], self.ledger.outcome)
        return table.assign(**{name: images}), name


def noise_table(part: Part) -> pd.DataFrame:
    """Variance components and ceilings of the outcome, then the noise share of each measure."""
    ledger, table, draws = part.ledger, part.models, part.ledger.slow_draws
    found = noise(
        table,
        axes=ledger.axes,
        outcome=ledger.outcome,
        seed_column="seed",
        se=f"se_{ledger.outcome}",
        shared=part.shared,
        draws=draws,
    )
    errors = per_model(ledger, table["model"], "se")
    return pd.concat([found, measure_noise(table, errors, axes=ledger.axes, draws=draws)], ignore_index=True)


def selection_table(part: Part) -> pd.DataFrame:
    """Regret when picking by each measure, and by validation accuracy if the ledger has it."""
    ledger, validation = part.ledger, f"{part.attack}_val"
    known = validation in part.models and part.models[validation].notna().any()
    found = selection(
        part.beside.table,
        axes=ledger.axes,
        target=f"{part.attack}_test",
        measures=part.rows["measures"],
        seed_column="seed",
        signs={column: ledger.expects(column) for column in ledger.columns},
        validation=validation if known else None,
        draws=ledger.slow_draws,
    )
    return with_kinds(found, part.beside.kinds)


def threshold_table(part: Part) -> pd.DataFrame:
    """Tau at or below each cut of the adversarial cross-entropy if the study measured it, else of the training error;
    also within each defense."""
    table, column = part.models, DEFAULT_COLUMN
    if column not in table:
        column = f"{part.attack}_train_error"
        table = table.assign(**{column: 100 - table[f"{part.attack}_train"]})
    within = "defense" if "defense" in part.ledger.axes else None
    return thresholds(table, **part.asked, column=column, within=within, draws=part.ledger.slow_draws)


def partial_table(part: Part) -> pd.DataFrame:
    """Partial tau given training accuracy under the outcome's attack, and given the measures in GIVEN."""
    given = [f"{part.attack}_train", *(column for column in GIVEN if column in part.ledger.columns)]
    found = partial_correlations(part.beside.table, **part.rows, given=given, draws=part.ledger.draws)
    return with_kinds(found, part.beside.kinds)


def sign_error_table(part: Part) -> pd.DataFrame:
    ledger, (table, images) = part.ledger, part.judged
    found = sign_errors(table, **part.rows, images=images, min_ess=ledger.min_ess, draws=ledger.slow_draws)
    return with_kinds(found, part.beside.kinds)


def environment_table(part: Part) -> pd.DataFrame:
    table, images = part.judged
    return environment_errors(table, **part.asked, images=images, min_ess=part.ledger.min_ess)


def information_table(part: Part) -> pd.DataFrame:
    table, draws = part.beside.table, part.ledger.slow_draws
    found = conditional_information(table, **part.rows, seed_column="seed", draws=draws)
    return with_kinds(found, part.beside.kinds)


def increment_table(part: Part) -> pd.DataFrame:
    """Out-of-fold prediction of the outcome, starting from the settings. Training state: accuracy under the outcome's
    attack and cross-entropy on training images (adversarial if the study measured it)."""
    if not part.decidable:
        return pd.DataFrame(columns=INCREMENT)
    losses = [name for name in STATE if name in part.ledger.columns]
    return ladder(make_study(part.models, **part.asked), state=[f"{part.attack}_train", *losses[:1]])


def judged_tables(part: Part) -> dict[str, pd.DataFrame]:
    """Verdicts on measures, baselines and controls, the statements they rest on, and pairwise comparisons of
    measures."""
    ledger, beside = part.ledger, part.beside
    if not part.decidable:
        reason = "The grid has no two models with different outcomes."
        names = part.rows["measures"]
        rows = [{"measure": name, "verdict": UNRESOLVED, "axis": "", "reason": reason} for name in names]
        verdict = with_kinds(pd.DataFrame(rows, columns=CLAIM), beside.kinds)
        verdict.insert(3, "group", "")
        statement = with_kinds(pd.DataFrame(columns=STATEMENT), beside.kinds)
        return {"claims": verdict, "statements": statement, "comparisons": pd.DataFrame(columns=COMPARISON)}
    error = f"se_{ledger.outcome}"  # replaces the plain standard error, as in analysis.model_table.of_ledger
    ranked = beside.table.assign(**{error: ranking_error(part.models, ledger.outcome, part.shared)})
    signs = {column: ledger.expects(column) for column in ledger.columns}
    return judged(replace(beside, table=ranked), **part.asked, signs=signs, se=error)


def claim_tables(part: Part) -> dict[str, pd.DataFrame]:
    """The same, with what each verdict rests on if the study asks for it, and the verdicts without flagged models."""
    ledger, found = part.ledger, None
    if part.decidable and ledger.removals:
        signs = {column: ledger.expects(column) for column in ledger.columns}
        found = removals(part.models, **part.asked, signs=signs, run="run")
    other = part.unflagged.verdicts["claims"] if part.unflagged else None
    return {**part.verdicts, "claims": with_unflagged(with_removals(part.verdicts["claims"], found), other)}


# Each becomes NAME.csv, or the files named by its dictionary. Also written: correlations, summary, models and issues
# (.csv), and findings.json.
PARTS: dict[str, Callable[[Part], pd.DataFrame | dict[str, pd.DataFrame]]] = {
    "claims": claim_tables,
    "increments": increment_table,
    "partial": partial_table,
    "simpson": lambda part: with_kinds(simpson(part.correlations), part.beside.kinds),
    "information": information_table,
    "sign_errors": sign_error_table,
    "environments": environment_table,
    "thresholds": threshold_table,
    "noise": lambda part: part.noise,
    "selection": selection_table,
    "reliability": lambda part: reliability(part.ledger, part.models),
}


def findings_of(part: Part) -> dict:
    """The numbers behind the report's sentences, and the sentences."""
    found = part.correlations
    given = {"summary": summary_table(part.ledger, part.beside, found), "noise": part.noise}
    given |= {name: part.verdicts[name] for name in ("claims", "comparisons")}
    numbers = find(part.ledger, part.beside, found, **given)
    return {**numbers, "sentences": sentences(numbers)}


def write_statistics(ledger: Ledger, out: str | Path) -> list[Path]:
    """Write every statistic into folder `out`, NAME.csv each, and findings.json (numbers, and sentences made from them;
    the same without flagged models under `without_flagged`); returns the files."""
    part = Part(ledger, model_table(ledger))
    table, found = part.models, part.correlations
    summary = summary_table(ledger, part.beside, found)
    tables = {"correlations": found, "summary": summary, "models": table, "issues": issue_table(ledger, table)}
    for name in bar(PARTS, "statistics"):
        made = PARTS[name](part)
        tables |= made if isinstance(made, dict) else {name: made}
    paths = {name: Path(out) / f"{name}.csv" for name in tables}
    for name, content in tables.items():
        write_csv(content, paths[name])
    findings = {**findings_of(part), "without_flagged": findings_of(part.unflagged) if part.unflagged else None}
    last = Path(out) / "findings.json"
    write_text(json.dumps(findings, indent=1, allow_nan=False) + "\n", last)
    return [*paths.values(), last]
