"""Figures show exactly the numbers they claim to, on usual and on odd ledgers, and need no torch."""

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from ledger_cases import CASES, NASTY, digits_size
from matplotlib.collections import PathCollection
from matplotlib.patches import Rectangle

from analysis import figures, labels
from analysis.figures import _forest, _numbers, _statistics, _style, robustness, scatter
from analysis.files import write_csv
from analysis.ledger import Ledger

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def ledger_of(tmp_path_factory):
    """Ledgers by the name of their case, each made once."""
    made = {}

    def get(name: str) -> Ledger:
        if name not in made:
            made[name] = CASES[name](tmp_path_factory.mktemp(name) / "ledger")
        return made[name]

    return get


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


def test_each_figure_file_is_found_in_reading_order():
    files = {file.stem for file in (ROOT / "analysis" / "figures").glob("[!_]*.py")}
    assert set(figures.names()) == files
    orders = [figures.module(name).ORDER for name in figures.names()]
    assert orders == sorted(set(orders))


@pytest.mark.parametrize("name", figures.names())
@pytest.mark.parametrize("case", CASES)
def test_every_figure_draws_on_every_ledger(case, name, ledger_of):
    ledger = ledger_of(case)
    figure = figures.module(name).draw(ledger)
    with mpl.rc_context(_style.STYLE):
        figure.draw_without_rendering()
    assert len(figure.axes) >= 1
    data = figures.module(name).data(ledger)
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert len(data) > 0 or "no " in words or "too few" in words  # an empty figure says why
    caption = figures.caption(name, ledger)
    assert "{" not in caption and f"{len(_numbers.models(ledger))}" in caption


def test_robustness_scatters_each_model_once_and_its_gap_once(ledger_of):
    ledger = ledger_of("usual")
    data, figure = robustness.data(ledger), robustness.draw(ledger)
    left, top, rows = figure.axes
    assert len(data) == len(ledger.models())
    assert points_of(left) == pytest.approx(sorted_rows(data[["test", "train"]]))
    assert (data["train"] - data["test"]).to_numpy() == pytest.approx(data["gap"].to_numpy())
    assert np.sort(points_of(rows)[:, 0]) == pytest.approx(np.sort(data["gap"]))
    heights = sum(bar.get_height() for bar in top.patches if isinstance(bar, Rectangle))
    assert heights == len(data)


def test_robustness_enlarges_the_models_far_above_the_rest(ledger_of):
    ledger = ledger_of("usual")
    (inset,) = robustness.draw(ledger).axes[0].child_axes
    data = robustness.data(ledger)
    robust = data[data["group"] != "Standard"]
    assert points_of(inset) == pytest.approx(sorted_rows(robust[["test", "train"]]))
    even = pd.DataFrame({"test": np.arange(10.0)})
    assert robustness.crowd(even) is even
    assert len(robustness.crowd(even.iloc[:1])) == 1


def test_heatmap_array_numbers_frames_and_hatching_equal_its_table(ledger_of):
    ledger = ledger_of("all_missing")
    heatmap = figures.module("heatmap")
    data, figure = heatmap.data(ledger), heatmap.draw(ledger)
    panels = figure.axes[: len(heatmap.blocks(ledger))]
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
    strength = data.loc[data["statistic"] == "tau", "estimate"].abs().fillna(-1)
    assert strength.is_monotonic_decreasing


def test_heatmap_marks_psi_only_where_enough_cells_could_have_disagreed(ledger_of):
    """4 x 2 x 2 configurations: 4 without the defense, too few, and 8 without the batch size."""
    data = figures.module("heatmap").data(ledger_of("usual"))
    clear = (data["low"] > 0) | (data["high"] < 0)
    few = (data["statistic"] == "psi") & (data["axis"] == "defense")
    assert (clear & few).any() and not data.loc[few, "marked"].any()
    assert data.loc[~few, "marked"].equals(clear[~few])


def test_the_best_checkpoint_is_open_and_the_last_is_filled(ledger_of):
    ledger = ledger_of("usual")
    data, cloud = robustness.data(ledger), clouds(robustness.draw(ledger).axes[0])[0]
    first = data[data["group"] == "Standard"]
    opaque = np.asarray(cloud.get_facecolors())[:, 3] > 0
    assert opaque.tolist() == (first["checkpoint"] == "last").tolist()


def test_scatter_panels_hold_their_points_and_state_tau_and_missing(ledger_of):
    ledger = ledger_of("usual")
    data, figure = scatter.data(ledger), scatter.draw(ledger)
    pooled, total = _numbers.pooled(ledger), len(ledger.models())
    for axes, (column, tau) in zip(figure.axes, pooled.iterrows(), strict=True):
        part = data[data["measure"] == column]
        assert points_of(axes) == pytest.approx(sorted_rows(part[["value", "gap"]]))
        title, note = axes.get_title(loc="left"), axes.get_xlabel()
        assert title.startswith(column.removesuffix(".adv"))
        assert labels.with_interval(tau["estimate"], tau["low"], tau["high"]) in title
        assert f"n = {len(part)}" in note
        assert ("missing" in note) == (len(part) < total)
    assert "12 missing" in figure.axes[list(pooled.index).index("boundary_thickness")].get_xlabel()


def test_scatter_says_why_a_panel_is_empty(ledger_of):
    figure = scatter.draw(ledger_of("all_missing"))
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any("no defined value" in text and NASTY in text for text in words)


def test_forest_holds_every_estimate_and_interval(ledger_of):
    ledger = ledger_of("usual")
    forest = figures.module("pi_defense")
    data, figure = forest.data(ledger), forest.draw(ledger)
    for axes, statistic in zip(figure.axes, ("tau", "pi"), strict=True):
        part = data[data["statistic"] == statistic]
        marks = np.concatenate([line.get_xdata() for line in axes.lines if line.get_marker() not in ("None", None, "")])
        np.testing.assert_array_equal(np.sort(marks), np.sort(part["estimate"].dropna()))
        bars = [tuple(path.vertices[:, 0]) for lines in axes.collections for path in lines.get_paths()]
        wanted = part.dropna(subset=["low"])
        assert sorted(bars) == sorted(zip(wanted["low"], wanted["high"], strict=True))
        assert [text.get_text() for text in axes.texts].count("n/a") == part["estimate"].isna().sum()
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:4] == ["Standard (n = 12)", "AT (n = 16)", "TRADES (n = 16)", "MART (n = 16)"]
    assert labels[4:] == ["run-level ceiling of τ", "configuration-level ceiling of τ"]


def lines_at(axes, along: str) -> set[float]:
    """Where lines cross a whole panel."""
    which = {"x": "get_xdata", "y": "get_ydata"}[along]
    ends = [np.asarray(getattr(line, which)(), dtype=float) for line in axes.lines if len(line.get_xdata()) == 2]
    return {round(float(end[0]), 9) for end in ends if end[0] == end[1]}


def test_both_ceilings_are_drawn_on_every_figure_that_shows_tau(ledger_of):
    ledger = ledger_of("usual")
    found = _statistics.ceilings(ledger)
    assert set(found) == {"run", "configuration"}
    wanted = {round(sign * estimate, 9) for estimate, *_ in found.values() for sign in (-1, 1)}
    for name in ("pi_defense", "forest"):
        for axes in figures.module(name).draw(ledger).axes:
            assert wanted <= lines_at(axes, "x"), name
    threshold, heat = (figures.module(name).draw(ledger).axes for name in ("thresholds", "heatmap"))
    assert wanted <= lines_at(threshold[0], "y") and wanted <= lines_at(heat[-1], "y")
    words = figures.module("scatter").draw(ledger)._supxlabel.get_text()
    assert all(labels.with_interval(*one).replace("+", "") in words for one in found.values())


def test_sign_errors_count_survivors_and_say_where_there_are_none(ledger_of):
    ledger = ledger_of("usual")
    module = figures.module("sign_errors")
    data, figure = module.data(ledger), module.draw(ledger)
    for axes, axis in zip(figure.axes, ["", *ledger.axes], strict=True):
        alive, whole = module.survivors(data[data["axis"] == axis])
        assert f"{alive} of {whole} survive" in axes.get_title(loc="left")
        said = " ".join(text.get_text() for text in axes.texts)
        assert ("no environment survives" in said or "no two configurations" in said) == (alive == 0)


def test_what_lies_beyond_a_panel_is_an_arrow_head_and_not_a_mark():
    axes = _style.Figure().add_subplot()
    _forest.dress(axes, 3, 0, 1)
    rows = pd.DataFrame({"estimate": [-48.0, 0.5, np.nan], "low": [-50.0, 0.4, np.nan], "high": [0.2, 1.6, np.nan]})
    _forest.draw_marks(axes, rows, 0, _style.look(0))
    seen = [line for line in axes.lines if len(line.get_ydata())]
    drawn = {(line.get_marker(), line.get_markersize()): list(line.get_ydata()) for line in seen}
    assert drawn == {("<", 5): [0], ("o", 4.6): [1], (">", 3.5): [1]}
    assert [text.get_text() for text in axes.texts] == ["n/a"]


def test_the_frontier_is_what_no_cheaper_measure_equals(ledger_of):
    rows = figures.module("frontier").data(ledger_of("usual"))
    for row in rows.itertuples():
        cheaper = rows[(rows["seconds"] < row.seconds) & (rows["estimate"] >= row.estimate)]
        assert not (row.frontier and len(cheaper))
    assert rows["frontier"].any()


def test_the_frontier_shows_what_lies_beyond_its_panel_and_names_its_lines(ledger_of):
    frontier, ledger = figures.module("frontier"), ledger_of("usual")
    axes = _style.Figure().add_subplot()
    rows = pd.DataFrame({"seconds": [1.0, 2.0, 3.0], "estimate": [-0.9, 0.1, 0.2]})
    frontier.draw_family(axes, rows.assign(low=[-1, -0.5, 0.1], high=[-0.2, 0.9, 0.3]), _style.look(0), -0.3, 0.6)
    drawn = [(line.get_marker(), line.get_markersize(), list(line.get_xdata())) for line in axes.lines]
    heads = {(marker, size): x for marker, size, x in drawn if x and marker != "o"}
    assert heads == {("v", 3.5): [2], ("v", 8): [1], ("^", 3.5): [2]}
    assert [x for marker, _, x in drawn if marker == "o"] == [[2, 3]]
    bars = [tuple(path.vertices[:, 1]) for path in axes.collections[0].get_paths()]
    assert bars == [(-0.3, -0.2), (-0.3, 0.6), (0.1, 0.3)]
    words = [text.get_text() for text in frontier.draw(ledger).legends[0].get_texts()]
    assert {"frontier", "0.01 in R²"} <= set(words)


def test_the_numbers_of_the_frontier_cover_neither_marks_nor_each_other(ledger_of):
    figure = figures.module("frontier").draw(digits_size(ledger_of("usual").path.parent / "digits", columns=8))
    chart, key = figure.axes
    boxes = [text.get_window_extent() for text in chart.texts]
    assert len(boxes) == len(key.texts) - 1 - sum("not on it" in text.get_text() for text in key.texts) > 3
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    marks = [
        chart.transData.transform(point)
        for line in chart.lines
        if line.get_marker() not in ("None", "")
        for point in line.get_xydata()
    ]
    assert not any(box.contains(*mark) for box in boxes for mark in marks)


def test_a_study_without_defense_axis_is_grouped_by_its_first_axis_and_says_so(ledger_of):
    ledger = ledger_of("one_axis")
    forest = figures.module("pi_defense")
    data = forest.data(ledger)
    assert set(data["axis"]) == {"", "batch_size"}
    bare = data[(data["statistic"] == "pi") & data["estimate"].notna() & data["low"].isna()]
    open_marks = [line for line in forest.draw(ledger).axes[1].lines if line.get_markerfacecolor() == "white"]
    drawn = sum(np.isfinite(line.get_xdata()).sum() for line in open_marks)
    assert drawn == len(bare) > 0  # a group is a single configuration here
    assert "no defense axis" in forest.draw(ledger).axes[1].get_title(loc="left")
    assert "no defense axis" in figures.caption("pi_defense", ledger)
    assert list(_numbers.groups(ledger)) == ["batch_size = 32", "batch_size = 64", "batch_size = 128"]


def test_a_study_without_axes_says_why_there_are_no_groups(ledger_of):
    figure = figures.module("pi_defense").draw(ledger_of("robustbench"))
    assert "no axis" in figure.axes[1].texts[0].get_text()
    assert figure.axes[0].get_yticklabels()[0].get_text()  # the labels survive beside the empty panel


def test_no_two_groups_look_alike_and_shape_doubles_colour():
    looks = [_style.look(place) for place in range(72)]
    assert len(set(looks)) == 72
    assert len({colour for colour, _ in looks[:8]}) == len({marker for _, marker in looks[:8]}) == 8


def test_long_names_are_broken_into_lines():
    assert (
        _style.broken("adaptive_sharpness_logit_normalised (clean)", 28)
        == "adaptive_sharpness_logit_\nnormalised (clean)"
    )
    assert _style.broken("a_b (clean)", 28) == "a_b (clean)" and _style.broken("abc_def", 4) == "abc_\ndef"
    assert _style.broken("unbreakable", 4) == "unbreakable"


def test_names_are_shown_as_they_are_and_not_read_as_mathematics(ledger_of):
    figure = robustness.draw(ledger_of("nasty_names"))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == [NASTY, r"AT\$x_1\$"]


def test_scales_follow_the_values():
    assert scatter.scaling(np.array([1.0, 2.0, 29.0])) == {"value": "linear"}
    assert scatter.scaling(np.array([1.0, 2.0, 31.0])) == {"value": "log"}
    assert scatter.scaling(np.array([-1.0, 0.0, 2.0, 5.0])) == {"value": "linear"}
    assert scatter.scaling(np.array([])) == scatter.scaling(np.zeros(3)) == {"value": "linear"}
    assert scatter.scaling(np.array([-2.0, -1.0, 1.0, 2.0, 1e5])) == {"value": "symlog", "linthresh": 2.0}
    assert scatter.symlog_ticks(np.array([-2.0, 1e5]), 2.0) == [0, 1e4, 1e5]
    assert [scatter.power_of_ten(value) for value in (0, 1, 0.001, -100)] == ["0", "10⁰", "10⁻³", "−10²"]


def test_nearly_equal_gaps_are_kept_apart():
    values = np.array([1.0, 1.0, 1.0, 5.0])
    offsets = robustness.spread(values)
    assert len(set(offsets[:3])) == 3 and offsets[3] == 0
    assert np.abs(robustness.spread(np.ones(500))).max() <= 0.3


def test_accuracies_have_no_tick_beyond_100_percent(ledger_of):
    for axes in robustness.draw(ledger_of("usual")).axes[0].child_axes:
        assert len(axes.get_yticks()) >= 2 and max(*axes.get_yticks(), *axes.get_xticks()) <= 100
    full = robustness.data(ledger_of("usual")).assign(train=100.0)
    figure = robustness.Figure()
    robustness.draw_points(axes := figure.add_subplot(), full, ["AT"], 7)
    assert axes.get_ylim()[1] > 100 and max(axes.get_yticks()) <= 100


def test_numbers_in_words():
    assert labels.with_interval(-0.123, -0.2, -0.001) == "−0.12 [−0.20, −0.00]"  # the end is below 0, and is said to be
    assert labels.with_interval(0.5, np.nan, np.nan) == "+0.50"
    assert labels.with_interval(np.nan, np.nan, np.nan) == "n/a"
    columns = ["a", "a.adv", "b"]
    assert [labels.measure_label(column, columns) for column in columns] == ["a (clean)", "a (adversarial)", "b"]


def test_correlations_taken_from_a_file_equal_those_computed(ledger_of, tmp_path):
    ledger = ledger_of("one_axis")
    computed = _numbers.correlations(ledger)
    write_csv(computed, tmp_path / "correlations.csv")
    other = Ledger.load(ledger.path)
    _numbers.take(other, tmp_path)
    pd.testing.assert_frame_equal(_numbers.correlations(other), computed, check_dtype=False)


def test_the_value_na_of_an_axis_survives_a_csv(ledger_of, tmp_path):
    table = _numbers.correlations(ledger_of("one_axis")).assign(value="NA")
    write_csv(table, tmp_path / "correlations.csv")
    assert set(_numbers.read_correlations(tmp_path / "correlations.csv")["value"]) == {"NA"}


def test_correlations_of_another_ledger_are_refused(ledger_of, tmp_path):
    ledger, path = ledger_of("usual"), tmp_path / "correlations.csv"
    with pytest.raises(FileNotFoundError, match=r"correlations\.csv: no such file"):
        _numbers.take(Ledger.load(ledger.path), tmp_path)
    write_csv(_numbers.correlations(ledger).query("measure != 'num_params'"), path)
    with pytest.raises(ValueError, match="no rows for measure num_params"):
        _numbers.take(Ledger.load(ledger.path), tmp_path)
    write_csv(_numbers.correlations(ledger).drop(columns="low"), path)
    with pytest.raises(ValueError, match="wanted column low"):
        _numbers.take(Ledger.load(ledger.path), tmp_path)


def test_the_command_writes_each_figure_without_torch_and_twice_the_same(tmp_path):
    """Byte-identical from two processes; fonts inside the PDF as TrueType, none needed by the SVG."""
    ledger = CASES["four_models"](tmp_path / "ledger")
    code = (
        "import sys; from analysis.__main__ import main; code = main(sys.argv[1:]);"
        "found = {'torch', 'training', 'measures', 'workflow'} & set(sys.modules);"
        "sys.exit(f'imported {found}' if found else code)"
    )
    command = [sys.executable, "-c", code, "figures", str(ledger.path), "--out", str(tmp_path / "one")]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    written = figures.draw_all(ledger, tmp_path / "two")
    wanted = {f"{name}.{kind}" for name in figures.names() for kind in ("pdf", "svg", "png", "csv")}
    assert {path.name for path in written} == wanted == {path.name for path in (tmp_path / "one").iterdir()}
    for path in written:
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes(), path.name
    for name in figures.names():
        write_csv(figures.module(name).data(ledger), tmp_path / "data.csv")
        assert (tmp_path / "two" / f"{name}.csv").read_bytes() == (tmp_path / "data.csv").read_bytes()
        assert b"/FontFile2" in (tmp_path / "two" / f"{name}.pdf").read_bytes()
        assert "<text" not in (tmp_path / "two" / f"{name}.svg").read_text(encoding="utf-8")


def test_many_points_are_drawn_as_a_picture_inside_an_svg_and_as_markers_inside_a_pdf(tmp_path, monkeypatch):
    ledger = digits_size(tmp_path / "ledger", columns=6)

    def below(axes):
        """The rasterized share: what lies below the threshold is drawn as one picture."""
        limit = axes.get_rasterization_zorder()
        return [limit is not None and cloud.get_zorder() < limit for cloud in clouds(axes)]

    assert not any(one for axes in scatter.draw(ledger).axes for one in below(axes))
    monkeypatch.setattr(scatter, "MANY", 100)
    figure = scatter.draw(ledger)
    assert all(one for axes in figure.axes for one in below(axes))
    written = {path.suffix: path for path in _style.save(figure, tmp_path / "scatter")}
    assert b"/Subtype /Image" not in written[".pdf"].read_bytes()
    svg = written[".svg"].read_text(encoding="utf-8")
    assert svg.count("<image") == len([axes for axes in figure.axes if clouds(axes)])  # one for each panel
