"""Which measures exist, and the code id of each: a hash of all the source that its value depends on.

Pure `ast`: neither torch nor any measure is imported, so that the workflow can ask while it plans. The id covers the
measure's function and, transitively, every function, class and module constant of `measures` and `training` that it
uses, without comments, docstrings and annotations: what the code says, not where it lies. Where one piece of code uses
another, the id holds the place of the other in the order in which they are reached, never the name of its module: files
may be renamed, moved and split. An attribute called like a method in measures/_context.py counts as that method.
measures/core.py is covered by its hand-bumped CORE_VERSION.
"""

import difflib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from robustgap.measures._parsed_source import Top, parse

ROOT = Path(__file__).resolve().parent.parent
CORE = "robustgap.measures.core"
CONTEXT = "robustgap.measures._context"
RESERVED = ("core",)
PACKAGES = ("robustgap.measures.", "robustgap.training.")  # whose code an id follows


class Item(NamedTuple):
    """A definition at the top of a module; name '*': all of them."""

    module: str
    name: str


class Reached(NamedTuple):
    """What an item says (its normalised source, and what the names in it stand for outside of this project), and which
    items it uses, each by its name there."""

    source: str
    uses: list[tuple[str, Item]]


def names(root: Path = ROOT) -> list[str]:
    """Every measure: the files of measures/ that do not start with an underscore, core.py aside."""
    files = (root / "measures").glob("[!_]*.py")
    return sorted(file.stem for file in files if file.stem not in RESERVED)


def require(name: str, root: Path = ROOT, others: Sequence[str] = ()) -> None:
    """Raise LookupError, naming the nearest measure (or of the other words), unless `name` is a measure."""
    known = names(root)
    if name not in known:
        near = difflib.get_close_matches(name, [*known, *others], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        groups = f"; groups: {', '.join(others)}" if others else ""
        raise LookupError(f"measure {name!r} is unknown{hint} (known: {', '.join(known)}{groups})")


def code_id(name: str, root: Path = ROOT) -> str:
    """First 12 hex digits of SHA-256 of the normalised source behind measure `name`.

    Raises LookupError for an unknown measure, ValueError for one whose file defines no function of that name.
    """
    found = reached(name, root)
    places = {item: place for place, item in enumerate(found)}
    parts = [
        "\n".join([f"{place}: {source}", *(f"{use} -> {places[item]}" for use, item in uses)])
        for place, (source, uses) in enumerate(found.values())
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def reached(name: str, root: Path = ROOT) -> dict[Item, Reached]:
    """All that measure `name` uses, in an order that follows from what the code says alone. Raises as `code_id`."""
    require(name, root)
    waiting = [Item(f"robustgap.measures.{name}", name)]
    found: dict[Item, Reached] = {}
    while waiting:
        item = waiting.pop()
        if item not in found:
            found[item] = _resolve(item, root)
            waiting.extend(used for _, used in found[item].uses)
    return found


def constants(name: str, root: Path = ROOT) -> dict[str, object]:
    """The module constants of `measures` that measure `name` uses, written out in the code: {'DRAWS': 10, ...}."""
    found: dict[str, object] = {}
    for module, piece in sorted(reached(name, root)):
        if module.startswith(PACKAGES[0]) and module != CORE:
            known = _top(module, root).constants
            found |= {piece: known[piece]} if piece in known else {}
    return found


def _resolve(item: Item, root: Path) -> Reached:
    """What one item says and uses."""
    module, name = item
    top = _top(module, root)
    if module == CORE:
        return Reached(f"CORE_VERSION {top.constants.get('CORE_VERSION')}", [])
    if name == "*":
        return Reached("", [(piece, Item(module, piece)) for piece in sorted(top.pieces)])
    if name not in top.pieces:
        if module == f"robustgap.measures.{name}":
            raise ValueError(f"measures/{name}.py: found no function {name!r}, wanted one of the file's name")
        return Reached("", [(name, Item(module, "*"))])  # made at run time
    piece = top.pieces[name]
    firsts = sorted({use.split(".")[0] for use in piece.uses} & set(top.imports))
    foreign = [first for first in firsts if not f"{top.imports[first]}.".startswith(PACKAGES)]
    imports = "".join(f"\n{first} = {top.imports[first]}" for first in foreign)
    uses = [(use, used) for use in sorted(piece.uses) for used in _follow(use, module, top, root)]
    return Reached(piece.source + imports, uses)


def _follow(use: str, module: str, top: Top, root: Path) -> list[Item]:
    """Items behind a dotted name as it is written in `module`: 'attacks.pgd' -> (robustgap.training.attacks, pgd)."""
    first, *rest = use.split(".")
    if first in top.pieces:
        return [Item(module, first)]
    if first not in top.imports:
        # whatever a context is called here, an attribute with the name of one of its methods counts as that method
        return [Item(CONTEXT, f"Context.{name}") for name in rest if name in _methods(root)]
    target = top.imports[first].split(".") + rest
    for cut in range(len(target), 0, -1):
        path = ".".join(target[:cut])
        if path == CORE:
            return [Item(CORE, "*")]
        if _file(path, root) is not None:
            return [_defined(Item(path, target[cut]), root) if cut < len(target) else Item(path, "*")]
    return []


def _defined(item: Item, root: Path) -> Item:
    """Where an item is defined: a module may hand on what it imports."""
    top = _top(item.module, root)
    if item.name in top.pieces:
        return item
    return next(iter(_follow(item.name, item.module, top, root)), item)


def _top(module: str, root: Path) -> Top:
    file = _file(module, root)
    assert file is not None, module
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    return parse(file.read_text(encoding="utf-8"), package)


def _methods(root: Path) -> list[str]:
    """Names of the methods of Context."""
    return [name.removeprefix("Context.") for name in _top(CONTEXT, root).pieces if name.startswith("Context.")]


def _file(module: str, root: Path) -> Path | None:
    if not module.startswith(PACKAGES):
        return None
    place = root.joinpath(*module.split(".")[1:])
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
