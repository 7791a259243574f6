"""What there is to say about a measure: the catalogue's entries, and the card for a terminal."""

import ast
from collections.abc import Iterator
from functools import cache
from inspect import getdoc
from pathlib import Path

from robustgap.measures._code import ROOT, constants, names
from robustgap.measures.core import Measure, load

# Constants that set what is computed; the streams of random numbers say nothing to a reader.
UNTOLD = ("STREAM",)


def entry(name: str) -> dict:
    """The measure's entry in catalogue.json: `Measure.card`, its defaults and the tests that prove it."""
    return {**load(name).card(), "defaults": defaults(name), "proof": proof(name)}


def defaults(name: str) -> dict[str, object]:
    """{'draws': 10, ...}: the constants in the code of a measure and of its helpers."""
    known = constants(name).items()
    return {key.lower(): value for key, value in known if not key.startswith("_") and not key.endswith(UNTOLD)}


def proof(name: str, root: Path = ROOT) -> list[str]:
    """Tests that hold the measure to a closed form or an independent computation: those that say its name."""
    return [test for test, words in _tests(root) if name in words]


@cache
def _tests(root: Path) -> list[tuple[str, set[str]]]:
    """(name, texts in it) of every test of the truth of single measures."""
    files = sorted((root / "tests").rglob("test_truth*.py"))
    return [found for file in files for found in _named(ast.parse(file.read_text(encoding="utf-8")))]


def _named(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            words = (part.value for part in ast.walk(node) if isinstance(part, ast.Constant))
            yield node.name, {word for word in words if isinstance(word, str)}


def card(name: str) -> str:
    """Everything about a measure, for a terminal. Raises LookupError, naming the nearest, for an unknown one."""
    measured = load(name)
    told = entry(name)
    claims = ", ".join(f"{variant} {claim(sign)}" for variant, sign in told["expects"].items())
    rows = [
        ("formula", told["formula"]),
        ("family", told["family"]),
        ("variants", ", ".join(told["variants"])),
        ("needs", ", ".join(told["needs"])),
        ("relation to the gap, as the paper claims it", claims),
        ("paper", told["paper"]),
        ("does not change with", ", ".join(told["invariances"])),
        ("defaults", ", ".join(f"{key} {value}" for key, value in told["defaults"].items()) or "none"),
        ("proven by", ", ".join(told["proof"]) or unproven()),
    ]
    heading = f"{measured.name}\n{'=' * len(measured.name)}"
    return "\n".join([heading, *(f"{key}: {value}" for key, value in rows), "", getdoc(measured.function) or ""])


def unproven(root: Path = ROOT) -> str:
    """Why no test is named: none is there, or none says the measure's name yet."""
    return "no test names it yet: test_truth*.py, anywhere in tests" if _tests(root) else "tests are not installed here"


def claim(sign: int | None) -> str:
    return {1: "rises with it", -1: "falls with it"}.get(sign or 0, "no claim")


def lines() -> Iterator[str]:
    """One line for each measure: name, family, variants, summary."""
    measured: list[Measure] = [load(name) for name in names()]
    widths = [max(len(text(one)) for one in measured) for text in (lambda m: m.name, lambda m: m.family)]
    for one in measured:
        variants = "+".join(one.variants)
        yield f"{one.name:{widths[0]}} {one.family:{widths[1]}} {variants:17}  {one.card()['summary']}"
