"""A Python module as the definitions at its top level, each with its normalised source and the names it uses.

Pure `ast`. Comments, docstrings, annotations and the descriptive arguments of @measure change no value and are dropped.
"""

import ast
from dataclasses import dataclass
from functools import lru_cache

DESCRIPTIVE = {"family", "expects", "paper", "formula", "invariances"}  # arguments of @measure that change no value


@dataclass
class Definition:
    """A top-level definition: its normalised source and the dotted names it uses."""

    source: str
    uses: set[str]


@dataclass
class ParsedModule:
    """What a module defines at its top level, and what its imported names stand for."""

    definitions: dict[str, Definition]
    imports: dict[str, str]
    constants: dict[str, object]


class _Normalise(ast.NodeTransformer):
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
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in DESCRIPTIVE]
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if getattr(node, "body", None) == []:
            setattr(node, "body", [ast.Pass()])  # noqa: B010  (not every AST node has a body)
        return node


@lru_cache(maxsize=256)
def parse(source: str, package: str) -> ParsedModule:
    """A module of that package. Raises ValueError for a star import, which hides what is used."""
    tree, parsed = ast.parse(source), ParsedModule({}, {}, {})
    for node in ast.walk(tree):  # an import inside a function counts as one at the top
        if isinstance(node, ast.Import):
            for alias in node.names:  # `import a.b` binds a; `import a.b as c` binds c to a.b
                first = alias.name.split(".")[0]
                parsed.imports[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            if node.names[0].name == "*":
                raise ValueError(f"line {node.lineno}: found a star import, wanted the names that are used")
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            parsed.imports |= {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names}
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            _define(node, parsed)
    return parsed


def _define(node: ast.stmt, parsed: ParsedModule) -> None:
    """Add a top-level statement under every name it binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        bound = [node.name]
    else:
        bound = sorted(_changed(node))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            parsed.constants |= dict.fromkeys(bound, node.value.value)
    normalised = _Normalise().visit(node)
    if normalised is None:
        return
    if isinstance(normalised, ast.ClassDef):
        parsed.definitions |= {
            f"{normalised.name}.{method.name}": _definition(method)
            for method in normalised.body
            if isinstance(method, ast.FunctionDef)
        }
    definition = _definition(normalised)
    for name in bound:
        before = parsed.definitions.get(name, Definition("", set()))
        source, uses = f"{before.source}\n{definition.source}", before.uses | definition.uses
        parsed.definitions[name] = Definition(source, uses)


def _definition(node: ast.AST) -> Definition:
    return Definition(ast.unparse(ast.fix_missing_locations(node)), _uses(node))


def _changed(node: ast.stmt) -> set[str]:
    """Names that a statement binds or, as in T["a"] = 1, T.b = 1 and T.append(1), may change the object of."""
    stored = [n for n in ast.walk(node) if isinstance(getattr(n, "ctx", None), ast.Store)]
    called = [n.func for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return {root.id for root in map(_root, [*stored, *called]) if isinstance(root, ast.Name)}


def _root(node: ast.AST) -> ast.AST:
    """T of T.a["b"].c."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node


def _uses(node: ast.AST) -> set[str]:
    """The longest dotted names read in a definition: {'attacks.pgd', 'F.cross_entropy', 'mean'}. A local variable that
    shares its name with something at the top level counts as a use: an id may change too often, never too seldom."""
    if isinstance(node, ast.Name | ast.Attribute) and (dotted := _dotted(node)):
        return {dotted}
    return {use for child in ast.iter_child_nodes(node) for use in _uses(child)}


def _dotted(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (owner := _dotted(node.value)):
        return f"{owner}.{node.attr}"
    return None
