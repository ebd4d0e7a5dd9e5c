"""Sizes of bundles: given as one, two or by block, and recorded in metadata."""

from __future__ import annotations

import pytest

from ripple_place.bundle_sizes import (
    check_bundle_bytes,
    parse_bundle_bytes,
    recorded_sizes,
    sizes_of_blocks,
    sizes_to_metadata,
)
from ripple_place.errors import UsageError

COLUMNS = ["layers.0.input", "layers.0", "layers.1.input", "layers.1"]


@pytest.mark.parametrize("n_bytes", [0, -1, 2**24 + 1, 10**30])
def test_sizes_that_no_model_has(n_bytes: int) -> None:
    """Far above any model: products with it would overflow, or take hours to add up."""
    for given in (n_bytes, (4096, n_bytes), (n_bytes, 4096)):
        with pytest.raises(UsageError, match=f"--bundle-bytes: found {n_bytes}; expected 1 to 16777216"):
            check_bundle_bytes(given)


@pytest.mark.parametrize("given", [None, 24576, (32768, 8192)])
def test_sizes_of_models(given: int | tuple[int, int] | None) -> None:
    """Unknown is fine, and so are sizes."""
    check_bundle_bytes(given)


@pytest.mark.parametrize("text", ["", "4KiB,", ",4KiB", "1KiB,2KiB,3KiB", "4KiB,many"])
def test_texts_that_are_no_sizes(text: str) -> None:
    """One or two sizes."""
    with pytest.raises(UsageError, match="size: found"):
        parse_bundle_bytes(text)


def test_one_size_is_of_neurons_and_two_are_of_columns() -> None:
    """The first of two is that of input columns."""
    assert sizes_of_blocks(4096, "neuron", ["layers.0", "layers.1"]) == {"layers.0": 4096, "layers.1": 4096}
    assert [*sizes_of_blocks((64, 16), "column", COLUMNS).values()] == [64, 16, 64, 16]
    with pytest.raises(UsageError, match=r"found one size, and blocks of columns.*[Gg]ive both"):
        sizes_of_blocks(4096, "column", COLUMNS)
    with pytest.raises(UsageError, match=r"found two sizes, and blocks of neurons.*[Gg]ive one size"):
        sizes_of_blocks((64, 16), "neuron", ["layers.0"])


@pytest.mark.parametrize("sizes", [dict.fromkeys(COLUMNS, 64), dict(zip(COLUMNS, [64, 16, 64, 32], strict=True)), {}])
def test_recorded_as_they_are(sizes: dict[str, int]) -> None:
    """Whether all are equal or not."""
    assert recorded_sizes(sizes_to_metadata(sizes), sizes) == sizes


def test_blocks_that_were_not_placed() -> None:
    """They have bundles like those of their kind, if these agree."""
    by_block = sizes_to_metadata(dict(zip(COLUMNS, [64, 16, 64, 32], strict=True)))
    assert recorded_sizes(by_block, [*COLUMNS, "layers.2.input"])["layers.2.input"] == 64
    assert recorded_sizes(by_block, [*COLUMNS, "layers.2"]) == {}


@pytest.mark.parametrize(
    "text", ["", "[]", "7", '{"layers.0": "64"}', '{"layers.0": 0}', '{"layers.0": true}', "[" * 9999]
)
def test_metadata_are_anybodys_text(text: str) -> None:
    """What are no sizes counts as unknown."""
    assert recorded_sizes({"bundle_bytes_by_block": text}, ["layers.0"]) == {}
