"""Names of outcomes, and of the columns of models that statistics can explain.

An outcome is (attack, norm, eps, target, options). Its id leaves out what equals the study's norm and eps, and options
at their defaults:

    ATTACK[@NORM:EPS][>TARGET][+option=value...]

such as pgd10, pgd10@Linf:4/255, targeted_pgd>3 or autoattack+until=apgd_ce.

Columns of `Ledger.models()` that belong to an outcome ID:

    gap_ID, gap_ID_rest         accuracy on training images (`rest`: those that no measure was given) less that on test
                                images, in percentage points
    ID_train, ID_test           the accuracies, in percent
    loss_ID_train, loss_ID_test mean cross-entropy of the label on the attacked images, in nats
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GAP, TRAIN, TEST, LOSS, OTHER = "gap", "train", "test", "loss", "other"
DEFAULT = "pgd10"  # the outcome shown beside a column that belongs to none
SHORT = {GAP: "gap_{}", TRAIN: "{}_train", TEST: "{}_test"}  # 'gap:ID' in a study file or an option: its column
COLUMN = re.compile(
    r"gap_(?P<gap>.+?)(?P<rest>_rest)?|loss_(?P<loss>.+)_(?P<of>train|test)|(?P<accuracy>.+)_(?P<split>train|test)"
)
ID = re.compile(
    r"(?P<attack>[^@>+]+)(?:@(?P<norm>[^:>+]+):(?P<eps>[^>+]+))?(?:>(?P<target>[^+]+))?(?P<options>(?:\+[^+=]+=[^+]+)*)"
)


@dataclass(frozen=True)
class OutcomeId:
    """The parts of an outcome's id, as text; '' where left out."""

    attack: str
    norm: str = ""
    eps: str = ""
    target: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, outcome: str) -> "OutcomeId":
        """The parts of an id; a text of another form is taken for the name of an attack."""
        if not (found := ID.fullmatch(outcome)):
            return cls(outcome)
        parts = {name: found[name] or "" for name in ("attack", "norm", "eps", "target")}
        pairs = [option.partition("=") for option in found["options"].split("+")[1:]]
        return cls(**parts, options=tuple((name, value) for name, _, value in pairs))


@dataclass(frozen=True)
class OutcomeColumn:
    """What a column of models says. kind: GAP, TRAIN, TEST (accuracies), LOSS or OTHER (a measure, a training loss);
    outcome: id, '' for OTHER; splits: of the images behind it."""

    column: str
    kind: str
    outcome: str = ""
    splits: tuple[str, ...] = ()

    @classmethod
    def read(cls, column: str, others: Iterable[str] = ()) -> "OutcomeColumn":
        """Tell a column by its name; others: columns that belong to no outcome whatever their names."""
        found = None if column in others else COLUMN.fullmatch(column)
        if found is None:
            return cls(column, OTHER)
        if found["gap"]:
            return cls(column, GAP, found["gap"], ("train_rest" if found["rest"] else "train", "test"))
        if found["loss"]:
            return cls(column, LOSS, found["loss"], (found["of"],))
        return cls(column, found["split"], found["accuracy"], (found["split"],))

    @property
    def rest(self) -> bool:
        """Whether the training images are those that no measure was given."""
        return "train_rest" in self.splits

    @property
    def is_accuracy(self) -> bool:
        """Whether it is made of accuracies, so that images give it a standard error."""
        return self.kind in (GAP, TRAIN, TEST)

    @property
    def shown(self) -> str:
        """Id of the outcome to show beside the column: its own, or DEFAULT."""
        return self.outcome or DEFAULT


def columns_of(outcome: str, losses: bool = False) -> list[str]:
    """The columns of models that belong to an outcome."""
    names = [f"gap_{outcome}", f"gap_{outcome}_rest", f"{outcome}_train", f"{outcome}_test"]
    return names + [f"loss_{outcome}_train", f"loss_{outcome}_test"] * losses


def resolved(name: str, columns: Sequence[str], where: str) -> str:
    """The column of models that `name` stands for: 'gap:ID', 'train:ID', 'test:ID', or one of `columns` itself.

    Raises ValueError, in one line that begins with `where`, if there is no such column; it names the nearest.
    """
    kind, colon, outcome = name.partition(":")
    column = SHORT[kind].format(outcome) if colon and kind in SHORT else name
    if column in columns:
        return column
    near = difflib.get_close_matches(column, columns, 1, cutoff=0.0)
    gaps = ", ".join(sorted(name for name in columns if OutcomeColumn.read(name).kind == GAP and name[-5:] != "_rest"))
    raise ValueError(
        f"{where}: found {name!r}, wanted one of {gaps}, or gap:ID, train:ID or test:ID of an outcome, or a column of"
        f" numbers of the models; the nearest is {near[0] if near else 'none'}"
    )
