"""How the numbers of a profile may mislead, in sentences."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ripple_place.printable import listed
from ripple_place.verdict.verdict import SHORT_TRACE_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.graph.statistics import BlockStatistics

DENSE_TRACE_SHARE = 0.5
"""Above this active share, reads are long in any order."""
COUNTS_WARNING = "counts say nothing of which neurons fire together: order by frequency, or profile a trace"
"""Of a profile of imported counts."""
PAIRS_WARNING = "counts of pairs say nothing of what single tokens use: profile a trace to replay caches"
"""Of a profile of imported counts with pairs."""
_listed = partial(listed, at_most=4)


def trace_warnings(n_tokens: int, statistics: Mapping[str, BlockStatistics]) -> tuple[str, ...]:
    """Return how the profile of a trace may mislead, each with what to do about it.

    Parameters
    ----------
    n_tokens : int
        Of the trace.
    statistics : mapping of str to BlockStatistics
        By block.
    """
    warnings = []
    if n_tokens < SHORT_TRACE_TOKENS:
        warnings.append(
            f"the trace has {n_tokens} tokens; pair counts are mostly noise below {SHORT_TRACE_TOKENS}: "
            "record more text"
        )
    if unreached := [name for name, block in statistics.items() if block.n_rows == 0]:
        warnings.append(f"no token reached {_listed(unreached)}: record more text, or they stay as they are")
    if silent := [name for name, block in statistics.items() if block.n_rows and block.dead_neurons == block.n_neurons]:
        warnings.append(f"no neuron fires in {_listed(silent)}: check the activity rule of the trace")
    if dense := [name for name, block in statistics.items() if (block.active_share or 0) > DENSE_TRACE_SHARE]:
        warnings.append(f"more than half of the neurons fire in {_listed(dense)}: no placement can help there much")
    return tuple(warnings)
