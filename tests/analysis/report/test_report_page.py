"""The report in a real browser, from disk and without a network: nothing is fetched, and every control works."""

import json

import numpy as np
import pandas as pd
import pytest
from browser import Browser, find
from ledger_cases import digits_size

from robustgap.analysis import figures, report
from robustgap.analysis.labels import signed
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.report import explorer
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics_folder import write_statistics

pytestmark = [
    pytest.mark.skipif(find() is None, reason="no Chromium on the PATH, and CHROMIUM names none"),
    pytest.mark.xdist_group("page"),  # one study, one browser
]
PLOTS = "window.robustgapExplore"
VIEW = """((figure) => {
  const views = [Bokeh.index].flatMap((index) => index.roots || Object.values(index));
  const inside = (view) => view.model === figure ? view : (view.child_views || []).map(inside).find(Boolean);
  return views.map(inside).find(Boolean);
})"""
FRAME = f"((figure) => {VIEW}(figure).el.getBoundingClientRect())"
CENTRE = """(() => {{
  const {{left, source}} = window.robustgapExplore, i = {model}, view = VIEW(left.figure);
  const box = view.el.getBoundingClientRect(), frame = view.frame;
  const x = frame.x_scale.compute(source.data.x[i]), y = frame.y_scale.compute(source.data.y[i]);
  return [box.x + x, box.y + y];
}})()""".replace("VIEW", VIEW.replace("{", "{{").replace("}", "}}"))


def choose(page: Browser, **values: str) -> None:
    """Set controls of the linked plots: measure, outcome, colour, scale."""
    for name, value in values.items():
        page.run(
            f"(() => {{const box = document.getElementById('explore-{name}'); box.value = {json.dumps(value)};"
            "box.dispatchEvent(new Event('change'));})()"
        )


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Ledger, report.Path]:
    """A ledger of 128 models, and the folder of its report."""
    folder = tmp_path_factory.mktemp("page")
    ledger = digits_size(folder / "ledger", columns=14)
    write_statistics(Statistics(ledger), folder / "analysis")
    figures.draw_all(Statistics(ledger, folder / "analysis"), folder / "figures")
    report.write(Statistics(ledger, folder / "analysis"), folder / "figures", folder / "report.html")
    return ledger, folder


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    browser = Browser(str(find()), tmp_path_factory.mktemp("profile"))
    browser.open(study[1] / "report.html")
    browser.wait(PLOTS)
    yield browser
    browser.close()


def test_the_page_shows_every_figure_and_fetches_nothing(page, study):
    folder = study[1]
    pictures = page.run("[...document.images].map((image) => image.complete ? image.naturalWidth : 0)")
    assert len(pictures) == len(figures.names()) and min(pictures) > 100
    assert page.run("document.querySelectorAll('figure figcaption').length") == len(figures.names())
    assert page.errors == []
    asked = [address for address in page.requests if not address.startswith(("data:", "blob:"))]
    assert asked == [(folder / "report.html").as_uri()]


def test_every_link_of_the_contents_leads_somewhere(page):
    assert page.run("[...document.querySelectorAll('nav a')].every((link) => document.querySelector(link.hash))")
    assert page.run("document.querySelectorAll('nav a').length") > 20


def test_a_click_on_a_heading_sorts_the_table_and_a_second_one_turns_it_round(page):
    def column(number: int) -> list[str]:
        rows = "[...document.querySelectorAll('#table-tau tbody tr')]"
        return page.run(f"{rows}.map((row) => row.cells[{number}].dataset.sort)")

    press = "document.querySelectorAll('#table-tau thead button')[1].click()"
    page.run(press)
    down = [float(value) for value in column(1) if value != "nan"]
    assert down == sorted(down, reverse=True) and len(set(down)) > 5
    page.run(press)
    up = [float(value) for value in column(1) if value != "nan"]
    assert up == sorted(down)
    assert column(1)[len(up) :] == ["nan"] * (len(column(1)) - len(up))  # undefined ones stay last
    page.run("document.querySelectorAll('#table-tau thead button')[0].click()")
    names = column(0)
    assert names == sorted(names, key=str.lower, reverse=True)


def test_another_measure_and_outcome_move_the_points_and_tell_their_tau(page, study):
    ledger = study[0]
    table = ledger.models().reset_index(drop=True)
    for measure, outcome in (("average_ce", "gap_clean"), ("average_ce.adv", ledger.outcome)):
        choose(page, measure=measure, outcome=outcome)
        shown = page.run(f"[[...{PLOTS}.source.data.x], [...{PLOTS}.source.data.y]]")
        assert shown[0] == pytest.approx(table[measure], rel=1e-4)
        assert shown[1] == pytest.approx(table[outcome], rel=1e-4)
        known = table[[measure, outcome]].dropna()
        told = page.run("document.getElementById('explore-tau').textContent")
        assert f"τ = {signed(known[measure].corr(known[outcome], method='kendall'))} over n = {len(known)}" in told
    assert "run-level" in told  # the ceilings stand beside tau with the study's outcome
    choose(page, scale="rank")
    ranks = pd.Series(explorer.rounded(table["average_ce.adv"])).rank()
    assert page.run(f"[...{PLOTS}.source.data.x]") == ranks.tolist()
    choose(page, scale="value")


def test_colours_and_shapes_follow_the_chosen_setting(page, study):
    choose(page, colour="batch_size")
    looks = page.run(f"[...{PLOTS}.source.data.colour].map((colour, i) => [colour, {PLOTS}.source.data.marker[i]])")
    seen = dict(zip(study[0].models()["batch_size"], map(tuple, looks), strict=True))
    assert len(seen) == 2 and len(set(seen.values())) == 2
    assert len({colour for colour, _ in seen.values()}) == len({marker for _, marker in seen.values()}) == 2
    assert "128 (64)" in page.run("document.getElementById('explore-legend').textContent")


def test_a_click_on_a_point_tells_that_models_settings_and_marks_it_in_both_plots(page, study, tmp_path):
    ledger = study[0]
    table, measure = ledger.models().reset_index(drop=True), "average_ce.adv"
    choose(page, measure=measure, outcome=ledger.outcome)
    page.run("document.getElementById('explore').scrollIntoView()")
    places = table[[measure, ledger.outcome]]
    places = ((places - places.min()) / (places.max() - places.min())).to_numpy()
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) + 9 * np.eye(len(places))
    model = int(apart.min(axis=1).argmax())  # the loneliest point, so that no other lies under the click
    page.click(*page.run(CENTRE.format(model=model)))
    page.wait(f"{PLOTS}.source.selected.indices.length")
    assert page.run(f"[...{PLOTS}.source.selected.indices]") == [model]
    told = page.run("document.getElementById('explore-model').textContent")
    assert table.loc[model, "model"] in told and str(float(f"{table.loc[model, ledger.outcome]:.5g}")) in told
    assert all(f"{axis}{table.loc[model, axis]}" in told for axis in ledger.axes)
    shared = [f"{PLOTS}.{side}.points.data_source === {PLOTS}.source" for side in ("left", "right")]
    assert page.run(" && ".join(shared))
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (tmp_path / "page.png").stat().st_size > 20_000 and page.errors == []


def test_a_phone_shows_the_page_without_scrolling_sideways(page, study, tmp_path):
    page.resize(420, 900)
    page.open(study[1] / "report.html")
    page.wait(PLOTS)
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    tops = page.run(f"['left', 'right'].map((side) => {FRAME}({PLOTS}[side].figure).y)")
    assert tops[1] > tops[0] + 300  # the plots stand one above the other
    assert page.errors == []
