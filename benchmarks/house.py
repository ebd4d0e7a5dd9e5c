"""Count how far a reader is led: the modules entered from `reorder` and `simulate`, and functions that are too long.

``python -m benchmarks.house`` prints two tables, read off the syntax trees, and the modules that a small run of
`reorder` enters before its first kernel: those of which a function is called, in turn. To reach: at most 25.

1. From the workflow's function, every name that a definition uses is followed to where it is defined, in whichever of
   our modules that is, and on from there; names used in annotations alone do not count, and what lies in
   `ripple_place.kernels` is counted but not entered. Methods count as used where their class is. A climb is an import
   from a floor to a higher one; to reach: none.
2. Functions above 60 lines (from ``def`` on, docstring not counted) or of a cyclomatic complexity above 12 (McCabe's,
   as ruff's C901 counts it). To reach: none outside `kernels` and `flash/caches`, whose loops are long on purpose.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import ripple_place
from ripple_place.cli.rendering import format_table
from tests.test_imports import row_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(ripple_place.__file__).parent
STARTS = (("workflows.reorder", "reorder"), ("workflows.simulate", "simulate"))
MAX_LINES = 60
MAX_COMPLEXITY = 12
EXEMPT = ("kernels", "flash/caches")

Definition = tuple[str, str]
"""Module, relative to the package, and name of what it defines."""


@dataclass(frozen=True, eq=False)
class Module:
    """What a module defines, and what its names stand for.

    Attributes
    ----------
    definitions : dict of str to ast.AST
        Functions, classes and assignments at the top.
    imports : dict of str to Definition
        Run-time imports of ours at the top; the name is empty where a module is imported.
    """

    definitions: dict[str, ast.AST]
    imports: dict[str, Definition]


class House:
    """The modules of a package, read when they are asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.module = cache(self._read)

    def path(self, module: str) -> Path | None:
        """Return the file of a module; None if it is none."""
        base = self.root.joinpath(*module.split(".")) if module else self.root
        return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)

    def _read(self, module: str) -> Module:
        path = self.path(module)
        assert path is not None
        definitions: dict[str, ast.AST] = {}
        imports: dict[str, Definition] = {}
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                definitions[node.name] = node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                definitions |= {name.id: node for target in targets for name in _names(target)}
            elif isinstance(node, ast.ImportFrom):
                imports |= self._imported(node)
        return Module(definitions, imports)

    def _imported(self, node: ast.ImportFrom) -> dict[str, Definition]:
        """Return what the names of an import stand for, if it is of ours."""
        base = node.module or ""
        if base.partition(".")[0] != self.root.name:
            return {}
        base = base.removeprefix(self.root.name).lstrip(".")
        found: dict[str, Definition] = {}
        for alias in node.names:
            inner = f"{base}.{alias.name}".lstrip(".")
            found[alias.asname or alias.name] = (inner, "") if self.path(inner) else (base, alias.name)
        return found

    def used_by(self, definition: Definition) -> set[Definition]:
        """Return the definitions of ours that a definition names, annotations aside."""
        module, name = definition
        here = self.module(module)
        body = list(_walk(here.definitions[name]))
        imports = dict(here.imports)
        for node in body:
            if isinstance(node, ast.ImportFrom):
                imports |= self._imported(node)
        used: set[Definition] = set()
        for node in body:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = imports.get(node.value.id, ("", ""))
                if owner[0] and not owner[1]:
                    used.add((owner[0], node.attr))
            elif isinstance(node, ast.Name):
                used.add(imports.get(node.id, (module, node.id)))
        return {found for each in used if (found := self._defined(each)) and found != definition}

    def _defined(self, definition: Definition) -> Definition | None:
        """Return where a name is defined, through modules that only pass it on; None if it is not one of ours."""
        module, name = definition
        if not name:
            return None
        known = self.module(module)
        if name in known.definitions:
            return definition
        return self._defined(known.imports[name]) if name in known.imports else None

    def arrows_from(self, start: Definition) -> dict[str, set[str]]:
        """Return, for each module that is entered from a definition, those that what is used of it leads on to."""
        arrows: dict[str, set[str]] = {start[0]: set()}
        seen, queue = {start}, [start]
        while queue:
            definition = queue.pop(0)
            for found in self.used_by(definition):
                if found[0] != definition[0]:
                    arrows[definition[0]].add(found[0])
                arrows.setdefault(found[0], set())
                if found not in seen and found[0].partition(".")[0] != "kernels":
                    seen.add(found)
                    queue.append(found)
        return arrows


def _names(node: ast.AST) -> Iterator[ast.Name]:
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.Name))


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a node and what it contains, without annotations."""
    yield node
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _walk(child)


def longest_chain(arrows: dict[str, set[str]], start: str) -> list[str]:
    """Return the longest chain of modules from one; of equally long ones, the first in alphabetical order."""

    @cache
    def follow(module: str) -> tuple[str, ...]:
        tails = [follow(target) for target in sorted(arrows[module])]
        return (module, *max(tails, key=len, default=()))

    return list(follow(start))


def climbs(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows that point to a higher floor."""
    pairs = [(module, target) for module, targets in arrows.items() for target in sorted(targets)]
    floors = [(module, target, row_of(module), row_of(target)) for module, target in pairs]
    # The package itself, a name and a version, is on no floor.
    return [(module, target) for module, target, here, there in floors if None not in (here, there) and there < here]


@dataclass(frozen=True)
class Size:
    """How long a function is, and how branched."""

    place: str
    name: str
    n_lines: int
    complexity: int

    @property
    def is_too_large(self) -> bool:
        """Whether it is above one of the limits."""
        return self.n_lines > MAX_LINES or self.complexity > MAX_COMPLEXITY


def sizes(root: Path) -> list[Size]:
    """Return the sizes of all functions of a package, those within others included, but for what is exempt."""
    found = []
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if not any(place.is_relative_to(folder) for folder in EXEMPT):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.append(Size(f"{place}:{node.lineno}", node.name, n_lines(node), 1 + n_branches(node.body)))
    return found


def n_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines from ``def`` to the end, docstring not counted."""
    first, last = function.body[0], function.end_lineno or function.lineno
    has_docstring = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
    return last - function.lineno + 1 - docstring


def n_branches(body: Iterable[ast.AST]) -> int:
    """Return the decision points of some statements, as McCabe's complexity counts them (one less than it)."""
    total = 0
    for node in body:
        if isinstance(node, ast.If | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler | ast.match_case):
            total += 1
        elif isinstance(node, ast.Try | ast.TryStar):
            total += bool(node.orelse)
        elif isinstance(node, ast.Match):
            # A last case that takes everything is the else of the others.
            total -= isinstance(node.cases[-1].pattern, ast.MatchAs) and node.cases[-1].guard is None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            total += 1
        for field in ("body", "orelse", "handlers", "finalbody", "cases"):
            inner = getattr(node, field, [])
            total += n_branches(inner) if isinstance(inner, list) else 0
    return total


def entered_before_kernel() -> list[str]:
    """Return the modules that `reorder` enters, flash-time on the example's profile, until it calls a kernel.

    In a process of its own, with kernels as plain Python, so that calls of them are seen.
    """
    script = """
import sys, tempfile
from pathlib import Path
from ripple_place.placing.params import PlacingParams
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder
import numpy as np
from tests.trace_builders import planted_clusters, write_stock_trace
entered = []
class Done(BaseException): pass
def note(frame, event, argument):
    name = frame.f_globals.get("__name__", "")
    if event == "call" and name.startswith("ripple_place.") and frame.f_code.co_name != "<module>":
        if name.startswith("ripple_place.kernels."):
            sys.setprofile(None)
            raise Done
        if name not in entered:
            entered.append(name)
folder = Path(tempfile.mkdtemp())
active = planted_clusters(np.random.default_rng(0), n_clusters=3, cluster_size=8, n_rows=300)[0]
profile(write_stock_trace(folder / "t", {"layers.0": active}), folder / "p", ProfileParams(verdict=None))
params = PlacingParams(ordering="flash-time", break_even_gap=5.0)
sys.setprofile(note)
try:
    reorder(None, folder / "p", folder / "out", params)
except Done:
    print("\\n".join(entered))
"""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return [name.removeprefix("ripple_place.") for name in done.stdout.split()]


def main() -> None:
    house, rows, chains = House(ROOT), [], []
    for start in STARTS:
        arrows = house.arrows_from(start)
        chain, up = longest_chain(arrows, start[0]), climbs(arrows)
        rows.append([".".join(start), str(len(arrows)), str(len(chain)), str(len(up))])
        rooms = Counter(module.partition(".")[0] for module in arrows if module)
        chains.append(
            "\n  ".join([f"Longest chain from {'.'.join(start)}:", *chain])
            + f"\nModules by room: {', '.join(f'{room} {count}' for room, count in rooms.most_common())}"
        )
        chains += [f"Climb: {module} -> {target}" for module, target in up]
    print(format_table(["entered from", "modules", "longest chain", "climbs"], rows))
    print("\n" + "\n\n".join(chains) + "\n")
    entered = entered_before_kernel()
    print(f"{len(entered)} modules entered by reorder before the first kernel:\n  " + "\n  ".join(entered) + "\n")
    found = sizes(ROOT)
    large = sorted((size for size in found if size.is_too_large), key=lambda size: (-size.n_lines, size.place))
    print(f"{len(large)} of {len(found)} functions above {MAX_LINES} lines or a complexity of {MAX_COMPLEXITY}:")
    print(
        format_table(
            ["function", "lines", "complexity"],
            [[f"{size.place} {size.name}", str(size.n_lines), str(size.complexity)] for size in large],
        )
    )


if __name__ == "__main__":
    main()
