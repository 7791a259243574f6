"""Descriptions of measures: their entries in the catalogue, their cards and the list for a terminal."""

import ast
from collections.abc import Iterator
from functools import cache
from inspect import getdoc
from pathlib import Path
from typing import Any

from robustgap.measures._code import ROOT, constants, names
from robustgap.measures.core import load

HIDDEN = ("STREAM",)  # ends of names of constants that say nothing to a reader


def catalogue_entry(name: str) -> dict[str, Any]:
    """The measure's entry in catalogue.json: `Measure.card`, its defaults and the tests that prove it."""
    return {**load(name).card(), "defaults": defaults(name), "proof": proof(name)}


def defaults(name: str) -> dict[str, object]:
    """{'draws': 10, ...}: the constants in the code of a measure and of its helpers."""
    visible = {key: value for key, value in constants(name).items() if not key.startswith("_")}
    return {key.lower(): value for key, value in visible.items() if not key.endswith(HIDDEN)}


def proof(name: str, root: Path = ROOT) -> list[str]:
    """Names of the tests that compare the measure with a closed form or an independent computation."""
    return [test for test, strings in _truth_tests(root) if name in strings]


@cache
def _truth_tests(root: Path) -> list[tuple[str, set[str]]]:
    """(name, strings in its source) of every test in the files test_truth*.py."""
    files = sorted((root / "tests").rglob("test_truth*.py"))
    return [test for file in files for test in _tests_in(ast.parse(file.read_text(encoding="utf-8")))]


def _tests_in(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            constants = (child.value for child in ast.walk(node) if isinstance(child, ast.Constant))
            yield node.name, {value for value in constants if isinstance(value, str)}


def card(name: str) -> str:
    """Everything about a measure, for a terminal. Raises LookupError, naming the nearest, for an unknown name."""
    entry = catalogue_entry(name)
    claims = ", ".join(f"{variant} {claim(sign)}" for variant, sign in entry["expects"].items())
    rows = [
        ("formula", entry["formula"]),
        ("family", entry["family"]),
        ("variants", ", ".join(entry["variants"])),
        ("needs", ", ".join(entry["needs"])),
        ("relation to the gap, as the paper claims it", claims),
        ("paper", entry["paper"]),
        ("does not change with", ", ".join(entry["invariances"])),
        ("defaults", ", ".join(f"{key} {value}" for key, value in entry["defaults"].items()) or "none"),
        ("proven by", ", ".join(entry["proof"]) or unproven()),
    ]
    text = getdoc(load(name).function) or ""
    return "\n".join([name, "=" * len(name), *(f"{key}: {value}" for key, value in rows), "", text])


def unproven(root: Path = ROOT) -> str:
    """Why a card names no test: tests are not installed, or none names the measure yet."""
    installed = bool(_truth_tests(root))
    return "no test names it yet: test_truth*.py, anywhere in tests" if installed else "tests are not installed here"


def claim(sign: int | None) -> str:
    return {1: "rises with it", -1: "falls with it"}.get(sign or 0, "no claim")


def summary_lines() -> Iterator[str]:
    """One line for each measure: name, family, variants, summary."""
    measures = [load(name) for name in names()]
    name_width, family_width = max(len(m.name) for m in measures), max(len(m.family) for m in measures)
    for m in measures:
        yield f"{m.name:{name_width}} {m.family:{family_width}} {'+'.join(m.variants):17}  {m.card()['summary']}"
