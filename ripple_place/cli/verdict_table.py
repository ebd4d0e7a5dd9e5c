"""The verdict of ``profile`` as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.cli.rendering import format_table
from ripple_place.printable import one_line

if TYPE_CHECKING:
    from ripple_place.verdict.verdict import Verdict

MAX_ROWS, FIRST_ROWS = 8, 4
"""Up to `MAX_ROWS` blocks are all listed; of more, the first `FIRST_ROWS`."""


def verdict_text(verdict: Verdict) -> str:
    """Return the table of blocks, notes on those that placement cannot help, and the verdict in sentences."""
    from ripple_place.verdict.sentences import BLOCK_HEAD, block_row, sentences

    parts = []
    names = list(verdict.blocks)
    if names:
        shown = names if len(names) <= MAX_ROWS else names[:FIRST_ROWS]
        table = format_table(BLOCK_HEAD, [block_row(verdict, name) for name in shown])
        parts.append("\n".join([table, *_more(len(names) - len(shown))]))
    if verdict.notes:
        notes = list(verdict.notes.items())
        shown_notes = notes if len(notes) <= MAX_ROWS else notes[:FIRST_ROWS]
        lines = [f"{name}: {one_line(note)}." for name, note in shown_notes]
        parts.append("\n".join([*lines, *_more(len(notes) - len(shown_notes))]))
    parts.append("\n".join(f"- {one_line(sentence)}" for sentence in sentences(verdict)))
    return "\n\n".join(parts)


def _more(n_blocks: int) -> list[str]:
    return [f"and {n_blocks:,} more (--json has all)"] if n_blocks else []
