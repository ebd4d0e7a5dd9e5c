"""Makes tiny traces of experts for tests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

if TYPE_CHECKING:
    from collections.abc import Sequence


def routed(
    layers: Sequence[Sequence[Sequence[int]]], phases: Sequence[int] | None = None, *, n_experts: int = 8,
    unit_bytes: Sequence[int] | None = None, segment_starts: Sequence[int] = (0,),
) -> ActivationTrace:  # fmt: skip
    """Return a trace in which token t uses the experts ``layers[layer][t]``."""
    blocks = {}
    for layer, tokens in enumerate(layers):
        bits = np.zeros((len(tokens), n_experts), bool)
        for token, experts in enumerate(tokens):
            bits[token, list(experts)] = True
        blocks[f"layers.{layer}"] = BlockTrace(n_experts, np.packbits(bits, axis=1, bitorder="little"))
    metadata = {"unit": "expert", "activity": "routed"}
    if unit_bytes is not None:
        metadata["unit_bytes"] = json.dumps(dict(zip(blocks, unit_bytes, strict=True)))
    return ActivationTrace(
        blocks, len(layers[0]), np.array(segment_starts, np.int64), metadata=metadata,
        phases=None if phases is None else np.array(phases, np.uint8),
    )  # fmt: skip
