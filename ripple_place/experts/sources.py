"""Which sources are traces of experts, told before the whole of a trace of neurons is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.blocks import EXPERT
from ripple_place.errors import RipplePlaceError
from ripple_place.tensorfile import TensorFile
from ripple_place.trace.adapters import is_adapter
from ripple_place.trace.sources import read_sources
from ripple_place.trace.synthetic import is_synthetic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.trace.activation_trace import ActivationTrace

_OF_NEURONS = (".npy", ".npz")
_ADAPTERS_OF_NEURONS = ("dejavu:", "dense:", "packed:", "powerinfer:")


def read_expert_trace(paths: Sequence[Path]) -> ActivationTrace | None:
    """Read sources as one trace of experts; None if they are of something else, or there is none to read.

    Raises
    ------
    TraceFormatError, UsageError
        If sources of experts are malformed, or experts stand beside something else.
    OSError
        If a file cannot be read.
    """
    if not any(_may_have_experts(path) for path in paths):
        return None
    trace = read_sources(list(paths))
    return trace if trace.unit == EXPERT else None


def _may_have_experts(path: Path) -> bool:
    """Tell whether a source has experts, or has to be read to know."""
    if is_synthetic(path) or path.suffix in _OF_NEURONS or str(path).startswith(_ADAPTERS_OF_NEURONS):
        return False
    if is_adapter(path):
        return True
    if not path.is_file():
        return False
    try:
        return TensorFile.open(path).metadata.get("unit") == EXPERT
    except RipplePlaceError:
        # No such file: routes, or something that whoever reads it next refuses.
        return path.suffix != ".safetensors"
