"""The ledgers that ship: whole, of the studies they are named after, and enough for the figures."""

import numpy as np
import pytest
from matplotlib.image import imread
from trees import ROOT

from robustgap.analysis import figures
from robustgap.analysis.commands import find_ledger
from robustgap.analysis.ledger import Ledger
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.statistics_folder import contents
from robustgap.measures._cards import catalogue_entry
from robustgap.measures._code import names
from robustgap.workflow.grid import open_plan
from robustgap.workflow.study import read_study

PUBLISHED = sorted(folder for folder in (ROOT / "analysis" / "published").iterdir() if folder.is_dir())


def test_the_default_study_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no results lie
    assert find_ledger("digits") == ROOT / "analysis" / "published" / "digits"


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_a_shipped_ledger_is_that_of_todays_study(folder):
    ledger = Ledger.load(folder)
    plan = open_plan(read_study(ROOT / "workflow" / "config" / f"{folder.name}.yaml"), folder.name)
    assert ledger.name == folder.name
    assert set(ledger.runs["model"]) == set(plan["models"])  # ids stand for all settings
    assert ledger.study["axes"] == plan["axes"]
    assert ledger.study["code"] == plan["code"]
    assert set(ledger.measures["measure"]) == set(plan["study"]["measures"]) <= set(names())
    for name, shipped in ledger.catalogue.items():  # claims and cards come from it; names of tests may change
        assert {**shipped, "proof": []} == {**catalogue_entry(name), "proof": []}, name


def test_the_shipped_gaps_can_be_told_from_image_sampling():
    table = Ledger.load(ROOT / "analysis" / "published" / "digits").models()
    trained = table[table["defense"] != "Standard"]
    assert len(trained) == 174  # of 192 checkpoints, 18 are best and last of one run
    assert (trained["gap_pgd10"] > 2 * trained["se_gap_pgd10"]).mean() >= 0.75


def test_the_readme_shows_the_figure_of_the_shipped_ledger(tmp_path):
    figures.draw_one("pi_defense", Statistics(Ledger.load(ROOT / "analysis" / "published" / "digits")), tmp_path)
    shown, drawn = imread(ROOT / "docs" / "pi_defense.png"), imread(tmp_path / "pi_defense.png")
    assert shown.shape == drawn.shape and np.abs(shown - drawn).mean() < 0.002


def test_the_readme_names_every_statistic():
    told = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {
        name for line in told.splitlines() if line.startswith("| `") for name in line.split("|")[1].split("`")[1::2]
    }
    assert set(contents(Statistics(Ledger.load(ROOT / "analysis" / "published" / "digits")))) <= rows
