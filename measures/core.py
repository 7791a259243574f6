"""What a measure is, what arguments it gets, and how its numbers become one value with a standard error.

A measure is a function decorated with `@measure(...)` in the file of its name. `needs` names its arguments:

    ("weights",)  f(model) -> float
    ("shape",)    f(model, shape=(c, h, w)) -> float
    ("batch",)    f(model, batch=Batch) -> Tensor (n,): one number per image, called once per evaluation batch
    ("batches",)  f(model, batches=[Batch, ...]) -> float, or a Tensor (n,) in the order of the images
    "initial"     initial=dict: the model's state at initialisation; without one the value is missing, with the reason
    "log"         log=[dict, ...]: its training log, one line per epoch; without one the value is missing as well
    "context"     context=Context (measures/_context.py): quantities that measures of one model share

The last three are added to one of the others: needs=("weights", "initial"), needs=("batch", "context").
Instead of (n,) a measure may return (n, draws): repeated draws of noise that all images share. Instead of a number it
may return a pair (number, its standard error), for a function of all images that is not a mean. It is called in eval
mode, under `torch.no_grad()`, and no parameter requires a gradient. Random numbers come from `training.keyed`, keyed by
(seed, image index), so that values depend neither on the evaluation batch size nor on the order of images.
Where the value is not defined, raise Missing(reason); a number that is not finite becomes missing automatically.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from inspect import getdoc
from typing import Any, TypeVar

from torch import Tensor

from robustgap.measures._code import names, require
from robustgap.training.registry import Registry

# Bumped by hand when the arithmetic of this file, _compute.py, _images.py or _model_checks.py changes; all measures are
# then computed again.
CORE_VERSION = 1

MEASURES = Registry("measure")
NEEDS = ("weights", "shape", "batch", "batches", "initial", "log", "context")
ALWAYS = ("evaluation batch size", "image order")  # hold for every measure, by contract
INVARIANCES = (*ALWAYS, "layer rescaling", "logit scale", "BatchNorm folding")

Reduction = Callable[[Tensor], tuple[float, float]]
AnyFunction = Callable[..., Any]  # of a measure: its arguments follow from `needs`
F = TypeVar("F", bound=AnyFunction)


class Missing(Exception):
    """Raised by a measure, with the reason, where its value is not defined."""


@dataclass(frozen=True)
class Batch:
    """Some images, and all that a measure may need to know about them.

    images  (n, c, h, w) in [0, 1]: the clean images, or the adversarial ones in the adversarial variant
    clean   (n, c, h, w): the images before any attack; labels (n,) int64; index (n,) int64, the identity of each image
    eps, norm  threat model (eps in the units of images); seed: of all random numbers; variant: clean | adversarial
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
    notes: Counter[str] = field(default_factory=Counter)


def mean(values: Tensor) -> tuple[float, float]:
    """Mean of (n,) numbers and its standard error s / sqrt(n), from image sampling.

    Of (n, draws): the mean of all, and sqrt(s_images^2 / n + s_draws^2 / draws), where s_images is the standard
    deviation of the images' means and s_draws that of the draws' means (their common part is counted twice, so the
    error is at worst too large).
    """
    if values.dim() == 1:
        return float(values.mean()), float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    images, draws = mean(values.mean(dim=1)), mean(values.mean(dim=0))
    return images[0], math.hypot(images[1], draws[1])


@dataclass(frozen=True)
class Measure:
    """A registered measure. `expects`: for each variant the sign its paper claims for the gap, None for no claim."""

    name: str
    function: AnyFunction
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

    def card(self) -> dict[str, Any]:
        """The entry in catalogue.json, without defaults and tests."""
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
) -> Callable[[F], F]:
    """Decorator: register a function as the measure of its name. See the module's docstring for `needs`.

    The keys of `expects` are the variants: 'none' for a measure without images, else 'clean' and/or 'adversarial'.
    reduction turns the numbers of all images, float64 (n,), into (value, standard error).
    Raises ValueError for an unknown word.
    """
    possible = ("clean", "adversarial") if {"batch", "batches"} & set(needs) else ("none",)
    for argument, words, known in (
        ("needs", needs, NEEDS),
        ("expects", expects, possible),
        ("expects", expects.values(), (1, -1, None)),
        ("invariances", invariances, INVARIANCES),
    ):
        if unknown := [word for word in words if word not in known]:
            raise ValueError(f"measure: {argument}: found {unknown[0]!r}, wanted one of {', '.join(map(str, known))}")

    ordered = tuple(word for word in INVARIANCES if word in (*ALWAYS, *invariances))

    def register(function: F) -> F:
        name = function.__name__
        registered = Measure(name, function, family, needs, expects, paper, formula, ordered, reduction)
        vars(function)["measure"] = registered
        # a user's measure never replaces a shipped one
        if function.__module__ == f"robustgap.measures.{name}" or name not in names():
            MEASURES[name] = registered
        return function

    return register


def load(name: str) -> Measure:
    """The measure of that name; imports its file. Raises LookupError, naming the nearest, for an unknown name, and
    ValueError naming the file if it is not Python or registers no measure of its name."""
    require(name)
    try:
        import_module(f"robustgap.measures.{name}")
    except SyntaxError as error:
        raise ValueError(f"{error.filename}, line {error.lineno}: found {error.msg}, wanted Python") from error
    if name not in MEASURES:
        wanted = f"wanted a function {name} under @measure(...)"
        raise ValueError(f"measures/{name}.py: found no measure of the file's name, {wanted}")
    loaded: Measure = MEASURES[name]
    return loaded


def groups() -> list[str]:
    """The words that stand for several measures: 'all' and every family."""
    return sorted({"all", *(load(name).family for name in names())})


def select(words: Iterable[str | AnyFunction]) -> list[Measure]:
    """Measures by name, by family ('margin'), 'all', or as decorated functions: in that order, each once.

    Raises LookupError, naming the nearest, for an unknown word; ValueError for no words, for anything but words and
    decorated functions, and for two measures of one name.
    """
    chosen: dict[str, Measure] = {}
    for word in words:
        for selected in _of_word(word) if isinstance(word, str) else [_of_function(word)]:
            if chosen.setdefault(selected.name, selected) is not selected:
                raise ValueError(f"names: found two measures named {selected.name}, wanted different names")
    if not chosen:
        raise ValueError(f"measures: found none, wanted names, families or all (families: {', '.join(groups())})")
    return list(chosen.values())


def _of_word(word: str) -> list[Measure]:
    if word not in names() and word not in groups():
        require(word, others=groups())
    shipped = [load(name) for name in names()]
    return [each for each in shipped if word in (each.name, each.family, "all")]


def _of_function(function: AnyFunction) -> Measure:
    registered = getattr(function, "measure", None)
    if not isinstance(registered, Measure):
        name = getattr(function, "__name__", type(function).__name__)
        raise ValueError(f"names: found {name}, wanted a name, or a function decorated with @measure(...)")
    return registered
