"""Placements: permutations and their inverses, their file, and every way either can be wrong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from ripple_place.errors import PlacementError
from ripple_place.placement import (
    ModelPlacement,
    NeuronPlacement,
    read_placement,
    write_placement,
)

if TYPE_CHECKING:
    from pathlib import Path


@given(st.integers(1, 60).flatmap(lambda n: st.permutations(range(n))))
@settings(deadline=None)
def test_order_and_slot_of_are_inverse(order: list[int]) -> None:
    """Whichever way one goes first: slot -> neuron -> slot, neuron -> slot -> neuron."""
    placement = NeuronPlacement(np.array(order))
    identity = list(range(len(order)))
    assert placement.slot_of[placement.order].tolist() == placement.order[placement.slot_of].tolist() == identity
    assert placement.order.dtype == placement.slot_of.dtype == np.int32
    assert placement.n_neurons == len(order)


def test_original() -> None:
    """Checkpoint order is its own inverse."""
    placement = NeuronPlacement.original(5)
    assert placement.order.tolist() == placement.slot_of.tolist() == [0, 1, 2, 3, 4]


def test_second_slots() -> None:
    """From slot to slot of the same neuron; a second order is as much a permutation as the first, of as many."""
    placement = NeuronPlacement(np.array([2, 0, 1]), order_2=np.array([1, 0, 2], np.int64))
    assert placement.second_slot is not None
    assert placement.second_slot.tolist() == [2, 1, 0]
    assert placement.order_2 is not None
    assert placement.order_2.dtype == np.int32
    assert NeuronPlacement(np.array([2, 0, 1])).second_slot is None
    with pytest.raises(PlacementError, match="order_2: found neuron 1 2 times in 3 slots"):
        NeuronPlacement(np.arange(3), order_2=np.array([1, 0, 1]))
    with pytest.raises(PlacementError, match="order_2: found 2 neurons; expected 3, as in order"):
        NeuronPlacement(np.arange(3), order_2=np.arange(2))


def test_a_second_order_in_the_file(tmp_path: Path) -> None:
    """It is written beside the first and read again; blocks without one stay without."""
    both = NeuronPlacement(np.arange(3), order_2=np.array([2, 0, 1]))
    blocks = {"layers.0": both, "layers.1": NeuronPlacement.original(2)}
    write_placement(tmp_path / "p", ModelPlacement(blocks))
    found = read_placement(tmp_path / "p").blocks
    assert load_file(tmp_path / "p")["layers.0.order_2"].tolist() == found["layers.0"].order_2.tolist() == [2, 0, 1]
    assert found["layers.1"].order_2 is None


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i4", "<i8", "<u8", ">i4"])
def test_any_integers_are_an_order(dtype: str) -> None:
    """Orders computed elsewhere come in any integer type."""
    assert NeuronPlacement(np.array([2, 0, 1], dtype)).order.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("order", "match"),
    [
        (np.empty(0, np.int32), r"order: found int32 \[0\]; expected a non-empty vector of integers"),
        (np.zeros((2, 2), np.int32), r"order: found int32 \[2, 2\]"),
        (np.array(0), r"order: found int64 \[\]"),
        (np.array([0.0, 1.0]), r"order: found float64 \[2\]"),
        (np.array([False, True]), r"order: found bool \[2\]"),
        (np.array([0, 1, 1]), "order: found neuron 1 2 times in 3 slots; expected each neuron once"),
        (np.array([0, 2, 3]), "order: found neuron 1 0 times in 3 slots"),
        (np.array([0, 1, -1]), "order: found neuron 2 0 times"),
        (np.array([2**64 - 1, 1, 0], np.uint64), "order: found neuron 2 0 times"),
        (np.array([2**32, 1, 2], np.int64), "order: found neuron 0 0 times"),
    ],
)
def test_what_is_no_permutation(order: np.ndarray, match: str) -> None:
    """The first neuron that is missing or doubled is named; large numbers must not wrap into range."""
    with pytest.raises(PlacementError, match=match):
        NeuronPlacement(order)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"pinned": np.array([2, 1])}, "pinned: found a neuron twice, out of order, or unknown; expected ascending"),
        ({"pinned": np.array([1, 1])}, "pinned: found a neuron twice"),
        ({"pinned": np.array([0, 3])}, "pinned: .* expected ascending neurons below 3"),
        ({"pinned": np.array([-1, 0])}, "pinned: found"),
        ({"pinned": np.array([0, 2**31 - 1, -(2**31), -1, 2], np.int32)}, "pinned: found"),
        ({"frequency": np.array([1, 2])}, r"frequency: found int64 \[2\], or negative counts; expected 3 counts"),
        ({"frequency": np.array([1, -1, 2])}, r"frequency: found int64 \[3\], or negative counts"),
        ({"frequency": np.array([1, np.nan, 2])}, r"frequency: found float64 \[3\], or negative counts"),
        ({"frequency": np.array([1, 2, -1])}, "frequency: found"),
    ],
)
def test_what_does_not_fit_the_order(more: dict[str, Any], match: str) -> None:
    """Pinned neurons ascend (also where differences of int32 would wrap) and exist; every neuron has a count."""
    with pytest.raises(PlacementError, match=match):
        NeuronPlacement(np.array([2, 0, 1]), **more)


def placement_of_three_blocks() -> ModelPlacement:
    """Return a placement with all parts, some parts and the order alone; layer 10 before 9 on purpose."""
    rng = np.random.default_rng(0)
    return ModelPlacement(
        {
            "layers.10": NeuronPlacement(rng.permutation(9)),
            "layers.9": NeuronPlacement(rng.permutation(7), np.array([1, 4]), np.arange(7) * 2**40),
            "layers.9.experts.1": NeuronPlacement(rng.permutation(3), np.empty(0, np.int32)),
        },
        {"ordering": "greedy", "bundle_bytes": "4096"},
    )


def test_round_trip(tmp_path: Path) -> None:
    """All parts, counts above 2**32 and an empty pinned set included, come back; blocks in model order."""
    placement = placement_of_three_blocks()
    write_placement(tmp_path / "p", placement)
    read = read_placement(tmp_path / "p")
    assert list(read.blocks) == ["layers.9", "layers.9.experts.1", "layers.10"]
    assert read.metadata == placement.metadata
    assert read.bundle_bytes == 4096
    for name, block in placement.blocks.items():
        for part in ("order", "pinned", "frequency"):
            np.testing.assert_array_equal(getattr(read.blocks[name], part), getattr(block, part))


def test_file_as_others_read_it(tmp_path: Path) -> None:
    """The stock reader finds the tensors that docs/formats.md promises, in the promised dtypes."""
    write_placement(tmp_path / "p", placement_of_three_blocks())
    tensors = load_file(tmp_path / "p")
    assert {name: (str(array.dtype), array.shape) for name, array in tensors.items()} == {
        "layers.9.frequency": ("int64", (7,)),
        "layers.9.order": ("int32", (7,)),
        "layers.9.pinned": ("int32", (2,)),
        "layers.9.experts.1.order": ("int32", (3,)),
        "layers.9.experts.1.pinned": ("int32", (0,)),
        "layers.10.order": ("int32", (9,)),
    }


def test_file_by_others(tmp_path: Path) -> None:
    """A placement computed elsewhere and saved with safetensors alone is read."""
    save_file({"layers.0.order": np.array([1, 0], np.int32)}, tmp_path / "p", {"format": "ripple-place.placement/1"})
    assert read_placement(tmp_path / "p").blocks["layers.0"].order.tolist() == [1, 0]


def test_same_bytes_twice(tmp_path: Path) -> None:
    """Nothing in the file depends on when it was written."""
    for name in ("a", "b"):
        write_placement(tmp_path / name, placement_of_three_blocks())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("4096", 4096), ("0", None), ("", None), ("²", None), ("-1", None), ("9" * 5000, None), ("99999999999", None)],
)
def test_recorded_bundle_bytes(text: str, n_bytes: int | None) -> None:
    """Metadata is anybody's text: what is no size that a neuron can have counts as unknown."""
    assert ModelPlacement({}, {"bundle_bytes": text}).bundle_bytes == n_bytes
    assert ModelPlacement({}).bundle_bytes is None


FORMAT = {"format": "ripple-place.placement/1"}


@pytest.mark.parametrize(
    ("tensors", "metadata", "match"),
    [
        ({"layers.0.order": np.arange(2, dtype="<i4")}, {}, "found format None; expected ripple-place.placement/1"),
        ({}, {"format": "ripple-place.placement/2"}, "found format 'ripple-place.placement/2'; .* Update ripple-place"),
        ({}, {"format": "ripple-place.trace/1"}, "found format 'ripple-place.trace/1'; .*reorder. wrote"),
        ({"layers.0.ordre": np.arange(2, dtype="<i4")}, FORMAT, "tensor layers.0.ordre: found an unknown name"),
        ({"order": np.arange(2, dtype="<i4")}, FORMAT, "tensor order: found an unknown name"),
        ({"layer0.order": np.arange(2, dtype="<i4")}, FORMAT, "tensor layer0.order: .* a block name and one of order"),
        ({"layers.0.order": np.arange(2)}, FORMAT, r"tensor layers.0.order: found I64 \[2\]; expected I32 tensor"),
        ({"layers.0.order": np.eye(2, dtype="<i4")}, FORMAT, r"found I32 \[2, 2\]; expected I32 tensor with 1 axes"),
        ({"layers.0.order": np.zeros(2, "<i4")}, FORMAT, "layers.0.order: found neuron 0 2 times in 2 slots"),
        ({"layers.0.pinned": np.arange(2, dtype="<i4")}, FORMAT, r"layers.0.order: found int32 \[0\]"),
        (
            {"layers.0.order": np.arange(2, dtype="<i4"), "layers.0.pinned": np.array([5], "<i4")}, FORMAT,
            "layers.0.pinned: found a neuron",
        ),
        (
            {"layers.0.order": np.arange(2, dtype="<i4"), "layers.0.order_2": np.zeros(2, "<i4")}, FORMAT,
            "layers.0.order_2: found neuron 0 2 times in 2 slots",
        ),
    ],
)  # fmt: skip
def test_bad_files(tmp_path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str], match: str) -> None:
    """Another format, an unknown name, another dtype, no permutation: each with the file and the tensor."""
    path = tmp_path / "p.safetensors"
    save_file(tensors, path, metadata)
    with pytest.raises(PlacementError, match=f"^{re.escape(str(path))}: .*{match}"):
        read_placement(path)


def test_no_container_at_all(tmp_path: Path) -> None:
    """A text file is a bad placement, not a bad something."""
    (tmp_path / "p").write_text("0 1 2 3 4 5 6 7")
    with pytest.raises(PlacementError, match="expected a safetensors file"):
        read_placement(tmp_path / "p")
