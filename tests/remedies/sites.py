"""Finds every place in the package that tells a user what to do, by reading the code.

Such a place (a *site*) makes an error of ours with a ``remedy=``, hands a remedy to a function that makes one, raises
an OSError or a click error in words of our own, leaves a note on an interrupt, or is an entry of the table of remedies
for what the system refused. One expression that chooses between two remedies is two sites.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import ripple_place

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(ripple_place.__file__).parent
SYSTEM_TABLE = "_REMEDIES"
"""The name of a dict whose values are remedies for what the system refused."""
HOLE = "{}"
"""Stands in a template for what is only known when the error is made."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Site:
    """A place that gives a remedy.

    Parameters
    ----------
    module : str
        Path below the package.
    function : str
        Qualified name of the function around it.
    remedy : str
        Template: holes are ``{}``.
    said : str
        The templates of what was found and expected, to tell sites of one function apart.
    first_line, last_line : int
        Of the call.
    """

    module: str
    function: str
    remedy: str
    said: str
    first_line: int
    last_line: int

    @property
    def where(self) -> str:
        """The name by which cases find it: module and function."""
        return f"{self.module}:{self.function}"

    def gives(self, text: str) -> bool:
        """Return whether this site's template makes the text."""
        return _pattern_of(self.remedy).fullmatch(text) is not None


@cache
def _pattern_of(template: str) -> re.Pattern[str]:
    """Return what a template's text matches; more of them than `re` itself remembers."""
    return re.compile(".*".join(map(re.escape, template.split(HOLE))), re.DOTALL)


@dataclass(frozen=True)
class Scope:
    """A call, and what a name in it may mean."""

    module: str
    functions: tuple[Function, ...]
    """Those around it, outermost first."""
    qualified_name: str


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax of every module, by its path below the package."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


@cache
def find_sites() -> tuple[Site, ...]:
    """Return all sites of the package, in the order of the files."""
    sites = (
        Site(
            scope.module, scope.qualified_name, remedy, _said(call, scope), call.lineno, call.end_lineno or call.lineno
        )
        for call, scope in _calls()
        for value in _remedies_of(call, scope)
        for remedy in _texts(value, scope)
    )
    return tuple(dict.fromkeys(sites))


@cache
def _calls() -> tuple[tuple[ast.Call, Scope], ...]:
    return tuple(found for module, tree in trees().items() for found in _calls_below(tree, Scope(module, (), "")))


def _calls_below(node: ast.AST, scope: Scope) -> Iterator[tuple[ast.Call, Scope]]:
    for child in ast.iter_child_nodes(node):
        inner = scope
        if isinstance(child, Function | ast.ClassDef):
            name = f"{scope.qualified_name}.{child.name}".lstrip(".")
            functions = (*scope.functions, child) if isinstance(child, Function) else scope.functions
            inner = Scope(scope.module, functions, name)
        if isinstance(child, ast.Call):
            yield child, scope
        yield from _calls_below(child, inner)


@cache
def _takers() -> dict[tuple[str, str], int]:
    """Return where functions, by module and name, take a remedy; -1: by keyword only."""
    return {
        (module, node.name): names.index("remedy") if "remedy" in names else -1
        for module, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, Function) and node.name != "__init__"
        for names in [[parameter.arg for parameter in node.args.args]]
        if "remedy" in names or "remedy" in {parameter.arg for parameter in node.args.kwonlyargs}
    }


def _remedies_of(call: ast.Call, scope: Scope) -> Iterator[ast.expr]:
    """Yield the expressions of a call that are remedies."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    yield from (keyword.value for keyword in call.keywords if keyword.arg == "remedy")
    position = _takers().get((scope.module, name), _takers().get((_imported_from(name, scope.module) or "", name), -1))
    if 0 <= position < len(call.args):
        yield call.args[position]
    if name == "OSError" and len(call.args) > 1 and not _is_strerror(call.args[1]):
        yield call.args[1]
    if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "click" and name in _CLICK_ERRORS:
        yield call.args[0]
    if name == "add_note":
        yield call.args[0]
    if name == "get" and ast.unparse(call.func) == f"{SYSTEM_TABLE}.get":
        table = _assigned(SYSTEM_TABLE, trees()[scope.module].body)[0]
        assert isinstance(table, ast.Dict)
        yield from (*table.values, call.args[1])


_CLICK_ERRORS = ("UsageError", "BadParameter", "ClickException", "FileError")


def _is_strerror(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "os.strerror"


def _said(call: ast.Call, scope: Scope) -> str:
    """Return the templates of what a call says beside the remedy: to tell the sites of a function apart."""
    is_table = isinstance(call.func, ast.Attribute) and call.func.attr == "get"
    literal = [
        argument for argument in call.args if isinstance(argument, ast.Constant | ast.JoinedStr) and not is_table
    ]
    named = [keyword.value for keyword in call.keywords if keyword.arg in ("found", "expected")]
    return "; ".join(text for part in (*literal, *named) for text in _texts(part, scope)[:1])


def _texts(node: ast.expr, scope: Scope) -> list[str]:
    """Return the templates of all texts that an expression may have; none for a remedy that is only passed on."""
    match node:
        case ast.Constant():
            return [str(node.value)]
        case ast.JoinedStr():
            texts = [""]
            for part in node.values:
                parts = [str(part.value)] if isinstance(part, ast.Constant) else [HOLE]
                texts = [text + other for text in texts for other in parts]
            return texts
        case ast.IfExp():
            return _texts(node.body, scope) + _texts(node.orelse, scope)
        case ast.BoolOp():
            return [text for value in node.values for text in _texts(value, scope)]
        case ast.BinOp(op=ast.Add()):
            return [left + right for left in _texts(node.left, scope) for right in _texts(node.right, scope)]
        case ast.Call(func=ast.Attribute(attr="format")):
            return [re.sub(r"{\w*}", HOLE, text) for text in _texts(node.func.value, scope)]
        case ast.Call(func=ast.Name()):
            return [text for value in _returned(node.func.id, scope.module) for text in _texts(*value)] or [HOLE]
        case ast.List() | ast.Tuple():
            return [text for item in node.elts for text in _texts(item, scope)]
        case ast.Attribute(attr="remedy"):
            return []
        case ast.Name():
            return _texts_of_name(node.id, scope)
    return [HOLE]


def _texts_of_name(name: str, scope: Scope) -> list[str]:
    """Return what a name may mean: a parameter (which the callers' sites name), a local, a constant, an import."""
    for function in reversed(scope.functions):
        parameters = {parameter.arg for parameter in (*function.args.args, *function.args.kwonlyargs)}
        if name == "remedy" and name in parameters:
            return []
        values = [value for value in _assigned(name, [function]) if name not in _names_in(value)]
        if values:
            return [text for value in values for text in _texts(value, scope)]
    values = _assigned(name, trees()[scope.module].body, deep=False)
    if values:
        return _texts(values[0], Scope(scope.module, (), ""))
    origin = _imported_from(name, scope.module)
    return _texts_of_name(name, Scope(origin, (), "")) if origin else [HOLE]


def _assigned(name: str, body: list[ast.stmt] | list[Function], *, deep: bool = True) -> list[ast.expr]:
    """Return the values that are assigned to a name, and what it runs through."""
    nodes = [inner for node in body for inner in (ast.walk(node) if deep else [node])]
    runs = [node.iter for node in nodes if isinstance(node, ast.For) and ast.unparse(node.target) == name]
    return runs + [
        value
        for node in nodes
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for part, value in _pairs(target, node.value)
        if isinstance(part, ast.Name) and part.id == name
    ]


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    """Return targets with their values: several, where a tuple is assigned to a tuple."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def _names_in(node: ast.expr) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _returned(name: str, module: str) -> list[tuple[ast.expr, Scope]]:
    """Return the expressions that a function of a module, or one that it imports, returns."""
    for node in trees()[module].body:
        if isinstance(node, Function) and node.name == name:
            scope = Scope(module, (node,), name)
            return [(inner.value, scope) for inner in ast.walk(node) if isinstance(inner, ast.Return) and inner.value]
    origin = _imported_from(name, module)
    return _returned(name, origin) if origin else []


def _imported_from(name: str, module: str) -> str | None:
    """Return the module of ours that a name is imported from."""
    return _imports(module).get(name)


@cache
def _imports(module: str) -> dict[str, str]:
    """Return the modules of ours that a module imports names from, by name."""
    return {
        alias.name: path
        for node in ast.walk(trees()[module])
        if isinstance(node, ast.ImportFrom) and node.module
        for path in [node.module.removeprefix("ripple_place").lstrip(".").replace(".", "/") + ".py"]
        if path in trees()
        for alias in node.names
    }
