"""Golden files: what a test makes, compared with what was reviewed and committed."""

from __future__ import annotations

import os
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden"


def check_golden(name: str, content: bytes) -> None:
    """Compare `content` with ``tests/golden/name``; ``make golden`` (REGENERATE_GOLDEN=1) writes the file instead."""
    check_file(GOLDEN / name, content)


def check_file(path: Path, content: bytes) -> None:
    """Compare `content` with a file that tests keep up to date, wherever it is; ``make golden`` writes it instead."""
    if os.environ.get("REGENERATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    assert path.exists(), f"{path} is missing: run `make golden` and review the file"
    assert content == path.read_bytes(), f"{path} differs: if that is meant, run `make golden` and review the diff"
