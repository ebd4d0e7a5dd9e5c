"""The bytes of a unit by block, as the metadata of a trace record them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ripple_place.blocks import is_block_name
from ripple_place.errors import TraceFormatError
from ripple_place.jsontext import parse_json
from ripple_place.trace.activation_trace import RECORD_AGAIN, UNIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_UNIT_BYTES = 2**50
"""Far above any expert: sums over a model stay exact."""


def unit_bytes_metadata(sizes: Mapping[str, int]) -> dict[str, str]:
    """Return the entry of the metadata; empty without sizes.

    >>> unit_bytes_metadata({"layers.0": 3059712})
    {'unit_bytes': '{"layers.0": 3059712}'}
    """
    return {UNIT_BYTES: json.dumps(dict(sizes))} if sizes else {}


def read_unit_bytes(metadata: Mapping[str, str]) -> dict[str, int]:
    """Return the bytes of a unit by block; empty where the metadata do not say.

    Raises
    ------
    TraceFormatError
        If they say it in another form.
    """
    text = metadata.get(UNIT_BYTES)
    if text is None:
        return {}
    try:
        return checked_sizes(parse_json(text))
    except ValueError as cause:
        raise TraceFormatError(
            UNIT_BYTES, found=str(cause), expected='JSON such as {"layers.0": 3059712}', remedy=RECORD_AGAIN
        ) from cause


def checked_sizes(sizes: object) -> dict[str, int]:
    """Return sizes by block; raise ValueError if they are anything else."""
    if not isinstance(sizes, dict):
        raise ValueError(f"{UNIT_BYTES} {sizes!r}")
    for name, size in sizes.items():
        if not isinstance(name, str) or not is_block_name(name) or type(size) is not int:
            raise ValueError(f"{UNIT_BYTES} of {name!r}: {size!r}")
        if not 1 <= size <= MAX_UNIT_BYTES:
            raise ValueError(f"{UNIT_BYTES} of {name!r}: {size}, which is not from 1 to {MAX_UNIT_BYTES}")
    return dict(sizes)
