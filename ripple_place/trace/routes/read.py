"""Reads routes in any of the forms that engines write them in, told apart by how they begin."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.foreign import file_error
from ripple_place.inputfile import open_stream
from ripple_place.trace.routes.bmoe import MARK, read_route_trace
from ripple_place.trace.routes.lines import read_lines
from ripple_place.trace.routes.moe_trace import read_moe_trace
from ripple_place.trace.routes.routings import MAX_EXPERTS, trace_of_routings
from ripple_place.trace.routes.tables import open_text

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.trace.adapters import AdapterSource

ROUTE_TRACE, MOE_TRACE, LINES = "route trace", "moe-trace", "JSON lines"
_BEGINNING_BYTES = 4096
_PAIRS = re.compile(rb"(?:\s*#[^\n]*\n)*\s*(?:layer\s*,\s*expert|\d+[ \t]*,[ \t]*\d+)[ \t]*(?:[\r\n]|$)", re.IGNORECASE)


def form_of_routes(path: Path) -> str | None:
    """Return the form of the routes in a file, told by how it begins; None if it holds none.

    Raises
    ------
    UsageError, OSError
        If it is no regular file, or cannot be read.
    """
    with open_stream(path) as file:
        beginning = file.read(_BEGINNING_BYTES).removeprefix(b"\xef\xbb\xbf")
    if beginning.startswith(MARK.encode()):
        return ROUTE_TRACE
    if beginning.lstrip().startswith(b"{"):
        return LINES
    return MOE_TRACE if _PAIRS.match(beginning) else None


def read_routes(source: AdapterSource) -> ActivationTrace:
    """Read routes, ``routes:FILE[,used=K][,experts=N]``, as a trace whose unit is an expert.

    Parameters
    ----------
    source : AdapterSource
        ``used``, experts that a token uses in a layer, is for files that do not say; ``experts``, those of a layer,
        for files that do not say and do not use the last one.

    Raises
    ------
    UsageError
        If there is nothing at its path, or an option is wrong, or of another form.
    TraceFormatError
        If the file holds no routes, or is malformed.
    OSError
        If it cannot be read.

    Notes
    -----
    The whole table is in memory, with about 100 bytes a routing.
    """
    where = source if source.options else source.path
    n_used, n_experts = source.count("used"), source.count("experts")
    if not source.path.exists():
        raise UsageError(where, found="nothing there", expected="a file of routes", remedy="check the path")
    form = form_of_routes(source.path)
    if form is None:
        raise file_error(
            TraceFormatError, source.path, found="no routes",
            expected="a route trace (# route_trace v1), lines `layer,expert`, or JSON lines",
            remedy="convert the routes to one of these (docs/formats.md)",
        )  # fmt: skip
    if n_used is not None and form != MOE_TRACE:
        raise UsageError(
            where, found=f"used={n_used} for a {form}, which says itself", expected="it only with lines `layer,expert`",
            remedy="leave used=K out",
        )  # fmt: skip
    metadata: dict[str, str] = {"dataset": source.path.name}
    with open_text(source.path) as text:
        if form == MOE_TRACE:
            routings, said = read_moe_trace(where, text, n_used)
            claimed = None
        else:
            read = read_route_trace if form == ROUTE_TRACE else read_lines
            routings, claimed, said = read(where, text)
    if n_experts is not None and (n_experts > MAX_EXPERTS or (claimed is not None and n_experts != claimed)):
        raise UsageError(
            where, found=f"experts={n_experts}", expected=f"{claimed or f'1 to {MAX_EXPERTS}'}",
            remedy="correct the number, or leave experts=N out",
        )  # fmt: skip
    return trace_of_routings(where, routings, n_experts or claimed, metadata | said)
