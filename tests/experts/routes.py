"""Route traces as an engine wrote them on a phone, read plainly: the accesses of a trace, and what was resident."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace, Magnitudes

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, eq=False)
class Routes:
    """What a file of routes says.

    Attributes
    ----------
    trace : ActivationTrace
        Of experts, with phases, weights and bytes.
    residency : dict of (int, int, int) to bool
        By token, layer and expert: whether the engine had it in memory.
    """

    trace: ActivationTrace
    residency: dict[tuple[int, int, int], bool]


def read_routes(path: Path) -> Routes:
    """Read a file of routes: a token is a turn, a phase and a step."""
    lines = path.read_text().splitlines()
    head = dict(part.split("=", 1) for line in lines if line.startswith("# model") for part in line[2:].split())
    # The column of bytes is 0 where nothing was read; the header has the bytes of each layer's experts.
    layer_lines = [line[2:].split() for line in lines if line.startswith("# layer=")]
    sizes = {f"layers.{line[0].split('=')[1]}": int(line[1].split("=")[1]) for line in layer_lines}
    n_layers, n_experts = int(head["n_layer"]), int(head["n_expert"])
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    keys = [(int(row["turn"]), int(row["phase"]), int(row["step"])) for row in rows]
    tokens = {key: token for token, key in enumerate(sorted(set(keys)))}
    at: list[dict[int, dict[int, float]]] = [{} for _ in range(n_layers)]
    residency = {}
    for key, row in zip(keys, rows, strict=True):
        token, layer, expert = tokens[key], int(row["layer"]), int(row["expert"])
        at[layer].setdefault(token, {})[expert] = float(row["weight"])
        residency[token, layer, expert] = row["residency"] == "1"
    blocks = {}
    for layer, by_token in enumerate(at):
        index = sorted(by_token)
        bits = np.zeros((len(index), n_experts), bool)
        for row_at, token in enumerate(index):
            bits[row_at, list(by_token[token])] = True
        weights = [by_token[token][expert] for token in index for expert in sorted(by_token[token])]
        experts = [expert for token in index for expert in sorted(by_token[token])]
        starts = np.cumsum([0, *(len(by_token[token]) for token in index)])
        blocks[f"layers.{layer}"] = BlockTrace(
            n_experts, np.packbits(bits, axis=1, bitorder="little"), np.array(index, np.int32),
            Magnitudes(starts.astype(np.int64), np.array(experts, np.int32), np.array(weights, np.float32)),
        )  # fmt: skip
    ordered = sorted(tokens)
    starts = [token for token, key in enumerate(ordered) if token == 0 or key[0] != ordered[token - 1][0]]
    trace = ActivationTrace(
        blocks, len(tokens), np.array(starts, np.int64),
        metadata={"unit": "expert", "activity": "routed", "unit_bytes": json.dumps(sizes)},
        phases=np.array([key[1] for key in ordered], np.uint8),
    )  # fmt: skip
    return Routes(trace, residency)
