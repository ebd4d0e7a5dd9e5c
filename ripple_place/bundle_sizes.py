"""Bytes of bundles: one size for all blocks of neurons, two for columns, or one a block, as files record them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ripple_place.blocks import COLUMN, is_input_block
from ripple_place.errors import UsageError
from ripple_place.jsontext import parse_json
from ripple_place.units import parse_bytes, parse_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BundleBytes = int | tuple[int, int]
"""Bytes of a bundle: of any neuron, or of an input column and of a down column."""
MAX_BUNDLE_BYTES = 2**24
"""Weights of one neuron; no model's come near it, and products with numbers of neurons stay far below 2**63."""


def parse_bundle_bytes(text: str) -> BundleBytes:
    """Return one size, or those of an input column and of a down column.

    >>> parse_bundle_bytes("4KiB"), parse_bundle_bytes("16KiB,4KiB")
    (4096, (16384, 4096))

    Raises
    ------
    UsageError
        If `text` is neither.
    """
    if text.count(",") != 1:
        return parse_bytes(text)
    of_input, of_down = map(parse_bytes, text.split(","))
    return of_input, of_down


def check_bundle_bytes(bundle_bytes: BundleBytes | None) -> None:
    """Refuse bundle sizes that no model has; None, unknown, passes.

    Raises
    ------
    UsageError
        If one is below 1 or above `MAX_BUNDLE_BYTES`.
    """
    for size in bundle_bytes if isinstance(bundle_bytes, tuple) else (bundle_bytes,):
        if size is not None and not 1 <= size <= MAX_BUNDLE_BYTES:
            raise UsageError(
                "--bundle-bytes", found=str(size), expected=f"1 to {MAX_BUNDLE_BYTES}",
                remedy="give the bytes of one neuron's weights",
            )  # fmt: skip


def sizes_of_blocks(bundle_bytes: BundleBytes, unit: str, names: Iterable[str]) -> dict[str, int]:
    """Return the bytes of a bundle by block.

    >>> sizes_of_blocks((16384, 4096), "column", ["layers.0.input", "layers.0"])
    {'layers.0.input': 16384, 'layers.0': 4096}

    Raises
    ------
    UsageError
        If there is one size and blocks are of columns, or there are two and blocks are of neurons.
    """
    if isinstance(bundle_bytes, int):
        if unit == COLUMN:
            raise UsageError(
                "--bundle-bytes", found="one size, and blocks of columns",
                expected="the size of an input column of up and gate, and that of a down column",
                remedy="give both, such as --bundle-bytes 32KiB,8KiB",
            )  # fmt: skip
        return dict.fromkeys(names, bundle_bytes)
    if unit != COLUMN:
        raise UsageError(
            "--bundle-bytes", found=f"two sizes, and blocks of {unit}s", expected="the size of a neuron's weights",
            remedy="give one size, such as --bundle-bytes 24KiB",
        )  # fmt: skip
    of_input, of_down = bundle_bytes
    return {name: of_input if is_input_block(name) else of_down for name in names}


def one_size(sizes: Mapping[str, int]) -> int | None:
    """Return the size of bundles that all blocks have; None if there is none."""
    different = set(sizes.values())
    return different.pop() if len(different) == 1 else None


def sizes_to_metadata(sizes: Mapping[str, int]) -> dict[str, str]:
    """Return the metadata in which a placement records sizes by block: one where all are equal.

    >>> sizes_to_metadata({"layers.0": 4096, "layers.1": 4096}), sizes_to_metadata({})
    ({'bundle_bytes': '4096'}, {})
    >>> sizes_to_metadata({"layers.0.input": 16384, "layers.0": 4096})
    {'bundle_bytes_by_block': '{"layers.0.input": 16384, "layers.0": 4096}'}
    """
    size = one_size(sizes)
    if size is not None:
        return {"bundle_bytes": str(size)}
    return {"bundle_bytes_by_block": json.dumps(dict(sizes))} if sizes else {}


def recorded_size(metadata: Mapping[str, str]) -> int | None:
    """Return the size of all bundles that metadata record; None if they record none, or blocks differ."""
    size = parse_count(metadata.get("bundle_bytes"))
    return size if _is_size(size) else None


def recorded_sizes(metadata: Mapping[str, str], names: Iterable[str]) -> dict[str, int]:
    """Return the sizes by block that metadata record; empty unless they tell those of all blocks.

    A block that the metadata leave out, since it was not placed, has bundles like those of the others of its kind.

    >>> recorded_sizes({"bundle_bytes_by_block": '{"layers.0.input": 16384, "layers.0": 4096}'}, ["layers.1"])
    {'layers.1': 4096}
    """
    names = list(names)
    if (size := recorded_size(metadata)) is not None:
        return dict.fromkeys(names, size)
    try:
        recorded = parse_json(metadata.get("bundle_bytes_by_block", "{}"))
    except ValueError:
        return {}
    if not isinstance(recorded, dict) or not all(map(_is_size, recorded.values())):
        return {}
    sizes = {}
    for name in names:
        alike = {block: size for block, size in recorded.items() if is_input_block(block) == is_input_block(name)}
        size = recorded.get(name, one_size(alike))
        if size is None:
            return {}
        sizes[name] = size
    return sizes


def _is_size(value: object) -> bool:
    return type(value) is int and 0 < value <= MAX_BUNDLE_BYTES
