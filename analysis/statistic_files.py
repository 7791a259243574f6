"""Reading what `python -m analysis statistics` wrote."""

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.files import require_columns

TEXT = {"measure", "statistic", "axis", "value", "column", "step", "over", "learner", "members", "component"}
TEXT |= {
    "choice",
    "direction",
    "verdict",
    "reason",
    "given",
    "given_axis",
    "given_value",
    "family",
    "reasons",
    "agrees",
}
YES_NO = {"reversed", "resolved"}


def read_text(path: Path) -> pd.DataFrame:
    """A CSV with every cell as text. Raises FileNotFoundError naming it."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def read_statistic(folder: Path, name: str) -> pd.DataFrame:
    """The table NAME.csv of a folder of statistics: text stays text ('NA' is a value of an axis, not a missing number),
    YES_NO become booleans, all else numbers. Raises FileNotFoundError, or ValueError naming a missing column."""
    path = folder / f"{name}.csv"
    table = read_text(path)
    require_columns(table, ["measure"], path)
    numbers = [column for column in table if column not in TEXT | YES_NO]
    found = {column: pd.to_numeric(table[column].replace("", np.nan), errors="coerce") for column in numbers}
    return table.assign(**found, **{column: table[column] == "True" for column in YES_NO & set(table)})
