"""Routes as JSON lines: an object for each token and layer, or one for each token (docs/formats.md)."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.jsontext import parse_json
from ripple_place.trace.activation_trace import DECODE, PREFILL, UNIT_BYTES
from ripple_place.trace.routes.routings import Routings, routes_error
from ripple_place.trace.unit_bytes import checked_sizes, unit_bytes_metadata

if TYPE_CHECKING:
    from typing import TextIO

PHASE_NAMES = {"prefill": PREFILL, "decode": DECODE}


def read_lines(where: object, text: TextIO) -> tuple[Routings, int | None, dict[str, str]]:
    """Read routes as JSON lines.

    Returns
    -------
    Routings
        With weights and phases if every line has them.
    n_experts : int or None
        Of a layer, where the first line says.
    metadata : dict of str to str
        ``model``, ``dataset`` and ``unit_bytes``, where the first line says.

    Raises
    ------
    TraceFormatError
        If a line is no JSON object, or of another form; if some lines have weights or phases and others do not.

    Notes
    -----
    About 40 bytes a routing, and one line at a time.
    """
    table = _Table()
    n_experts: int | None = None
    metadata: dict[str, str] = {}
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            entry = parse_json(line)
            if not isinstance(entry, dict):
                raise ValueError(f"a JSON {type(entry).__name__}")
            if "experts" in entry or "layers" in entry:
                table.add(entry)
            elif table.n_entries or metadata or n_experts is not None:
                raise ValueError("neither experts nor layers")
            else:
                n_experts, metadata = _read_header(entry)
        except ValueError as cause:
            raise routes_error(
                f"{where}: line {number}", found=str(cause),
                expected='an object such as {"token": 0, "layer": 3, "experts": [1, 5]}',
            ) from cause  # fmt: skip
    for what, n_with in (("weights", table.n_with_weights), ("phases", table.n_with_phase)):
        if 0 < n_with < table.n_entries:
            raise routes_error(
                where, found=f"{what} in {n_with} of {table.n_entries} lines", expected="them in all lines or in none"
            )
    return table.routings(), n_experts, metadata


@dataclass
class _Table:
    """Columns that grow line by line."""

    turns: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    layers: array[int] = field(default_factory=lambda: array("q"))
    experts: array[int] = field(default_factory=lambda: array("q"))
    weights: array[float] = field(default_factory=lambda: array("d"))
    phases: array[int] = field(default_factory=lambda: array("B"))
    n_entries: int = 0
    n_with_weights: int = 0
    n_with_phase: int = 0

    def add(self, entry: dict[str, Any]) -> None:
        """Add a line; raise ValueError if it is of another form."""
        phase = entry.get("phase")
        if phase is not None and (not isinstance(phase, str) or phase not in PHASE_NAMES):
            raise ValueError(f"phase {phase!r}")
        turn = _whole("turn", entry.get("turn", 0))
        weights = entry.get("weights")
        if "layers" in entry:
            token = _whole("token", entry.get("token", self.n_entries))
            of_layers, of_weights = _list("layers", entry["layers"]), weights
            if of_weights is not None and len(_list("weights", of_weights)) != len(of_layers):
                raise ValueError(f"{len(of_weights)} lists of weights for {len(of_layers)} layers")
            for layer, experts in enumerate(of_layers):
                self._add(turn, token, layer, experts, None if of_weights is None else of_weights[layer] or [], phase)
        else:
            token, layer = _whole("token", entry.get("token")), _whole("layer", entry.get("layer"))
            self._add(turn, token, layer, entry["experts"], weights, phase)
        self.n_entries += 1
        self.n_with_weights += weights is not None
        self.n_with_phase += phase is not None

    def _add(self, turn: int, token: int, layer: int, experts: Any, weights: Any, phase: str | None) -> None:
        """Add the experts of one token and layer; null and [] are none, as in layers without experts."""
        chosen = [] if experts is None else [_whole("expert", expert) for expert in _list("experts", experts)]
        if weights is not None:
            values = [_real("weight", value) for value in _list("weights", weights)]
            if len(values) != len(chosen):
                raise ValueError(f"{len(values)} weights for {len(chosen)} experts")
            self.weights.extend(values)
        n = len(chosen)
        for column, value in ((self.turns, turn), (self.tokens, token), (self.layers, layer)):
            column.extend([value] * n)
        self.experts.extend(chosen)
        if phase is not None:
            self.phases.extend([PHASE_NAMES[phase]] * n)

    def routings(self) -> Routings:
        """Return the table; weights and phases are in all lines or in none."""
        turns, tokens, layers, experts = (
            np.array(part, np.int64) for part in (self.turns, self.tokens, self.layers, self.experts)
        )
        n = len(self.experts)
        weights = np.array(self.weights, np.float64) if n and len(self.weights) == n else None
        phases = np.array(self.phases, np.uint8) if n and len(self.phases) == n else None
        return Routings(turns, tokens, layers, experts, weights, phases)


def _read_header(entry: dict[str, Any]) -> tuple[int | None, dict[str, str]]:
    """Return the number of experts and the metadata of a first line that has no routes."""
    keys = ("model", "dataset", "n_experts", UNIT_BYTES)
    if not entry or not {*entry} <= {*keys}:
        raise ValueError(f"keys {[*entry][:8]}; a first line without routes has some of {', '.join(keys)}")
    metadata: dict[str, str] = {}
    for key in ("model", "dataset"):
        if key in entry:
            if not isinstance(entry[key], str):
                raise ValueError(f"{key} {entry[key]!r}")
            metadata[key] = entry[key]
    if UNIT_BYTES in entry:
        metadata |= unit_bytes_metadata(checked_sizes(entry[UNIT_BYTES]))
    n_experts = entry.get("n_experts")
    return None if n_experts is None else _whole("n_experts", n_experts), metadata


def _whole(what: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{what} {value!r}")
    return value


def _real(what: str, value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 2**128:
        raise ValueError(f"{what} {value!r}")
    return float(value)


def _list(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} {value!r}")
    return value
