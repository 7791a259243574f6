"""Sections of the report in reading order, each with its figures and tables."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustgap.analysis import figures
from robustgap.analysis.findings.outcomes import outcome_sentences
from robustgap.analysis.report.embedding import file_link, picture
from robustgap.analysis.report.tables import table_view
from robustgap.analysis.statistics import Statistics
from robustgap.analysis.view import View


@dataclass(frozen=True)
class Section:
    """One question of the report: why it is asked, and the figures that answer it; its tables are those of the
    statistics that name it as their section."""

    name: str
    heading: str
    text: str
    figures: tuple[str, ...] = ()


SECTIONS = (
    Section(
        "data",
        "The data: how large is the gap, and how noisy?",
        "Every model's accuracy under attack on training and on test images, and the difference, which everything "
        "below tries to explain. Look at how far apart the gaps of different groups are, compared with their standard "
        "errors: no measure can explain differences that are only noise.",
        ("robustness",),
    ),
    Section(
        "strength",
        "Which measures rank the models as their gaps do?",
        "Kendall's τ over all models is the usual headline. Look for measures near a noise ceiling, and keep in mind "
        "that a large τ is easy to get: a column that is a function of the training settings can have it too. "
        "The next sections ask what is left of it.",
        ("heatmap", "scatter"),
    ),
    Section(
        "settings",
        "Does it hold under every defense, and with all other settings fixed?",
        "A measure that works under one defense and fails under another should not be pooled over them; one whose τ "
        "disappears once the settings are held says what the settings say. Look for marks on opposite sides of 0, for "
        "ψ near 0 beside a large τ, and for what is left once a column or two settings are given.",
        ("pi_defense", "forest"),
    ),
    Section(
        "conditions",
        "Where does it fail?",
        "An average can hide failures. Look for curves that cross 0 as poorly fitted models join in, and for measures "
        "whose worst environment orders two configurations the wrong way round although their mean error is small.",
        ("thresholds", "sign_errors"),
    ),
    Section(
        "prediction",
        "Does it say more than the training settings already do?",
        "The settings of a run are known for free. A measure earns its cost only by what it adds to them, judged on "
        "configurations that the prediction has never seen. Look for increments whose single interval is right of 0 "
        "under ridge regression and boosted trees alike, and for how much of the gap a few measures together predict.",
        ("increments", "frontier"),
    ),
    Section(
        "selection",
        "Is it useful for picking a model?",
        "A measure can rank models well on average and still pick badly. Look for regrets clearly below random choice, "
        "and, for checkpoints, below always taking the last one or the one with the best validation accuracy.",
        ("selection",),
    ),
    Section(
        "reliability",
        "Would the measure say the same again?",
        "A second training from another seed, or other images, would change each measure a little. Look for measures "
        "far from 1: whatever they fail at, this may be why.",
        ("reliability",),
    ),
    Section(
        "outcomes",
        "Does the answer depend on the attack, or on what is asked?",
        "The gap under one attack of one size is one outcome of many. Reviewers ask first whether a verdict survives a "
        "stronger attack, another ε or another norm, and Kim et al. asked about robust accuracy itself. Look for rows "
        "of one colour, which say the same whatever is asked, and for outcomes that agree little with the others.",
        ("outcomes", "eps_curves"),
    ),
)
VERDICTS = "verdicts"  # the section at the top of the page


def figure_view(name: str, statistics: Statistics, folder: Path) -> dict[str, Any]:
    """Heading, caption, image, alternative text and data link of one figure."""
    caption, heading = figures.caption(name, statistics), figures.module(name).TITLE
    return {
        "name": name,
        "heading": heading,
        "caption": caption,
        "alt": f"Figure {name}: {heading}. {caption.split('. ')[0].rstrip('.')}. Its numbers are in the linked table.",
        "picture": picture(folder, name),
        "data": file_link(folder / f"{name}.csv"),
    }


def others(tables: dict[str, View]) -> tuple[Section | None, list[View]]:
    """A last section with the figures and tables that belong to no other; None without any."""
    placed = {name for section in SECTIONS for name in section.figures}
    unplaced_figures = tuple(name for name in figures.names() if name not in placed)
    known = {VERDICTS, *(section.name for section in SECTIONS)}
    unplaced_views = [view for view in tables.values() if view.section not in known]
    text = "Figures and tables that belong to none of the questions above."
    return Section(
        "more", "Further figures and tables", text, unplaced_figures
    ) if unplaced_figures or unplaced_views else None, unplaced_views


def context(statistics: Statistics, folder: Path, tables: dict[str, View]) -> dict[str, Any]:
    """The sections with their sentences, figures and tables; figures are numbered consecutively."""
    parts, number, (more, unplaced) = [], 0, others(tables)
    shown = {section.name: [view for view in tables.values() if view.section == section.name] for section in SECTIONS}
    for section in (*SECTIONS, *([more] if more else [])):
        pictures = [figure_view(name, statistics, folder) for name in section.figures]
        for view in pictures:
            number += 1
            view["number"] = number
        section_tables = [table_view(view, statistics.ledger.name) for view in shown.get(section.name, unplaced)]
        told = outcome_sentences(statistics) if section.name == "outcomes" else []
        parts.append({**vars(section), "figures": pictures, "tables": section_tables, "sentences": told})
    return {"sections": parts}
