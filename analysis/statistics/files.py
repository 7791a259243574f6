"""Reads the files written by `python -m robustgap.analysis statistics`."""

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from robustgap.analysis.damage import made_anew
from robustgap.analysis.files import require_columns

TEXT = {"measure", "statistic", "axis", "value", "column", "step", "over", "learner", "members", "component"}
TEXT |= {
    "choice",
    "direction",
    "verdict",
    "verdict_without_flagged",
    "axis_without_flagged",
    "rests_on",
    "rests_on_verdict",
    "rests_on_run",
    "rests_on_run_verdict",
    "reason",
    "given",
    "given_axis",
    "given_value",
    "family",
    "reasons",
    "agrees",
    "kind",
    "other",
    "group",
}
YES_NO = {"reversed", "resolved"}
ASKED = "correlations.csv"  # the file among these that other jobs of a study depend on
HOLDS = {  # files written by `python -m robustgap.analysis statistics`, in reading order
    "claims": "the verdict on each measure, baseline and control, why, and the configuration and run that it rests on;"
    " measures that order models alike",
    "statements": "what verdicts rest on: τ, π and increments, with single and with family-wise intervals",
    "comparisons": "is one measure better than another: the difference of their |τ|, for every pair",
    "summary": "one row per measure: τ, what its paper claims, missing values with reasons, seconds",
    "correlations": "τ-b, τ-a, Spearman's ρ, ψ and π, with detail by the values of each setting",
    "partial": "τ once a column is given, such as the training accuracy",
    "simpson": "τ over all models beside τ within each value of a setting",
    "information": "conditional mutual information of measure and gap, given up to two settings",
    "sign_errors": "how often a measure orders two configurations wrongly: mean, 90th percentile, maximum",
    "environments": "the same for every single pair of configurations",
    "thresholds": "τ among the models whose training loss is at most c",
    "increments": "out-of-fold prediction of the gap from settings, training state, one measure, pairs, combinations",
    "noise": "what the spread of the gap is made of, and the noise ceilings of τ",
    "selection": "robust accuracy lost by picking a model, or a checkpoint, by each measure",
    "reliability": "how much of each measure would be found again with other seeds or images",
    "models": "one row per model: settings, accuracies, gaps and all measures",
    "issues": "models that failed, collapsed or are flagged, with the reason",
    "findings": "the sentences of the report, and the numbers that they are made of (JSON)",
}


def read_text(path: Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """A CSV with every cell as text. Raises FileNotFoundError naming it, or ValueError if its last line is truncated or
    it lacks a column; a damaged file of a study is then moved aside, so that the workflow makes it again."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with made_anew(path, path.with_name(ASKED)):
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            raise ValueError(f"{path}: found no end of the last line (truncated?)")
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
        require_columns(table, columns, path)
    return table


def read_statistic(folder: Path, name: str) -> pd.DataFrame:
    """The table NAME.csv of a statistics folder: text stays text ('NA' is a value of an axis, not a missing number),
    YES_NO columns become booleans, all others numbers. Raises what `read_text` raises."""
    table = read_text(folder / f"{name}.csv", ["measure"])
    numbers = [column for column in table if column not in TEXT | YES_NO]
    found = {column: pd.to_numeric(table[column].replace("", np.nan), errors="coerce") for column in numbers}
    return table.assign(**found, **{column: table[column] == "True" for column in YES_NO & set(table)})
