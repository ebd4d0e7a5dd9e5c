"""Outputs inside of outputs: `verify` takes every file of an output for a part of it, so none may lie in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.checkpoint.names import MANIFEST_FILE
from ripple_place.checkpoint.output.outdir import real_path
from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def check_no_output_around(out: Path) -> None:
    """Raise UsageError if `out` lies inside an output, which it would make fail its verification."""
    for parent in real_path(out).parents:
        if (parent / MANIFEST_FILE).is_file():
            raise UsageError(
                out, found=f"a path inside {parent}, an output of an earlier run", expected="a path outside of outputs",
                remedy=f"name a directory beside {parent}: verify refuses files that were added to an output",
            )  # fmt: skip


def check_no_output_within(source: Path, directory: Path) -> None:
    """Raise UsageError if a directory of a checkpoint is an output, whose neurons are in another order."""
    if (directory / MANIFEST_FILE).is_file():
        raise UsageError(
            directory, found=f"an output of an earlier run inside the checkpoint {source}",
            expected="a checkpoint without one", remedy="move the output out of the checkpoint",
        )  # fmt: skip
