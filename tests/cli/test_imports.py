"""What may be imported: nothing heavy before it is needed, and nothing against the arrows of the architecture."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ripple_place
from ripple_place.cli.main import cli

HEAVY = {"numpy", "numba", "llvmlite", "scipy", "networkx", "torch", "matplotlib", "tqdm", "safetensors"}
ROOT = Path(ripple_place.__file__).parent

FOUNDATION = {"errors", "units", "blocks", "jsontext", "tensorfile", "torchfile", "placement"}
LAYERS = [
    {"cli"}, {"workflows"}, {"checkpoint", "flash", "ordering"}, {"graph"}, {"trace"}, FOUNDATION,
]  # fmt: skip
"""From the top down: a module may import what lies below it, and its own folder; those in one row do not see each
other, but for the foundation, whose modules build on each other."""


def modules_loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after running `code`."""
    report = "\nimport sys; sys.stderr.write('\\n'.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code + report], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    """The package itself is a name and a version."""
    assert not modules_loaded_by("import ripple_place") & HEAVY


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in sorted(cli.commands))])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Help starts at once: each command imports what it needs when it runs."""
    code = f"""
import sys
from ripple_place.cli.main import main
sys.argv = ["ripple-place", *{arguments!r}]
try:
    main()
except SystemExit as done:
    assert done.code == 0
"""
    loaded = modules_loaded_by(code)
    assert "click" in loaded
    assert not loaded & HEAVY


def module_name(path: Path) -> str:
    """Return the dotted name of a module of ours, relative to the package; "" is the package itself."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_of(path: Path) -> set[str]:
    """Return the modules of ours that a module imports, wherever in it, relative to the package."""
    imported = set()
    package = ["ripple_place", *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*origin, *([node.module] if node.module else [])])
            # `from ripple_place.flash import device` may name a module or something in one.
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        imported |= {name.removeprefix("ripple_place").lstrip(".") for name in names if name.startswith("ripple_place")}
    return imported


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def row_of(module: str) -> int | None:
    """Return the row of `LAYERS` that a module lies in; None for the package itself, kernels and what is no module."""
    part = module.partition(".")[0]
    return next((row for row, parts in enumerate(LAYERS) if part in parts), None)


def is_allowed(importer: str, imported: str) -> bool:
    """Tell whether the arrow from one module to another points down."""
    here, there = importer.partition(".")[0], imported.partition(".")[0]
    if here == there or imported not in MODULES or there == "":
        return True
    if here == "kernels":
        return False
    if importer in ("", "__main__"):
        return importer == "__main__" and there == "cli"
    row, other = row_of(importer), row_of(imported)
    assert row is not None, f"{importer} is in no layer: add it to LAYERS and to the design"
    if there == "kernels":
        return row > 1
    assert other is not None, f"{imported} is in no layer: add it to LAYERS and to the design"
    return other > row or (row == other and here in FOUNDATION)


@pytest.mark.parametrize("module", MODULES, ids=lambda name: name or "ripple_place")
def test_imports_point_down(module: str) -> None:
    """cli, workflows, the three that do not see each other, graph, trace, foundation; kernels are leaves.

    Imports within functions and under TYPE_CHECKING count: what a module knows of, it depends on.
    """
    wrong = [imported for imported in sorted(imports_of(MODULES[module])) if not is_allowed(module, imported)]
    assert not wrong, f"{module} imports {', '.join(wrong)}"


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("cli.main", "workflows.profile", True),
        ("workflows.profile", "cli.main", False),
        ("flash.layout", "placement", True),
        ("flash.layout", "checkpoint.plan", False),
        ("ordering.greedy_path", "flash.device", False),
        ("ordering.greedy_path", "kernels.path", True),
        ("workflows.profile", "kernels.path", False),
        ("kernels.path", "errors", False),
        ("kernels.coactivation", "kernels.bits", True),
        ("graph.profile", "trace.files", True),
        ("trace.files", "graph.profile", False),
        ("placement", "tensorfile", True),
        ("tensorfile", "trace.files", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    """A test of arrows that let every arrow pass would pass."""
    assert {importer, imported} <= MODULES.keys()
    assert is_allowed(importer, imported) == allowed


def test_imports_are_seen_wherever_they_are() -> None:
    """At the top, in a function, under TYPE_CHECKING, relative, and of a name in a module."""
    assert {"blocks", "errors", "tensorfile"} <= imports_of(ROOT / "placement.py")
    assert "trace.activation_trace" in imports_of(ROOT / "graph" / "coactivation.py")
    assert "workflows.profile" in imports_of(ROOT / "cli" / "profile.py")
