"""Names for readers of attacks, norms, learners, noise components and flags."""

from dataclasses import dataclass

ATTACKS = {"clean": "clean", "fgsm": "FGSM", "pgd10": "PGD-10"}  # before 'generalization gap'
CONDITIONS = {**ATTACKS, "clean": "no attack"}  # under which an accuracy is measured
NORMS = {"Linf": "L∞", "L2": "L2"}
LEARNERS = {"ridge": "ridge regression", "trees": "boosted trees"}
BETTER = {**LEARNERS, "better": "the better of both"}
COMPONENTS = {  # of the variance of the gap: in a sentence, as a row of a table
    "settings_main": ("main effects of the settings", "settings, main effects"),
    "settings_two_way": ("their two-way interactions", "settings, two-way interactions"),
    "configuration": ("other differences between configurations", "configuration, beyond these"),
    "checkpoint_rule": ("the checkpoint rule", "checkpoint rule"),
    "seed": ("the seed", "seed of training"),
    "checkpoint": ("the checkpoint within a run", "checkpoint within a run"),
    "images": ("the sampling of images", "sampling of images"),
}
CEILINGS = {  # of tau: in a sentence, as a row of a table
    "run": (
        "for a measure that equals each model's gap on endlessly many images",
        "each model's gap on endlessly many images",
    ),
    "configuration": ("for one that equals its expectation over seeds", "its expectation over seeds"),
}


@dataclass(frozen=True)
class Flag:
    """models: '3 models ...' in a sentence; reason: why a model is listed."""

    models: str
    reason: str


FLAGS = {
    "best_is_last": Flag(
        "whose run's best checkpoint is its last (one model, which stands at both)",
        "the best checkpoint is the last epoch: one model, which stands at both checkpoint rules",
    ),
    "catastrophic_overfitting": Flag(
        "of a run with catastrophic overfitting",
        "in training, PGD accuracy on the validation images fell to less than half while FGSM accuracy stayed (log.csv"
        " says when; the best checkpoint may be from before); kept, and headlines are also given without such models",
    ),
    "diverged": Flag(
        "whose training broke down",
        "the last clean training accuracy of log.csv is below three quarters of the highest: the training broke down"
        " and has not recovered (the best checkpoint is from after the first drop of the rate as well); kept, and"
        " headlines are also given without such models",
    ),
    "other_arithmetic": Flag(
        "trained in other arithmetic than most",
        "trained with other instructions, versions or threads than most runs (column arithmetic of runs): the same"
        " settings and seed give other weights there; kept",
    ),
    "outlying": Flag(
        "with a gap far from what main effects and two-way interactions of the settings give",
        "gap far from what main effects and two-way interactions of the settings give; kept, and headlines are also"
        " given without such models",
    ),
    "gradient_masking": Flag(
        "with signs of gradient masking",
        "gradients mislead the attack, or outputs are probabilities, so robust accuracy may be too high; kept",
    ),
    "robust_floor": Flag(
        "with robust accuracy at or below chance",
        "robust accuracy is at or below chance; kept, and headlines are also given without such models",
    ),
    "flagged": Flag("with any of these flags", ""),
}
