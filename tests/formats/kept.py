"""Golden files of formats: each is written once and read for ever (tests/golden/formats/README.md)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.golden_files import GOLDEN

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = GOLDEN / "formats"


def kept(name: str, content: bytes) -> Path:
    """Return the path of a golden file; ``make golden`` (REGENERATE_GOLDEN=1) makes it of `content` if it is missing.

    Unlike other golden files, one that exists is never written again.
    """
    path = FORMATS / name
    if not path.exists() and os.environ.get("REGENERATE_GOLDEN") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert path.exists(), f"{path} is missing: run `make golden` and review the file"
    return path


def check_still_written(name: str, content: bytes) -> None:
    """Compare what this version writes with the golden file of an earlier one, byte for byte."""
    path = kept(name, content)
    assert content == path.read_bytes(), (
        f"this version writes other bytes than {path}. If that is meant, keep the file and add another beside it, as "
        f"{FORMATS / 'README.md'} says"
    )
