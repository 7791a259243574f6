"""Names for readers of outcomes, attacks, norms, learners, noise components and flags."""

from collections.abc import Mapping
from dataclasses import dataclass

from robustgap.analysis.outcome_names import GAP, LOSS, OTHER, TRAIN, OutcomeColumn, OutcomeId

ATTACKS = {  # before 'generalization gap'
    "clean": "clean",
    "fgsm": "FGSM",
    "pgd10": "PGD-10",
    "pgd50x10": "PGD-50 (10 restarts)",
    "targeted_pgd": "targeted PGD-10",
    "apgd_ce": "APGD-CE",
    "apgd_t": "targeted APGD",
    "fab_t": "targeted FAB",
    "square": "Square",
    "autoattack": "AutoAttack",
    "deepfool": "DeepFool",
    "transfer": "transferred-example",
    "uniform_noise": "uniform-noise",
    "gaussian_noise": "Gaussian-noise",
    "corruption": "common-corruption",
}
CONDITIONS = {**ATTACKS, "clean": "no attack"}  # under which an accuracy is measured
NORMS = {"Linf": "L∞", "L2": "L2"}
TARGETS = {"each": "towards each other class", "drawn": "towards a drawn class"}  # of targeted attacks
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


def outcome_name(outcome: str, attacks: Mapping[str, str] = ATTACKS) -> str:
    """An outcome by its id: 'PGD-10', 'PGD-10 at L∞ 4/255', 'targeted PGD towards class 3', 'AutoAttack (until
    APGD-CE)'. attacks: ATTACKS or CONDITIONS."""
    parts = OutcomeId.read(outcome)
    words = [attacks.get(parts.attack, parts.attack.replace("_", " "))]
    if parts.target:
        words.append(TARGETS.get(parts.target, f"towards class {parts.target}"))
    if parts.norm:
        words.append(f"at {NORMS.get(parts.norm, parts.norm)} {parts.eps}")
    options = [f"{name.replace('_', ' ')} {ATTACKS.get(value, value)}" for name, value in parts.options]
    return " ".join([*words, *([f"({', '.join(options)})"] if options else [])])


def condition(column: OutcomeColumn) -> str:
    """'clean' or 'robust': what is measured of the images, without or under an attack."""
    return "clean" if OutcomeId.read(column.shown).attack == "clean" else "robust"


def quantity(column: OutcomeColumn, kind: str = "") -> str:
    """What a column of models is: 'robust generalization gap', 'clean accuracy on test images'; kind: instead of robust
    or clean."""
    if column.kind == OTHER:
        return column.column
    kind = kind or condition(column)
    if column.kind == GAP:
        return f"{kind} generalization gap"
    images = "training" if column.splits[0] == TRAIN else "test"
    return f"{kind} {'loss' if column.kind == LOSS else 'accuracy'} on {images} images"


def explained_words(column: OutcomeColumn) -> str:
    """'PGD-10 generalization gap', 'PGD-10 at L∞ 4/255 accuracy on test images'."""
    rest = " (training images that no measure saw)" if column.rest else ""
    return f"{quantity(column, outcome_name(column.shown))}{rest}"


def noun(column: OutcomeColumn) -> str:
    """'gap', 'accuracy', 'loss', or the name of another column."""
    return {GAP: "gap", LOSS: "loss", OTHER: column.column}.get(column.kind, "accuracy")


def unit(column: OutcomeColumn) -> str:
    """Unit of a column, '' if unknown."""
    return {GAP: "percentage points", LOSS: "nats", OTHER: ""}.get(column.kind, "percent")


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
