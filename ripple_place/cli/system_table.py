"""What ``simulate --system`` prints: all systems in one table, at one DRAM budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.cli.rendering import format_table
from ripple_place.printable import one_line
from ripple_place.scoring.system_columns import system_cells
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from ripple_place.scoring.systems import SystemScores


def systems_text(scores: SystemScores) -> str:
    """Return the table of systems, with a line above and the speedups' baseline below."""
    document: dict[str, Any] = scores.to_json()
    share = scores.budget_bytes / scores.model_bytes
    parts = [
        f"{one_line(scores.device.name)}; {scores.n_tokens:,} tokens; DRAM for {format_bytes(scores.budget_bytes)} of "
        f"{format_bytes(scores.model_bytes)} ({share:.1%}) in each system",
        format_table(*system_cells(document["layouts"])),
        f"Speedup is against {one_line(document['baseline'])}.",
    ]
    if scores.predicted is not None:
        parts.append(scores.predicted.sentences)
    return "\n\n".join(parts)
