"""How figures are drawn: marks, scales, names and labels that can be read and say what cannot be shown."""

import numpy as np
import pandas as pd
from drawn import clouds
from ledger_cases import NASTY, digits_size

from robustgap.analysis import figures, labels
from robustgap.analysis.figures import _forest, _style, robustness, scatter
from robustgap.analysis.statistics import Statistics


def test_the_best_checkpoint_is_open_and_the_last_is_filled(statistics_of):
    statistics = statistics_of("usual")
    data, cloud = robustness.data(statistics), clouds(robustness.draw(statistics).axes[0])[0]
    first = data[data["group"] == "Standard"]
    opaque = np.asarray(cloud.get_facecolors())[:, 3] > 0
    assert opaque.tolist() == first["checkpoint"].isin(["last", "both"]).tolist()


def test_scatter_says_why_a_panel_is_empty(statistics_of):
    figure = scatter.draw(statistics_of("all_missing"))
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert any("no defined value" in text and NASTY in text for text in words)


def test_what_lies_beyond_a_panel_is_an_arrow_head_and_not_a_mark():
    axes = _style.Figure().add_subplot()
    _forest.dress(axes, 3, 0, 1)
    rows = pd.DataFrame({"estimate": [-48.0, 0.5, np.nan], "low": [-50.0, 0.4, np.nan], "high": [0.2, 1.6, np.nan]})
    _forest.draw_marks(axes, rows, 0, _style.look(0))
    seen = [line for line in axes.lines if len(line.get_ydata())]
    drawn = {(line.get_marker(), line.get_markersize()): list(line.get_ydata()) for line in seen}
    assert drawn == {("<", 5): [0], ("o", 4.6): [1], (">", 3.5): [1]}
    assert [text.get_text() for text in axes.texts] == ["n/a"]


def test_the_frontier_shows_what_lies_beyond_its_panel_and_names_its_lines(statistics_of):
    frontier, statistics = figures.module("frontier"), statistics_of("usual")
    axes = _style.Figure().add_subplot()
    rows = pd.DataFrame({"seconds": [1.0, 2.0, 3.0], "estimate": [-0.9, 0.1, 0.2]})
    frontier.draw_family(axes, rows.assign(low=[-1, -0.5, 0.1], high=[-0.2, 0.9, 0.3]), _style.look(0), -0.3, 0.6)
    drawn = [(line.get_marker(), line.get_markersize(), list(line.get_xdata())) for line in axes.lines]
    heads = {(marker, size): x for marker, size, x in drawn if x and marker != "o"}
    assert heads == {("v", 3.5): [2], ("v", 8): [1], ("^", 3.5): [2]}
    assert [x for marker, _, x in drawn if marker == "o"] == [[2, 3]]
    bars = [tuple(path.vertices[:, 1]) for path in axes.collections[0].get_paths()]
    assert bars == [(-0.3, -0.2), (-0.3, 0.6), (0.1, 0.3)]
    words = [text.get_text() for text in frontier.draw(statistics).legends[0].get_texts()]
    assert {"frontier", "0.01 in R²"} <= set(words)


def test_the_numbers_of_the_frontier_cover_neither_marks_nor_each_other(statistics_of):
    ledger = digits_size(statistics_of("usual").ledger.path.parent / "digits", columns=8)
    figure = figures.module("frontier").draw(ledger)
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


def test_a_study_without_axes_says_why_there_are_no_groups(statistics_of):
    figure = figures.module("pi_defense").draw(statistics_of("robustbench"))
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


def test_names_are_shown_as_they_are_and_not_read_as_mathematics(statistics_of):
    figure = robustness.draw(statistics_of("nasty_names"))
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
    offsets = robustness.spread_out(values)
    assert len(set(offsets[:3])) == 3 and offsets[3] == 0
    assert np.abs(robustness.spread_out(np.ones(500))).max() <= 0.3


def test_accuracies_have_no_tick_beyond_100_percent(statistics_of):
    for axes in robustness.draw(statistics_of("usual")).axes[0].child_axes:
        assert len(axes.get_yticks()) >= 2 and max(*axes.get_yticks(), *axes.get_xticks()) <= 100
    full = robustness.data(statistics_of("usual")).assign(train=100.0)
    figure = robustness.Figure()
    robustness.draw_points(axes := figure.add_subplot(), full, ["AT"], 7)
    assert axes.get_ylim()[1] > 100 and max(axes.get_yticks()) <= 100


def test_numbers_in_words():
    assert labels.with_interval(-0.123, -0.2, -0.001) == "−0.12 [−0.20, −0.00]"  # the end is below 0, and is said to be
    assert labels.with_interval(0.5, np.nan, np.nan) == "+0.50"
    assert labels.with_interval(np.nan, np.nan, np.nan) == "n/a"
    columns = ["a", "a.adv", "b"]
    assert [labels.measure_label(column, columns) for column in columns] == ["a (clean)", "a (adversarial)", "b"]


def test_many_points_are_drawn_as_a_picture_inside_an_svg_and_as_markers_inside_a_pdf(tmp_path, monkeypatch):
    statistics = Statistics(digits_size(tmp_path / "ledger", columns=6))

    def below(axes):
        """The rasterized share: what lies below the threshold is drawn as one picture."""
        limit = axes.get_rasterization_zorder()
        return [limit is not None and cloud.get_zorder() < limit for cloud in clouds(axes)]

    assert not any(one for axes in scatter.draw(statistics).axes for one in below(axes))
    monkeypatch.setattr(scatter, "MANY", 100)
    figure = scatter.draw(statistics)
    assert all(one for axes in figure.axes for one in below(axes))
    written = {path.suffix: path for path in _style.save(figure, tmp_path / "scatter")}
    assert b"/Subtype /Image" not in written[".pdf"].read_bytes()
    svg = written[".svg"].read_text(encoding="utf-8")
    assert svg.count("<image") == len([axes for axes in figure.axes if clouds(axes)])  # one for each panel
