"""The models of a ledger as a checked table with one row per model, like analysis.model_table for a user's file."""

from collections.abc import Sequence

from robustgap.analysis.files import require_columns, with_numbers
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.model_table import ModelTable
from robustgap.analysis.model_table.checks import check_named_once, check_varies
from robustgap.analysis.models.design import in_grid
from robustgap.analysis.models.flags import model_table


def read_ledger_table(
    ledger: Ledger,
    *,
    axes: Sequence[str] | None = None,
    outcome: str | None = None,
    measures: Sequence[str] | None = None,
    se: str | None = None,
) -> ModelTable:
    """The table, with the ledger's own axes, outcome, measures and standard error of the outcome by default.

    outcome: a column of `ledger.models()`, or gap:ID, train:ID, test:ID. Raises ValueError, in one line, for a column
    that is missing, named twice or not numeric, an axis with one value, or if no two grid models have different
    outcomes.
    """
    rows, default_axes = model_table(ledger), axes is None
    outcome = ledger.resolve(outcome, f"{ledger.path}: --outcome") if outcome else ledger.outcome
    axes, error = list(axes or ledger.axes), se or f"se_{outcome}"
    measures = list(measures or [name for name in ledger.measure_columns if name != outcome])
    named = [*axes, outcome, *([error] if se or error in rows else []), *measures]  # losses have no error
    check_named_once(named, ledger.path)
    require_columns(rows, named, ledger.path)
    rows = with_numbers(rows, named[len(axes) :], ledger.path)
    models = rows[rows[outcome].notna()]
    if models.loc[in_grid(models, axes), outcome].nunique() < 2:
        raise ValueError(
            f"{ledger.path}: outcome {outcome!r}: wanted at least two models of the grid with different ones"
        )
    if not default_axes:
        check_varies(models, axes, ledger.path)
    return ModelTable(rows, axes, outcome, measures, "seed", [], list(rows.columns))
