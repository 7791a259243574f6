"""Divergence: a training run that had learned breaks down, as at a high learning rate, and ends far below its peak."""

from robustgap.training.overfitting import above_chance, fallen
from robustgap.training.settings import TableRow

DIVERGED = "diverged"  # flag of a run
LEFT = 0.75


def diverged(log: list[TableRow], images: int, classes: int) -> bool:
    """Whether a training log shows it: with c the clean accuracy of its last line on `images` training images, and c*
    the highest of any line,

        c < 3/4 c*,    c* - c > 3 se(c*, c),    c* > q + 3 sqrt(q (1 - q) / images) with q = 1 / classes,

    where se(a, b) = sqrt((a (1 - a) + b (1 - b)) / images).

    Clean accuracy, because no defense gives up that much of it for robustness: of 380 training runs on digits, sound
    ones ended at .88 c* or more, those that broke down at .63 c* or less. Not the loss: that of MART with strong
    regularisation stays above ln(classes) while the network learns. By this rule, a run that breaks down and recovers,
    or learns late, has not diverged; one that never gets above chance has collapsed.
    """
    if not log:
        return False
    highest, last = max(row["train_clean"] for row in log), log[-1]["train_clean"]
    return above_chance(highest, images, classes) and last < LEFT * highest and fallen(highest, last, images)
