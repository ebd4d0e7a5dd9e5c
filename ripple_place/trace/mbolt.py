"""Co-activation tables of experts as mbolt writes them: how often each was used, and pairs of them together.

References
----------
github.com/doramirdor/mbolt, results: ``coactivation_MODEL.json``. ``heat`` are counts of all tokens; ``pairs`` are
``[i, j, count, lift]``, at most 2000 of a layer, of those with a lift of 1.5 or more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import EXPERT, sorted_blocks
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.jsontext import read_json_object
from ripple_place.trace.firing_counts import FiringCounts, PairCounts

if TYPE_CHECKING:
    from pathlib import Path

_MAX_COUNT = 2**31
"""Counts of pairs are int32 in a profile."""


def read_coactivation(path: Path) -> FiringCounts:
    """Read mbolt's co-activation table.

    Returns
    -------
    FiringCounts
        Of experts, with the pairs that the table has.

    Raises
    ------
    UsageError
        If there is nothing at `path`, or no regular file.
    TraceFormatError
        If it is no such table, or contradicts itself: a pair counts more often than one of its experts, an expert
        more often than there are tokens.
    OSError
        If it cannot be read.
    """
    if not path.exists():
        raise UsageError(path, found="nothing there", expected="mbolt's co-activation table", remedy="check the path")
    document = read_json_object(path, TraceFormatError, remedy="copy the whole table again, as mbolt wrote it")
    try:
        return _counts(document)
    except ValueError as cause:
        raise TraceFormatError(
            path, found=str(cause), expected="mbolt's co-activation table: layers, each with its heat and pairs",
            remedy="give a coactivation_MODEL.json of mbolt, unchanged",
        ) from cause  # fmt: skip


def _counts(document: dict[str, Any]) -> FiringCounts:
    """Return the counts of a table; raise ValueError if it is malformed."""
    layers = _list("layers", document.get("layers"))
    n_tokens = document.get("n_decode_tokens")
    most = _MAX_COUNT if n_tokens is None else _whole("n_decode_tokens", n_tokens, 2**53) + 1
    n_experts = document.get("n_expert_per_layer")
    blocks, pairs = {}, {}
    for place, layer in enumerate(layers):
        if not isinstance(layer, dict):
            raise ValueError(f"layer {place}: {layer!r}")
        name = f"layers.{_whole('layer', layer.get('layer'), 10**9)}"
        heat = [_whole(f"{name}: heat", count, min(most, _MAX_COUNT)) for count in _list("heat", layer.get("heat"))]
        if name in blocks or not heat or (n_experts is not None and len(heat) != n_experts):
            raise ValueError(f"{name} twice, or with counts of {len(heat)} experts")
        blocks[name] = np.array(heat, np.int64)
        pairs[name] = _pairs(name, heat, _list("pairs", layer.get("pairs", [])))
    if not blocks:
        raise ValueError("no layers")
    model = document.get("model")
    if model is not None and not isinstance(model, str):
        raise ValueError(f"model {model!r}")
    names = sorted_blocks(blocks)
    return FiringCounts(
        {name: blocks[name] for name in names}, n_tokens, {name: pairs[name] for name in names}, EXPERT, model
    )


def _pairs(name: str, heat: list[int], entries: list[Any]) -> PairCounts:
    found: dict[tuple[int, int], int] = {}
    for entry in entries:
        if len(_list(f"{name}: pair", entry)) < 3:
            raise ValueError(f"{name}: pair {entry!r}")
        first, second = sorted(_whole(f"{name}: pair", expert, len(heat)) for expert in entry[:2])
        count = _whole(f"{name}: pair", entry[2], _MAX_COUNT)
        if first == second or (first, second) in found or not 1 <= count <= min(heat[first], heat[second]):
            raise ValueError(f"{name}: pair {entry!r}, of one expert, twice, or more often than one of the two")
        found[first, second] = count
    keys = np.array([*found], np.int32).reshape(-1, 2)
    return PairCounts(keys, np.array([*found.values()], np.int32))


def _whole(what: str, value: Any, limit: int) -> int:
    if type(value) is not int or not 0 <= value < limit:
        raise ValueError(f"{what} {value!r}")
    return value


def _list(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} {value!r}")
    return value
