"""Which measures exist, and the code id of each: a hash of all the source that its value depends on.

Pure `ast`: neither torch nor any measure is imported, so that the workflow can ask while it plans. The id covers the
measure's function and, transitively, every function, class and module constant of `measures` and `training` that it
uses, without comments, docstrings and annotations. measures/core.py is covered by its hand-bumped CORE_VERSION.
"""

import ast
import difflib
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORE = "measures.core"
RESERVED = ("core",)
# Arguments of @measure that describe it and change no value.
DESCRIPTION = {"family", "expects", "paper", "formula", "invariances"}


def names(root: Path = ROOT) -> list[str]:
    """Every measure: the files of measures/ that do not start with an underscore, core.py aside."""
    files = (root / "measures").glob("[!_]*.py")
    return sorted(file.stem for file in files if file.stem not in RESERVED)


def require(name: str, root: Path = ROOT) -> None:
    """Raise LookupError, naming the nearest measure, unless `name` is one."""
    known = names(root)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise LookupError(f"measure {name!r} is unknown{hint} (known: {', '.join(known)})")


def code_id(name: str, root: Path = ROOT) -> str:
    """First 12 hex digits of SHA-256 of the normalised source behind measure `name`.

    Raises LookupError for an unknown measure, ValueError for one whose file defines no function of that name.
    """
    require(name, root)
    waiting, seen, parts = [(f"measures.{name}", name)], set(), []
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        source, found = _resolve(*item, root=root)
        parts.append(f"{item[0]}:{item[1]}\n{source}")
        waiting.extend(found)
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:12]


def _resolve(module: str, name: str, root: Path) -> tuple[str, list[tuple[str, str]]]:
    """Source of one object (name '*': of a whole module) and the objects it uses, as (module, name) pairs."""
    top = _parse(root.joinpath(*module.split(".")).with_suffix(".py").read_text(), module.split(".")[0])
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


def _follow(use: str, module: str, top: "_Top", root: Path) -> list[tuple[str, str]]:
    """Objects of ours behind a dotted name as it is written in `module`: 'attacks.pgd' -> (training.attacks, pgd)."""
    first, *rest = use.split(".")
    if first in top.pieces:
        return [(module, first)]
    if first not in top.imports:
        return []
    target = top.imports[first].split(".") + rest
    for cut in range(len(target), 0, -1):
        path = ".".join(target[:cut])
        if _file(path, root) is not None:
            return [(path, target[cut] if cut < len(target) else "*")]
    return []


def _file(module: str, root: Path) -> Path | None:
    parts = module.split(".")
    if parts[0] not in ("measures", "training") or len(parts) == 1:
        return None
    file = root.joinpath(*parts).with_suffix(".py")
    return file if file.is_file() else None


@dataclass
class _Piece:
    """A top-level definition: its normalised source and the dotted names it uses."""

    source: str
    uses: set[str]


@dataclass
class _Top:
    """What a module defines at its top level, and what its imported names stand for."""

    pieces: dict[str, _Piece]
    imports: dict[str, str]
    constants: dict[str, object]


class _Bare(ast.NodeTransformer):
    """Removes what changes no value: docstrings, annotations, the descriptive arguments of @measure."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return node
        return self.generic_visit(ast.copy_location(ast.Assign([node.target], node.value), node))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "measure":
            node.keywords = [word for word in node.keywords if word.arg not in DESCRIPTION]
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if getattr(node, "body", None) == []:
            setattr(node, "body", [ast.Pass()])  # noqa: B010  (not every AST node has a body)
        return node


@lru_cache(maxsize=256)
def _parse(source: str, package: str) -> _Top:
    tree, top = ast.parse(source), _Top({}, {}, {})
    for node in ast.walk(tree):  # an import inside a function counts as one at the top
        if isinstance(node, ast.Import):
            for alias in node.names:  # `import a.b` binds a; `import a.b as c` binds c to a.b
                first = alias.name.split(".")[0]
                top.imports[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(part for part in (package if node.level else "", node.module) if part)
            top.imports |= {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            _define(node, top)
    return top


def _define(node: ast.stmt, top: _Top) -> None:
    """File a top-level statement under every name it binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        bound = [node.name]
    else:
        bound = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            top.constants |= dict.fromkeys(bound, node.value.value)
    bare = _Bare().visit(node)
    if bare is None:
        return
    piece = _Piece(ast.unparse(ast.fix_missing_locations(bare)), _uses(bare))
    for name in bound:
        before = top.pieces.get(name, _Piece("", set()))
        top.pieces[name] = _Piece(before.source + "\n" + piece.source, before.uses | piece.uses)


def _uses(node: ast.AST) -> set[str]:
    """The longest dotted names read in a definition: {'attacks.pgd', 'F.cross_entropy', 'mean'}. A local variable that
    shares its name with something at the top level counts as a use: the id may change too often, never too seldom."""
    if isinstance(node, ast.Name | ast.Attribute) and (dotted := _dotted(node)):
        return {dotted}
    return {use for child in ast.iter_child_nodes(node) for use in _uses(child)}


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)):
        return f"{owner}.{node.attr}"
    return None
