"""Which measures exist, and the code id of each: a hash of all the source that its value depends on.

Pure `ast`: neither torch nor any measure is imported, so that the workflow can ask while it plans. The id covers the
measure's function and, transitively, every function, class and module constant of `measures` and `training` that it
uses, without comments, docstrings and annotations. An attribute called like a method in measures/_context.py counts
as that method. measures/core.py is covered by its hand-bumped CORE_VERSION.
"""

import difflib
import hashlib
from collections.abc import Sequence
from pathlib import Path

from measures._source import Top, parse

ROOT = Path(__file__).resolve().parent.parent
CORE = "measures.core"
CONTEXT = "measures._context"
RESERVED = ("core",)


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
    parts = [f"{module}:{piece}\n{source}" for (module, piece), source in reached(name, root).items()]
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:12]


def reached(name: str, root: Path = ROOT) -> dict[tuple[str, str], str]:
    """{(module, definition): normalised source} of all that measure `name` uses. Raises as `code_id`."""
    require(name, root)
    waiting = [(f"measures.{name}", name)]
    found: dict[tuple[str, str], str] = {}
    while waiting:
        item = waiting.pop()
        if item not in found:
            found[item], more = _resolve(*item, root=root)
            waiting.extend(more)
    return found


def constants(name: str, root: Path = ROOT) -> dict[str, object]:
    """The module constants of `measures` that measure `name` uses, written out in the code: {'DRAWS': 10, ...}."""
    found: dict[str, object] = {}
    for module, piece in sorted(reached(name, root)):
        if module.startswith("measures.") and module != CORE:
            known = _top(module, root).constants
            found |= {piece: known[piece]} if piece in known else {}
    return found


def _resolve(module: str, name: str, root: Path) -> tuple[str, list[tuple[str, str]]]:
    """Source of one object (name '*': of a whole module) and the objects it uses, as (module, name) pairs."""
    top = _top(module, root)
    if module == CORE:
        return f"CORE_VERSION {top.constants.get('CORE_VERSION')}", []
    if name == "*":
        return "", [(module, piece) for piece in top.pieces]
    if name not in top.pieces:
        if module == f"measures.{name}":
            raise ValueError(f"measures/{name}.py: found no function {name!r}, wanted one of the file's name")
        return "", _follow(name, module, top, root) or [(module, "*")]  # re-exported, or made at run time
    piece = top.pieces[name]
    firsts = sorted({use.split(".")[0] for use in piece.uses} & set(top.imports))
    imports = "".join(f"\n{first} = {top.imports[first]}" for first in firsts)
    return piece.source + imports, [item for use in sorted(piece.uses) for item in _follow(use, module, top, root)]


def _follow(use: str, module: str, top: Top, root: Path) -> list[tuple[str, str]]:
    """Objects of ours behind a dotted name as it is written in `module`: 'attacks.pgd' -> (training.attacks, pgd)."""
    first, *rest = use.split(".")
    if first in top.pieces:
        return [(module, first)]
    if first not in top.imports:
        # whatever a context is called here, an attribute with the name of one of its methods counts as that method
        return [(CONTEXT, f"Context.{name}") for name in rest if name in _methods(root)]
    target = top.imports[first].split(".") + rest
    for cut in range(len(target), 0, -1):
        path = ".".join(target[:cut])
        if _file(path, root) is not None:
            return [(path, target[cut] if cut < len(target) else "*")]
    return []


def _top(module: str, root: Path) -> Top:
    return parse(root.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8"), module.split(".")[0])


def _methods(root: Path) -> list[str]:
    """Names of the methods of Context."""
    return [name.removeprefix("Context.") for name in _top(CONTEXT, root).pieces if name.startswith("Context.")]


def _file(module: str, root: Path) -> Path | None:
    parts = module.split(".")
    if parts[0] not in ("measures", "training") or len(parts) == 1:
        return None
    file = root.joinpath(*parts).with_suffix(".py")
    return file if file.is_file() else None
