"""Adds to each verdict the one obtained without flagged models (analysis.models.flags)."""

import pandas as pd

UNFLAGGED_COLUMNS = ["verdict_without_flagged", "axis_without_flagged", "n_without_flagged"]


def with_unflagged(verdict: pd.DataFrame, other: pd.DataFrame | None) -> pd.DataFrame:
    """The verdicts of `analysis.verdicts.claims.claims`, with those on the same measures without flagged models in
    UNFLAGGED_COLUMNS; empty if no model is flagged (None)."""
    if other is None:
        return verdict.assign(**{UNFLAGGED_COLUMNS[0]: "", UNFLAGGED_COLUMNS[1]: "", UNFLAGGED_COLUMNS[2]: pd.NA})
    found = other.set_index("measure")[["verdict", "axis", "n"]].reindex(verdict["measure"])
    return verdict.assign(**{name: found[own].to_numpy() for name, own in zip(UNFLAGGED_COLUMNS, found, strict=True)})
