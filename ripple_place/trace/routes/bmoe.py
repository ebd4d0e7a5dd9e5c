"""Route traces of BigMoeOnEdge: CSV under a header ``# route_trace v1``, one line a routing.

References
----------
github.com/Helldez/BigMoeOnEdge, docs/bench-data/2026-07-15-route-trace.
"""

from __future__ import annotations

import re
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.trace.activation_trace import PHASES
from ripple_place.trace.routes.routings import Routings, check_whole, cut_off_error, routes_error
from ripple_place.trace.routes.tables import read_table, whole_numbers
from ripple_place.trace.unit_bytes import MAX_UNIT_BYTES, unit_bytes_metadata

if TYPE_CHECKING:
    from typing import TextIO

MARK = "# route_trace"
_VERSION = "v1"
_NEEDED = ("turn", "phase", "step", "layer", "slot", "expert", "weight")
_PAIR = re.compile(r"(\w+)=(.*?)(?=\s+\w+=|\s*$)")


def read_route_trace(where: object, text: TextIO) -> tuple[Routings, int | None, dict[str, str]]:
    """Read a route trace.

    Parameters
    ----------
    where : object
        The source, for messages.
    text : text file

    Returns
    -------
    Routings
        With phases and weights. The token of a turn is the step.
    n_experts : int or None
        Of a layer, where the header says.
    metadata : dict of str to str
        ``model`` and ``unit_bytes``, where the header says.

    Raises
    ------
    TraceFormatError
        If it is of another version, a column is missing or malformed, the slots of a token in a layer are not 0, 1 and
        so on up to the experts used, or a token that was generated lacks a layer.
    """
    header, names = _read_header(where, text)
    columns = tuple(name.strip() for name in names.split(","))
    if len(set(columns)) < len(columns) or not {*_NEEDED} <= {*columns}:
        raise routes_error(where, found=f"columns {names!r}", expected=f"columns {', '.join(_NEEDED)}, each once")
    table = read_table(where, text, columns)
    column = {name: table[:, place] for place, name in enumerate(columns)}
    turns, phases, steps, layers, slots, experts = (
        whole_numbers(where, name, column[name]) for name in ("turn", "phase", "step", "layer", "slot", "expert")
    )
    if (bad := phases > max(PHASES)).any():
        at = int(bad.argmax())
        raise routes_error(f"{where}: row {at + 1}", found=f"phase {phases[at]}", expected="0 (prefill) or 1 (decode)")
    routings = Routings(turns, steps, layers, experts, column["weight"], phases.astype(np.uint8))
    _check_slots(where, routings, slots, _number(where, header, "n_expert_used"))
    check_whole(where, routings)
    metadata = {"model": PureWindowsPath(header["model"]).name} if header.get("model") else {}
    sizes = {
        f"layers.{name.removeprefix(_OF_LAYER)}": _number(where, header, name)
        for name in header if name.startswith(_OF_LAYER)
    }  # fmt: skip
    here = {f"layers.{layer}" for layer in np.unique(layers)}
    if here <= sizes.keys():
        metadata |= unit_bytes_metadata({name: size for name, size in sizes.items() if size and name in here})
    return routings, _number(where, header, "n_expert"), metadata


_OF_LAYER = "expert_bytes of layer "


def _read_header(where: object, text: TextIO) -> tuple[dict[str, str], str]:
    """Return what the lines that begin with # say, and the line that names the columns."""
    first = text.readline().strip()
    if first != f"{MARK} {_VERSION}":
        raise routes_error(where, found=repr(first[:80]), expected=f"{MARK} {_VERSION}")
    header: dict[str, str] = {}
    for line in text:
        if not line.startswith("#"):
            return header, line.strip()
        said = dict(_PAIR.findall(line[1:]))
        if "layer" in said:
            header[_OF_LAYER + said["layer"]] = said.get("expert_bytes", "")
        else:
            header |= said
    raise routes_error(where, found="a header and nothing below it", expected=f"columns {', '.join(_NEEDED)}")


def _number(where: object, header: dict[str, str], name: str) -> int | None:
    """Return a number of the header; None where it is absent."""
    value = header.get(name)
    if value is None:
        return None
    if re.fullmatch("[1-9][0-9]{0,15}", value) is None or int(value) > MAX_UNIT_BYTES:
        raise routes_error(f"{where}: header", found=f"{name}={value}", expected=f"a number from 1 to {MAX_UNIT_BYTES}")
    return int(value)


def _check_slots(where: object, routings: Routings, slots: np.ndarray, n_used: int | None) -> None:
    """Raise unless the slots of each token in each layer are 0, 1 and so on, as many everywhere."""
    order = np.lexsort((slots, routings.layers, routings.tokens, routings.turns))
    keys = np.stack([routings.turns, routings.tokens, routings.layers])[:, order]
    starts = np.flatnonzero(np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)))
    counts = np.diff(np.append(starts, order.size))
    used = int(counts.max()) if n_used is None else n_used
    bad = counts != used
    wrong = slots[order] != np.arange(order.size) - np.repeat(starts, counts)
    bad |= np.bitwise_or.reduceat(wrong, starts)
    if bad.any():
        at = int(bad.argmax())
        turn, token, layer = keys[:, starts[at]].tolist()
        found = slots[order][starts[at] : starts[at] + min(counts[at], 16)].tolist()
        raise cut_off_error(
            f"{where}: turn {turn}, step {token}, layer {layer}", found=f"slots {found}",
            expected=f"slots 0 to {used - 1}",
        )  # fmt: skip
