"""Sections of the report in reading order, each with its figures and tables."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Section:
    """One question of the report: why it is asked, and the figures and views that answer it."""

    name: str
    heading: str
    text: str
    figures: tuple[str, ...] = ()
    views: tuple[str, ...] = ()


SECTIONS = (
    Section(
        "data",
        "The data: how large is the gap, and how noisy?",
        "Every model's accuracy under attack on training and on test images, and the difference, which all else here "
        "tries to explain. Look for how far the gaps of different groups lie apart, and how large that is beside their "
        "standard errors: differences that noise could make cannot be explained by any measure.",
        ("robustness",),
        ("noise", "ceilings"),
    ),
    Section(
        "strength",
        "Which measures rank the models as their gaps do?",
        "Kendall's τ over all models is the usual headline. Look for measures near a noise ceiling, and keep in mind "
        "that such a number is easy to come by: a column that is a function of the training settings can have it too. "
        "The next sections ask what is left of it.",
        ("heatmap", "scatter"),
        ("tau", "comparisons"),
    ),
    Section(
        "settings",
        "Does it hold under every defense, and with all other settings fixed?",
        "A measure that works under one defense and fails under another should not be pooled over them; one whose τ "
        "disappears once the settings are held says what the settings say. Look for marks on opposite sides of 0, for "
        "ψ near 0 beside a large τ, and for what is left once a column or two settings are given.",
        ("pi_defense", "forest"),
        ("simpson", "partial", "information"),
    ),
    Section(
        "conditions",
        "Where does it fail?",
        "An average can hide failures. Look for curves that cross 0 as poorly fitted models join in, and for measures "
        "whose worst environment orders two configurations the wrong way round although their mean error is small.",
        ("thresholds", "sign_errors"),
        ("thresholds", "sign_errors"),
    ),
    Section(
        "prediction",
        "Does it tell more than the training settings already do?",
        "The settings of a run are free to know. A measure earns its cost only by what it adds to them, judged on "
        "configurations that the prediction has never seen. Look for increments whose single interval is right of 0 "
        "under ridge regression and boosted trees alike, and for how much of the gap a few measures together predict.",
        ("increments", "frontier"),
        ("ladder", "increments", "left_out"),
    ),
    Section(
        "selection",
        "Is it of use for picking a model?",
        "A measure can rank models well on average and still pick badly. Look for regrets clearly below random choice, "
        "and, for checkpoints, below always taking the last one or the one with the best validation accuracy.",
        ("selection",),
        ("selection",),
    ),
    Section(
        "reliability",
        "Would the measure say the same again?",
        "A second training from another seed, or other images, would change each measure a little. Look for measures "
        "far from 1: whatever they fail at, it may be for this reason.",
        ("reliability",),
        ("reliability",),
    ),
)
