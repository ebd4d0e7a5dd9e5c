"""What a missing package is answered with."""

from __future__ import annotations

import tomllib
from pathlib import Path

from ripple_place.extras import EXTRAS


def test_the_extras_are_those_of_the_package() -> None:
    """What the error tells the user to install is what `pip install '.[capture]'` does."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert {name: list(packages) for name, packages in EXTRAS.items()} == {
        name: packages for name, packages in project["optional-dependencies"].items() if name != "dev"
    }
