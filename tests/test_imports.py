"""What may be imported: nothing heavy before it is needed, and nothing against the arrows of the architecture."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ripple_place
from ripple_place.cli.main import cli

HEAVY = {
    "numpy", "numba", "llvmlite", "scipy", "networkx", "torch", "matplotlib", "tqdm", "safetensors", "jinja2",
    "tomli_w", "threadpoolctl",
}  # fmt: skip
ROOT = Path(ripple_place.__file__).parent

FOUNDATION = {"errors", "units", "blocks", "bundle_sizes", "jsontext", "tensorfile", "torchfile", "placement",
              "tracking", "outputs", "version", "paths", "arrays", "locks", "newfile", "printable", "extras",
              "inputfile", "storedarray", "torchpickle", "hub", "foreign"}  # fmt: skip
LAYERS = [
    {"cli"}, {"workflows"}, {"pages"}, {"verdict", "scoring"}, {"systems", "generation"},
    {"placing", "capture", "runtime"},
    {"ordering", "select", "experts"}, {"checkpoint", "flash", "graph"}, {"predict"}, {"trace"}, FOUNDATION,
    {"kernels"},
]  # fmt: skip
"""From the top down: a module may import what lies below it, and its own room; those in one row do not see each other,
but for the foundation, whose modules build on each other."""


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


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
MODULE_NAMES = {f"ripple_place.{name}".rstrip(".") for name in MODULES}


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
            names = [f"{base}.{alias.name}" for alias in node.names]
            if base != "ripple_place" or any(name not in MODULE_NAMES for name in names):
                names.append(base)
        else:
            continue
        imported |= {name.removeprefix("ripple_place").lstrip(".") for name in names if name.startswith("ripple_place")}
    return imported


def row_of(module: str) -> int | None:
    """Return the row of `LAYERS` that a module lies in; None for the package itself and for other names."""
    part = module.partition(".")[0]
    return next((row for row, parts in enumerate(LAYERS) if part in parts), None)


def is_allowed(importer: str, imported: str) -> bool:
    """Tell whether the arrow from one module to another points down."""
    here, there = importer.partition(".")[0], imported.partition(".")[0]
    if here == there or imported not in MODULES:
        return True
    if importer in ("", "__main__"):
        # The package offers the workflows by name; nothing in it goes through that.
        return there in ({"cli"} if importer else {part for row in LAYERS[1:] for part in row})
    row, other = row_of(importer), row_of(imported)
    if there in ("", "__main__"):
        return False
    assert row is not None, f"{importer} is in no layer: add it to LAYERS and to docs/developing.md"
    assert other is not None, f"{imported} is in no layer: add it to LAYERS and to docs/developing.md"
    return other > row or (row == other and here in FOUNDATION)


def circle_in(arrows: dict[str, set[str]]) -> list[str]:
    """Return nodes that lead back to the first of them; empty if no arrows do."""
    done: set[str] = set()

    def follow(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for target in sorted(arrows.get(node, ())):
            if found := follow(target, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(arrows) if (found := follow(node, []))), [])


@pytest.mark.parametrize("module", MODULES, ids=lambda name: name or "ripple_place")
def test_imports_point_down(module: str) -> None:
    """One stack of rooms, with the kernels, which import nothing of ours, at the bottom.

    Imports within functions and under TYPE_CHECKING count: what a module knows of, it depends on.
    """
    wrong = [imported for imported in sorted(imports_of(MODULES[module])) if not is_allowed(module, imported)]
    assert not wrong, f"{module} imports {', '.join(wrong)}"


def test_no_modules_import_each_other() -> None:
    """No circle of modules, however long, and wherever in them the imports stand."""
    arrows = {name: {other for other in imports_of(path) if other in MODULES} for name, path in MODULES.items()}
    assert circle_in(arrows) == []


def test_no_rooms_within_a_room_import_each_other() -> None:
    """A folder inside a room uses another one or is used by it, not both; loose files are rooms of their own."""
    for room in {name.partition(".")[0] for name in MODULES}:
        inside = {name: path for name, path in MODULES.items() if name.startswith(f"{room}.")}
        arrows: dict[str, set[str]] = {}
        for name, path in inside.items():
            part = name.split(".")[1]
            targets = {other.split(".")[1] for other in imports_of(path) if other in inside}
            arrows.setdefault(part, set()).update(targets - {part})
        assert circle_in(arrows) == []


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("cli.main", "workflows.profile", True),
        ("workflows.profile", "cli.main", False),
        ("workflows.reorder", "placing.place", True),
        ("placing.place", "workflows.reorder", False),
        ("placing.place", "capture.run", False),
        ("flash.layout", "placement", True),
        ("flash.layout", "checkpoint.output.plan", False),
        ("flash.layout", "graph.profile", False),
        ("ordering.greedy_path", "flash.layout", True),
        ("flash.layout", "ordering.greedy_path", False),
        ("workflows.simulate", "scoring.score", True),
        ("pages.simulation_files", "scoring.score", True),
        ("scoring.score", "pages.simulation_files", False),
        ("scoring.score", "verdict.judge", False),
        ("workflows.profile", "kernels.path", True),
        ("kernels.path", "errors", False),
        ("kernels.coactivation", "kernels.bits", True),
        ("graph.profile", "trace.files", True),
        ("trace.files", "graph.profile", False),
        ("placement", "tensorfile", True),
        ("tensorfile", "trace.files", False),
        ("", "cli.main", False),
        ("", "workflows.reorder", True),
        ("placing.place", "", False),
    ],
)
def test_the_rule_itself(importer: str, imported: str, allowed: bool) -> None:
    """A test of arrows that let every arrow pass would pass."""
    assert {importer, imported} <= MODULES.keys()
    assert is_allowed(importer, imported) == allowed


def test_circles_are_found() -> None:
    """One of two nodes, one of three, and none."""
    assert circle_in({"a": {"b"}, "b": {"a"}}) == ["a", "b", "a"]
    assert circle_in({"a": {"b", "d"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_are_seen_wherever_they_are() -> None:
    """At the top, in a function, under TYPE_CHECKING, relative, and of a name in a module."""
    assert {"blocks", "errors", "tensorfile"} <= imports_of(ROOT / "placement.py")
    assert "trace.activation_trace" in imports_of(ROOT / "graph" / "neuron_bits.py")
    assert "workflows.profile" in imports_of(ROOT / "cli" / "profile.py")
