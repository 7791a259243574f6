"""What a figure shows, read back from its panels."""

import numpy as np
import pandas as pd
from matplotlib.collections import PathCollection


def clouds(axes) -> list[PathCollection]:
    """The scatter plots of a panel."""
    return [artist for artist in axes.collections if isinstance(artist, PathCollection)]


def points_of(axes) -> np.ndarray:
    """All scattered points of a panel as sorted rows (x, y)."""
    offsets = np.concatenate([np.asarray(cloud.get_offsets()) for cloud in clouds(axes)])
    return offsets[np.lexsort(offsets.T)]


def sorted_rows(table: pd.DataFrame) -> np.ndarray:
    rows = table.to_numpy(float)
    return rows[np.lexsort(rows.T)]


def lines_at(axes, along: str) -> set[float]:
    """Where lines cross a whole panel."""
    which = {"x": "get_xdata", "y": "get_ydata"}[along]
    ends = [np.asarray(getattr(line, which)(), dtype=float) for line in axes.lines if len(line.get_xdata()) == 2]
    return {round(float(end[0]), 9) for end in ends if end[0] == end[1]}
