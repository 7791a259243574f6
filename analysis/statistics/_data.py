"""What a statistic is computed from: the models of a ledger or of a user's table, and the roles of their columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.ledger import Ledger
from robustgap.analysis.model_table import ModelTable
from robustgap.analysis.model_table.roles import Roles, points_per_unit
from robustgap.analysis.models.baselines import Beside, beside_ledger, beside_table, free_name
from robustgap.analysis.models.design import in_grid
from robustgap.analysis.models.flags import ALL, left_out, model_table
from robustgap.analysis.models.shared_images import Sharing, ranking_error, shared_image_noise
from robustgap.analysis.outcome_names import GAP
from robustgap.analysis.statistics._environments import effective_images
from robustgap.analysis.verdicts.judged import judged, undecided

STATE_LOSSES = ("average_ce.adv", "average_ce")  # training loss, if the study measured it
CONTROLLED = ("average_ce",)  # measures controlled for in partial tau, besides training accuracy
SLOW_DRAWS = 200  # upper limit of draws for slow statistics of a user's table


@dataclass(frozen=True)
class StudyData:
    """Models and the roles of their columns.

    models: one row per model, with columns axes (text), outcome, measures (numbers; NaN where missing), and the others
    named here: seed_column; run_column, whose values are runs; se, the outcome's standard error from image sampling;
    state, of the training state, added to the settings in the increment ladder; given, which partial tau holds fixed;
    judged_state, over which verdicts give increments too; target, robust test accuracy; validation, accuracy on
    validation images; images, the effective number of images behind an outcome.
    beside: the models with baselines and controls as further columns. signs: the sign claimed for each measure's
    relation with the outcome. own_seeds: axes whose cells do not fix the seed. fine: the models with the finer settings
    used by increments, if different. points: percentage points per unit of the outcome. min_ess: minimum effective
    sample size of an environment. removals: whether verdicts are made again without each configuration. own_se: whether
    verdicts use `se` as it is, and not only its part that differs between models (analysis.models.shared_images).
    ledger: where the models are from; None for a user's table.
    """

    models: pd.DataFrame
    axes: list[str]
    outcome: str
    measures: list[str]
    beside: Beside
    draws: int
    slow_draws: int
    seed_column: str | None = None
    run_column: str | None = None
    se: str | None = None
    state: Sequence[str] = ()
    given: Sequence[str] = ()
    judged_state: Sequence[str] = ()
    target: str | None = None
    validation: str | None = None
    images: str | None = None
    signs: Mapping[str, int | None] = field(default_factory=dict)
    own_seeds: Sequence[str] = ()
    fine: pd.DataFrame | None = None
    points: int = 1
    min_ess: float | None = None
    removals: bool = False
    own_se: bool = True
    ledger: Ledger | None = None

    @classmethod
    def of_ledger(cls, ledger: Ledger, table: ModelTable | None = None, se: str | None = None) -> "StudyData":
        """The models of a ledger with its own axes, outcome and measures, or as in `table`
        (analysis.model_table.of_ledger); se: column of the outcome's standard error, if not the ledger's own."""
        models = model_table(ledger) if table is None else table.rows
        axes = ledger.axes if table is None else table.axes
        outcome = ledger.outcome if table is None else table.outcome
        column = ledger.explain(outcome)
        measures = [name for name in (ledger.columns if table is None else table.measures) if name != outcome]
        losses = [name for name in STATE_LOSSES if name in ledger.columns and name != outcome]
        # What is explained explains nothing: with the training accuracy as outcome, the clean one stands for it.
        accuracy = next(name for name in (f"{column.shown}_train", "clean_train", "pgd10_train") if name != outcome)
        validation = f"{column.shown}_val"
        known = validation != outcome and validation in models and models[validation].notna().any()
        error = se or f"se_{outcome}"
        return cls(
            models=models,
            axes=axes,
            outcome=outcome,
            measures=measures,
            beside=beside_ledger(ledger, models, axes, outcome),
            draws=ledger.draws,
            slow_draws=ledger.slow_draws,
            seed_column="seed",
            run_column="run",
            se=error if error in models else None,
            state=[accuracy, *losses[:1]],
            given=[accuracy, *(name for name in CONTROLLED if name in ledger.columns and name != outcome)],
            target=f"{column.shown}_test",
            validation=validation if known else None,
            signs={name: ledger.expects(name) if column.kind == GAP else None for name in ledger.columns},
            min_ess=ledger.min_ess,
            removals=ledger.removals,
            own_se=se is not None,
            ledger=ledger,
        )

    @classmethod
    def of_table(cls, table: ModelTable, roles: Roles | None = None, draws: int = 2000) -> "StudyData":
        """The models of a user's table. What needs a column that `roles` does not name is left out."""
        roles = roles or Roles()
        return cls(
            models=table.rows,
            axes=table.axes,
            outcome=table.outcome,
            measures=table.measures,
            beside=beside_table(table.rows, table.axes, table.outcome, table.measures, roles.state),
            draws=draws,
            slow_draws=min(draws, SLOW_DRAWS),
            seed_column=table.seed_column,
            run_column=table.seed_column,
            se=roles.se,
            state=roles.state,
            given=roles.state,
            target=roles.target,
            validation=roles.validation,
            images=roles.images,
            signs=roles.signs,
            own_seeds=table.own_seeds,
            fine=table.fine,
            points=points_per_unit(table, roles),
        )

    @property
    def of_measures(self) -> dict[str, Any]:
        """Arguments of a statistic with rows for measures."""
        return {"axes": self.axes, "outcome": self.outcome, "measures": self.measures}

    @property
    def of_columns(self) -> dict[str, Any]:
        """Arguments of a statistic with rows for measures, baselines and controls."""
        return {**self.of_measures, "measures": [*self.measures, *self.beside.kinds]}

    @property
    def decidable(self) -> bool:
        """Whether a verdict is possible: there are measures, and grid models with different outcomes."""
        known = self.models.loc[in_grid(self.models, self.axes), self.outcome]
        return len(set(known.dropna())) > 1 and bool(self.measures)

    @cached_property
    def weighted(self) -> tuple[pd.DataFrame, str | None]:
        """`beside.table` with the outcome in percentage points, and its column with the effective number of images
        behind each outcome; of a ledger under a name that clashes with no measure (a user's rule may use any name), and
        None for an outcome that is not made of accuracies."""
        table = self.beside.table
        if self.ledger is None:
            return table.assign(**{self.outcome: table[self.outcome] * self.points}), self.images
        if not self.ledger.explain(self.outcome).is_accuracy:
            return table, None
        name = free_name("images", table.columns)
        return table.assign(**{name: effective_images(self.ledger, table["model"], self.outcome)}), name

    @cached_property
    def shared_noise(self) -> Sharing | None:
        """Correlation of the image noise of the models' outcomes, from a ledger's correctness bits; None without."""
        return None if self.ledger is None else shared_image_noise(self.ledger, self.models, self.outcome)

    @cached_property
    def unflagged(self) -> "StudyData | None":
        """The same without the models flagged in analysis.models.flags.LEFT_OUT; None if there are none, or no
        others."""
        if self.ledger is None or (flagged := left_out(self.models).get(ALL)) is None:
            return None
        models = self.models[~flagged].reset_index(drop=True)
        beside = beside_ledger(self.ledger, models, self.axes, self.outcome)
        return replace(self, models=models, beside=beside, removals=False)

    @cached_property
    def verdicts(self) -> dict[str, pd.DataFrame]:
        """Verdicts (`claims`) on measures, baselines and controls, the `statements` they rest on, and pairwise
        `comparisons` of measures (analysis.verdicts.judged)."""
        if not self.decidable:
            return undecided(self.of_columns["measures"], self.beside.kinds)
        beside = self.beside
        if self.se and not self.own_se:
            error = ranking_error(self.models, self.outcome, self.shared_noise)
            beside = replace(beside, table=beside.table.assign(**{self.se: np.asarray(error)}))
        return judged(beside, **self.of_measures, signs=self.signs, se=self.se, fine=self.fine, state=self.judged_state)
