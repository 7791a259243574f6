"""Which outcomes of a ledger are asked about at once, and in which order."""

import itertools

from robustgap.analysis.outcome_names import GAP, LOSS, TEST, TRAIN, OutcomeColumn, OutcomeId
from robustgap.analysis.statistics._data import StudyData

ORDER = ((GAP, TRAIN), (TRAIN, TRAIN), (TEST, TEST), (LOSS, TRAIN), (LOSS, TEST))  # kind, first split


def asked(data: StudyData) -> dict[str, OutcomeColumn]:
    """The columns of outcomes that at least two models have: gaps, accuracies, then losses, each in the ledger's order
    of outcomes but those at eps 0; first the study's own outcome if it is none of these. Gaps on the disjoint images
    are not among them: `correlations` has tau_rest."""
    assert data.ledger is not None, "needs the ledger"
    by_kind = {key: dict[str, OutcomeColumn]() for key in ORDER}
    for name, column in data.ledger.outcome_columns.items():
        if OutcomeId.read(column.outcome).eps == "0":  # the outcome `clean` once more
            continue
        if (column.kind, column.splits[0]) in by_kind and data.models[name].notna().sum() > 1:
            by_kind[column.kind, column.splits[0]][name] = column
    columns = dict(itertools.chain.from_iterable(part.items() for part in by_kind.values()))
    own = data.ledger.explain(data.outcome)
    return columns if data.outcome in columns else {data.outcome: own, **columns}


def alike(own: OutcomeColumn, columns: dict[str, OutcomeColumn]) -> list[str]:
    """The other columns that say the same of another outcome: the gaps beside a gap (and beside a column that belongs
    to no outcome), the test accuracies beside a test accuracy."""
    kind, split = (own.kind, own.splits[0].removesuffix("_rest")) if own.splits else (GAP, TRAIN)
    same = [name for name, column in columns.items() if column.splits and column.kind == kind]
    return [name for name in same if columns[name].splits[0] == split and name != own.column]
