"""What benchmarks/house.py counts, on code small enough to count by hand."""

from __future__ import annotations

import ast
import textwrap
from typing import TYPE_CHECKING

import pytest

from benchmarks.house import House, climbs, longest_chain, n_branches, n_lines, sizes

if TYPE_CHECKING:
    from pathlib import Path


def function(text: str) -> ast.FunctionDef:
    """Return the first function of some code."""
    node = ast.parse(textwrap.dedent(text)).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package whose workflow uses one of two functions of a module, and a type of another."""
    modules = {
        "__init__": "",
        "workflows/__init__": "",
        "workflows/work": """
            from __future__ import annotations
            from typing import TYPE_CHECKING
            from house.flash import device
            from house.scoring.again import used
            if TYPE_CHECKING:
                from house.pages.page import Page
            def work(page: Page) -> device.Kind:
                from house.kernels.loop import loop
                return loop(used(device.SIZE))
            """,
        "scoring/again": "from house.scoring.score import used\n",
        "scoring/score": """
            from house.flash.device import SIZE
            from house.trace.files import read
            def used(n): return n + SIZE
            def unused(n): return read(n)
            """,
        "flash/device": "from house.units import KIB\nSIZE: int = 4 * KIB\nKind = int\n",
        "units": "from house.cli.main import climb\nKIB = climb(1024)\n",
        "cli/main": "def climb(n): return n\n",
        "kernels/loop": "from house.trace.files import read\ndef loop(n): return read(n)\n",
        "trace/files": "def read(n): return n\n",
        "pages/page": "class Page: pass\n",
    }
    for name, text in modules.items():
        path = tmp_path / "house" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path / "house"


def test_names_are_followed_to_where_they_are_defined(package: Path) -> None:
    """Through modules that pass a name on; not into what is unused, an annotation, or a kernel's imports."""
    arrows = House(package).arrows_from(("workflows.work", "work"))
    assert arrows == {
        "workflows.work": {"scoring.score", "flash.device", "kernels.loop"},
        "scoring.score": {"flash.device"},
        "flash.device": {"units"},
        "units": {"cli.main"},
        "cli.main": set(),
        "kernels.loop": set(),
    }


def test_chains_and_climbs(package: Path) -> None:
    """The longest chain goes through all floors; the foundation that uses the command line climbs."""
    arrows = House(package).arrows_from(("workflows.work", "work"))
    assert longest_chain(arrows, "workflows.work") == [
        "workflows.work", "scoring.score", "flash.device", "units", "cli.main",
    ]  # fmt: skip
    assert climbs(arrows) == [("units", "cli.main")]


def test_lines_are_counted_without_the_docstring() -> None:
    """A docstring of three lines leaves the def, its parameters, and the body."""
    code = '''
        def f(
            n,
        ):
            """Return n.

            Always.
            """
            # A comment counts.
            return n
        '''
    assert n_lines(function(code.lstrip("\n"))) == 5
    assert n_lines(function("def f(n): return n")) == 1


@pytest.mark.parametrize(
    ("body", "branches"),
    [
        ("return n if n and m else m", 0),
        ("if n: pass", 1),
        ("if n: pass\n    elif m: pass\n    else: pass", 2),
        ("for i in n:\n        while m: pass", 2),
        ("try: pass\n    except ValueError: pass\n    except OSError: pass\n    else: pass\n    finally: pass", 3),
        ("with n:\n        if m: pass", 1),
        ("match n:\n        case 1: pass\n        case 2: pass\n        case _: pass", 2),
        ("def g():\n        if n: pass\n    return g", 2),
    ],
)
def test_branches_are_mccabe_s(body: str, branches: int) -> None:
    """Statements that decide, not expressions; a function in a function counts with what is in it."""
    assert n_branches(function(f"def f(n, m):\n    {body}\n").body) == branches


def test_long_functions_are_found_outside_the_kernels(tmp_path: Path) -> None:
    """Sixty lines are allowed, one more is not; loops in kernels may be as long as they like."""
    (tmp_path / "kernels").mkdir()
    long = "def long():\n" + "    pass\n" * 60
    (tmp_path / "kernels" / "loops.py").write_text(long)
    (tmp_path / "a.py").write_text(long + "def short():\n" + "    pass\n" * 59)
    assert [(size.name, size.n_lines, size.is_too_large) for size in sizes(tmp_path)] == [
        ("long", 61, True), ("short", 60, False),
    ]  # fmt: skip
    (tmp_path / "b.py").write_text("def branched(n):\n" + "    if n: pass\n" * 12)
    assert [size.name for size in sizes(tmp_path) if size.complexity > 12] == ["branched"]
