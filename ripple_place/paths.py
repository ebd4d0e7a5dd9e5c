"""Paths as callers write them: text or `Path`, one or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

Paths = str | Path | Sequence[str | Path]
"""One path, or several."""


def as_paths(paths: Paths) -> tuple[Path, ...]:
    """Return the paths as a tuple.

    >>> [path.name for path in as_paths("wiki.txt")], [path.name for path in as_paths(["a", Path("b")])]
    (['wiki.txt'], ['a', 'b'])
    """
    return (Path(paths),) if isinstance(paths, str | Path) else tuple(map(Path, paths))
