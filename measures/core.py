"""What a measure is, what it is given, and how its numbers become one value with a standard error.

A measure is a function decorated with `@measure(...)` in the file of its name. `needs` says what it is given:

    ("weights",)  f(model) -> float
    ("shape",)    f(model, shape=(c, h, w)) -> float
    ("batch",)    f(model, batch=Batch) -> Tensor (n,): one number per image, called once per evaluation batch
    ("batches",)  f(model, batches=[Batch, ...]) -> float, or a Tensor (n,) in the order of the images
    "initial"     initial=dict: the model's state at its initialisation; missing, with the reason, where there is none
    "log"         log=[dict, ...]: its training log, one line per epoch; missing, with the reason, where there is none
    "context"     context=Context (measures/_context.py): what measures of one model share, each computed once

The last three are added to one of the others: needs=("weights", "initial"), needs=("batch", "context").
A measure may return (n, draws) instead of (n,): repeated draws of noise that all images share; and instead of a number
the pair (number, its standard error), where it is a function of all images that is no mean. It is called in eval mode,
under `torch.no_grad()`, with no parameter asking for a gradient. Random numbers come from `training.keyed`,
keyed by (seed, image index), so that values depend neither on the evaluation batch size nor on the order of images.
A value that is not defined is `raise Missing(reason)`; a number that is not finite becomes missing by itself.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import getdoc

from torch import Tensor

from robustgap.measures._code import names, require
from robustgap.training.registry import Registry

# Bumped by hand when the arithmetic of this file, _compute.py, _images.py or _model_checks.py changes: all measures are
# computed again.
CORE_VERSION = 1

MEASURES = Registry("measure")
NEEDS = ("weights", "shape", "batch", "batches", "initial", "log", "context")
ALWAYS = ("evaluation batch size", "image order")  # hold for every measure, by contract
INVARIANCES = (*ALWAYS, "layer rescaling", "logit scale", "BatchNorm folding")

Reduction = Callable[[Tensor], tuple[float, float]]


class Missing(Exception):
    """Raised by a measure, with the reason, where its value is not defined."""


@dataclass(frozen=True)
class Batch:
    """Some images and what a measure may need to know about them.

    images  (n, c, h, w) in [0, 1]: the clean images, or the adversarial ones in the adversarial variant
    clean   (n, c, h, w): the images before any attack; labels (n,) int64; index (n,) int64, the identity of each image
    eps, norm  threat model (eps in the units of images); seed of all random numbers; variant: clean | adversarial
    notes   remarks with counts of images, added up over batches: `batch.notes["... of them"] += count`
    """

    images: Tensor
    clean: Tensor
    labels: Tensor
    index: Tensor
    eps: float
    norm: str
    seed: int
    variant: str
    notes: Counter = field(default_factory=Counter)


def mean(values: Tensor) -> tuple[float, float]:
    """Mean of (n,) numbers and its standard error s / sqrt(n), from image sampling.

    Of (n, draws): the mean of all, and sqrt(s_images^2 / n + s_draws^2 / draws), where s_images is the standard
    deviation of the images' means and s_draws that of the draws' means (their shared part is counted twice: at worst
    too wide).
    """
    if values.dim() == 1:
        return float(values.mean()), float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    images, draws = mean(values.mean(dim=1)), mean(values.mean(dim=0))
    return images[0], math.hypot(images[1], draws[1])


@dataclass(frozen=True)
class Measure:
    """A registered measure. `expects`: per variant the sign its paper claims for the gap, None where it claims none."""

    name: str
    function: Callable
    family: str
    needs: tuple[str, ...]
    expects: Mapping[str, int | None]
    paper: str
    formula: str
    invariances: tuple[str, ...]
    reduction: Reduction

    @property
    def variants(self) -> list[str]:
        return list(self.expects)

    def card(self) -> dict:
        """Its entry in catalogue.json."""
        return {
            "family": self.family,
            "needs": list(self.needs),
            "variants": self.variants,
            "expects": dict(self.expects),
            "paper": self.paper,
            "formula": self.formula,
            "summary": (getdoc(self.function) or "").split("\n\n")[0].replace("\n", " "),
            "invariances": list(self.invariances),
        }


def measure(
    *,
    family: str,
    needs: tuple[str, ...],
    expects: Mapping[str, int | None],
    paper: str,
    formula: str,
    invariances: tuple[str, ...] = (),
    reduction: Reduction = mean,
) -> Callable[[Callable], Callable]:
    """Decorator: file a function as a measure of its own name. See the module's docstring for `needs`.

    The keys of `expects` are the variants: 'none' for a measure without images, else 'clean' and/or 'adversarial'.
    reduction turns the numbers of all images, float64 (n,), into (value, standard error).
    Raises ValueError for words this file does not know.
    """
    possible = ("clean", "adversarial") if {"batch", "batches"} & set(needs) else ("none",)
    for word, found, known in (
        ("needs", needs, NEEDS),
        ("expects", expects, possible),
        ("expects", expects.values(), (1, -1, None)),
        ("invariances", invariances, INVARIANCES),
    ):
        if unknown := [item for item in found if item not in known]:
            raise ValueError(f"measure: {word}: found {unknown[0]!r}, wanted one of {', '.join(map(str, known))}")

    holding = tuple(word for word in INVARIANCES if word in (*ALWAYS, *invariances))

    def register(function: Callable) -> Callable:
        name = function.__name__
        found = Measure(name, function, family, needs, expects, paper, formula, holding, reduction)
        vars(function)["measure"] = found
        # never in the place of one that ships
        if function.__module__ == f"robustgap.measures.{name}" or name not in names():
            MEASURES[name] = found
        return function

    return register


def load(name: str) -> Measure:
    """The measure of that name, importing its file. Raises LookupError, naming the nearest, for an unknown one."""
    require(name)
    import_module(f"robustgap.measures.{name}")
    return MEASURES[name]


def groups() -> list[str]:
    """The words that stand for several measures: 'all' and every family."""
    return sorted({"all", *(load(name).family for name in names())})


def select(asked: Iterable[str | Callable]) -> list[Measure]:
    """Measures by name, by family ('margin'), or 'all' of them, or by a decorated function: in the order asked for,
    each once.

    Raises LookupError, naming the nearest, for a word that is none of these; ValueError for no word at all, for what is
    neither a word nor decorated, and for two measures of one name.
    """
    chosen: dict[str, Measure] = {}
    for word in asked:
        if not isinstance(word, str):
            own = getattr(word, "measure", None)
            if not isinstance(own, Measure):
                found = getattr(word, "__name__", type(word).__name__)
                raise ValueError(f"names: found {found}, wanted a name, or a function decorated by @measure(...)")
            if chosen.get(own.name, own) is not own:
                raise ValueError(f"names: found two measures named {own.name}, wanted a name of its own")
            chosen[own.name] = own
            continue
        if word not in names() and word not in groups():
            require(word, others=groups())
        every = [load(name) for name in names()]
        added = {one.name: one for one in every if word in (one.name, one.family, "all")}
        if twice := [name for name in added if chosen.get(name, added[name]) is not added[name]]:
            raise ValueError(f"names: found two measures named {twice[0]}, wanted a name of its own")
        chosen |= added
    if not chosen:
        raise ValueError(f"measures: found none, wanted names, families or all (families: {', '.join(groups())})")
    return list(chosen.values())
