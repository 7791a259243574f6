"""Each figure shows exactly the numbers of its table, and marks what the statistics say."""

import numpy as np
import pandas as pd
import pytest
from drawn import lines_at, points_of, sorted_rows
from matplotlib.patches import Rectangle

from robustgap.analysis import figures, labels
from robustgap.analysis.figures import _facts, robustness, scatter


def test_robustness_scatters_each_model_once_and_its_gap_once(statistics_of):
    statistics = statistics_of("usual")
    data, figure = robustness.data(statistics), robustness.draw(statistics)
    left, top, rows = figure.axes
    assert len(data) == len(statistics.ledger.models())
    assert points_of(left) == pytest.approx(sorted_rows(data[["test", "train"]]))
    assert (data["train"] - data["test"]).to_numpy() == pytest.approx(data["gap"].to_numpy())
    assert np.sort(points_of(rows)[:, 0]) == pytest.approx(np.sort(data["gap"]))
    heights = sum(bar.get_height() for bar in top.patches if isinstance(bar, Rectangle))
    assert heights == len(data)


def test_robustness_enlarges_the_models_far_above_the_rest(statistics_of):
    statistics = statistics_of("usual")
    (inset,) = robustness.draw(statistics).axes[0].child_axes
    data = robustness.data(statistics)
    robust = data[data["group"] != "Standard"]
    assert points_of(inset) == pytest.approx(sorted_rows(robust[["test", "train"]]))
    even = pd.DataFrame({"test": np.arange(10.0)})
    assert robustness.crowd(even) is even
    assert len(robustness.crowd(even.iloc[:1])) == 1


def test_heatmap_array_numbers_frames_and_hatching_equal_its_table(statistics_of):
    statistics = statistics_of("all_missing")
    heatmap = figures.module("heatmap")
    data, figure = heatmap.data(statistics), heatmap.draw(statistics)
    panels = figure.axes[: len(heatmap.panel_axes(statistics))]
    measures = list(dict.fromkeys(data["measure"]))
    drawn = np.hstack([np.ma.filled(axes.images[0].get_array(), np.nan) for axes in panels])
    table = data["estimate"].to_numpy().reshape(len(measures), -1)
    np.testing.assert_array_equal(drawn, table)
    assert all(axes.images[0].get_clim() == (-1, 1) for axes in panels)
    texts = [text.get_text() for axes in panels for text in axes.texts]
    assert sorted(texts) == sorted(map(labels.signed, table.ravel()))
    patches = [patch for axes in panels for patch in axes.patches]
    assert sum(bool(patch.get_hatch()) for patch in patches) == texts.count("n/a") == data["estimate"].isna().sum() > 0
    assert sum(not patch.get_fill() for patch in patches) == data["marked"].sum() > 0
    own = data["measure"].isin(statistics.ledger.columns)
    assert not own.all() and own.is_monotonic_decreasing, "baselines and controls stand below the measures"
    strength = data.loc[own & (data["statistic"] == "tau"), "estimate"].abs().fillna(-1)
    assert strength.is_monotonic_decreasing


def test_heatmap_marks_psi_only_where_enough_cells_could_have_disagreed(statistics_of):
    """4 x 2 x 2 configurations: 4 without the defense, too few, and 8 without the batch size."""
    data = figures.module("heatmap").data(statistics_of("usual"))
    clear = (data["low"] > 0) | (data["high"] < 0)
    few = (data["statistic"] == "psi") & (data["axis"] == "defense")
    assert (clear & few).any() and not data.loc[few, "marked"].any()
    assert data.loc[~few, "marked"].equals(clear[~few])


def test_scatter_panels_hold_their_points_and_state_tau_and_missing(statistics_of):
    statistics = statistics_of("usual")
    data, figure = scatter.data(statistics), scatter.draw(statistics)
    pooled, total = _facts.taus_by_strength(statistics), len(statistics.ledger.models())
    for axes, (column, tau) in zip(figure.axes, pooled.iterrows(), strict=True):
        part = data[data["measure"] == column]
        assert points_of(axes) == pytest.approx(sorted_rows(part[["value", "gap"]]))
        title, note = axes.get_title(loc="left"), axes.get_xlabel()
        assert title.startswith(column.removesuffix(".adv"))
        assert labels.with_interval(tau["estimate"], tau["low"], tau["high"]) in title
        assert f"n = {len(part)}" in note
        assert ("missing" in note) == (len(part) < total)
    assert "11 missing" in figure.axes[list(pooled.index).index("boundary_thickness")].get_xlabel()


def test_forest_holds_every_estimate_and_interval(statistics_of):
    statistics = statistics_of("usual")
    forest = figures.module("pi_defense")
    data, figure = forest.data(statistics), forest.draw(statistics)
    for axes, statistic in zip(figure.axes, ("tau", "pi"), strict=True):
        part = data[data["statistic"] == statistic]
        marks = np.concatenate([line.get_xdata() for line in axes.lines if line.get_marker() not in ("None", None, "")])
        np.testing.assert_array_equal(np.sort(marks), np.sort(part["estimate"].dropna()))
        bars = [tuple(path.vertices[:, 0]) for lines in axes.collections for path in lines.get_paths()]
        wanted = part.dropna(subset=["low"])
        assert sorted(bars) == sorted(zip(wanted["low"], wanted["high"], strict=True))
        assert [text.get_text() for text in axes.texts].count("n/a") == part["estimate"].isna().sum()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:4] == ["Standard (n = 11)", "AT (n = 16)", "TRADES (n = 16)", "MART (n = 16)"]
    assert labels[4:] == ["run-level ceiling of τ", "configuration-level ceiling of τ"]


def test_both_ceilings_are_drawn_on_every_figure_that_shows_tau(statistics_of):
    statistics = statistics_of("usual")
    found = _facts.noise_ceilings(statistics)
    assert set(found) == {"run", "configuration"}
    wanted = {round(sign * estimate, 9) for estimate, *_ in found.values() for sign in (-1, 1)}
    for name in ("pi_defense", "forest"):
        for axes in figures.module(name).draw(statistics).axes:
            assert wanted <= lines_at(axes, "x"), name
    threshold, heat = (figures.module(name).draw(statistics).axes for name in ("thresholds", "heatmap"))
    assert wanted <= lines_at(threshold[0], "y") and wanted <= lines_at(heat[-1], "y")
    words = figures.module("scatter").draw(statistics)._supxlabel.get_text()
    assert all(labels.with_interval(*one).replace("+", "") in words for one in found.values())


def test_sign_errors_count_survivors_and_say_where_there_are_none(statistics_of):
    statistics = statistics_of("usual")
    module = figures.module("sign_errors")
    data, figure = module.data(statistics), module.draw(statistics)
    for axes, axis in zip(figure.axes, ["", *statistics.ledger.axes], strict=True):
        alive, whole = module.survivors(data[data["axis"] == axis])
        assert f"{alive} of {whole} survive" in axes.get_title(loc="left")
        said = " ".join(text.get_text() for text in axes.texts)
        assert ("no environment survives" in said or "no two configurations" in said) == (alive == 0)


def test_the_frontier_is_what_no_cheaper_measure_equals(statistics_of):
    rows = figures.module("frontier").data(statistics_of("usual"))
    for row in rows.itertuples():
        cheaper = rows[(rows["seconds"] < row.seconds) & (rows["estimate"] >= row.estimate)]
        assert not (row.frontier and len(cheaper))
    assert rows["frontier"].any()


def test_a_study_without_defense_axis_is_grouped_by_its_first_axis_and_says_so(statistics_of):
    statistics = statistics_of("one_axis")
    forest = figures.module("pi_defense")
    data = forest.data(statistics)
    assert set(data["axis"]) == {"", "batch_size"}
    bare = data[(data["statistic"] == "pi") & data["estimate"].notna() & data["low"].isna()]
    open_marks = [line for line in forest.draw(statistics).axes[1].lines if line.get_markerfacecolor() == "white"]
    drawn = sum(np.isfinite(line.get_xdata()).sum() for line in open_marks)
    assert drawn == len(bare) > 0  # a group is a single configuration here
    assert "no defense axis" in forest.draw(statistics).axes[1].get_title(loc="left")
    assert "no defense axis" in figures.caption("pi_defense", statistics)
    assert list(_facts.groups(statistics)) == ["batch_size = 32", "batch_size = 64", "batch_size = 128"]
