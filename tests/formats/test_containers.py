"""Traces, profiles and placements of an earlier version: read by us and by the stock reader, and written anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from scipy.sparse import csr_array

from ripple_place.graph.profile import BlockProfile, Profile, read_profile, write_profile
from ripple_place.placement import read_placement, write_placement
from ripple_place.placing.recorded_dram import RecordedDram
from ripple_place.trace.files import read_trace, write_trace
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from tests.formats.contents import (
    clustered,
    full_placement,
    magnitudes_trace,
    pico_trace,
    plain_placement,
    routed_trace,
)
from tests.formats.kept import FORMATS, check_still_written, kept
from tests.reference import coactivation
from tests.trace_builders import pack, unpack, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.trace.activation_trace import ActivationTrace

TRACES = {
    "trace.safetensors": pico_trace,
    "trace-token-index.safetensors": routed_trace,
    "trace-magnitudes.safetensors": magnitudes_trace,
}
PLACEMENTS = {"placement.safetensors": plain_placement, "placement-full.safetensors": full_placement}
N_NEIGHBORS = 3


def stock_metadata(path: Path) -> dict[str, str]:
    """Return a file's metadata as the stock reader sees them."""
    with safe_open(path, "numpy") as file:
        metadata: dict[str, str] = file.metadata()
        return metadata


def assert_same_trace(found: ActivationTrace, expected: ActivationTrace) -> None:
    """Compare two traces by value, blocks in the same order."""
    assert list(found.blocks) == list(expected.blocks)
    assert (found.n_tokens, dict(found.metadata)) == (expected.n_tokens, dict(expected.metadata))
    np.testing.assert_array_equal(found.segment_starts, expected.segment_starts)
    np.testing.assert_equal(found.tokens, expected.tokens)
    for block, other in zip(found.blocks.values(), expected.blocks.values(), strict=True):
        assert block.n_neurons == other.n_neurons
        np.testing.assert_array_equal(unpack(block), unpack(other))
        np.testing.assert_equal(block.token_index, other.token_index)
        assert (block.magnitudes is None) == (other.magnitudes is None)
        if block.magnitudes is not None and other.magnitudes is not None:
            for part in ("indptr", "indices", "values"):
                np.testing.assert_array_equal(getattr(block.magnitudes, part), getattr(other.magnitudes, part))


@pytest.mark.parametrize("name", TRACES)
def test_traces_are_written_as_ever(tmp_path: Path, name: str) -> None:
    """The same activations give the same bytes."""
    write_trace(tmp_path / "trace", TRACES[name]())
    check_still_written(name, (tmp_path / "trace").read_bytes())


@pytest.mark.parametrize("name", TRACES)
def test_traces_are_read_for_ever(name: str) -> None:
    """Blocks in model order, bits, tokens, segments, token indices, magnitudes and metadata, as they were recorded."""
    assert_same_trace(read_trace(FORMATS / name), TRACES[name]())


def test_an_outside_producers_trace(tmp_path: Path) -> None:
    """The least that the format asks for, written by the stock library: tokens are counted, one segment is assumed."""
    active = clustered(5, 30, 11)
    made = write_stock_trace(tmp_path / "minimal", {"layers.3": active})
    trace = read_trace(kept("trace-minimal.safetensors", made.read_bytes()))
    assert (trace.n_tokens, trace.segment_starts.tolist(), trace.tokens) == (30, [0], None)
    np.testing.assert_array_equal(unpack(trace.blocks["layers.3"]), active)


def test_traces_in_the_stock_reader() -> None:
    """Names, dtypes and values of docs/formats.md, for whoever reads traces without our library."""
    tensors = load_file(FORMATS / "trace.safetensors")
    assert {name: (str(tensor.dtype), tensor.shape) for name, tensor in tensors.items()} == {
        "layers.0.active": ("uint8", (300, 3)),
        "layers.1.active": ("uint8", (300, 3)),
        "segment_starts": ("int64", (2,)),
        "tokens": ("int32", (300,)),
    }
    np.testing.assert_array_equal(tensors["layers.1.active"], pack(clustered(1, 300)))
    np.testing.assert_array_equal(tensors["tokens"], 7 * np.arange(300))
    metadata = stock_metadata(FORMATS / "trace.safetensors")
    assert json.loads(metadata.pop("blocks")) == {"layers.0": 24, "layers.1": 24}
    assert metadata == {
        "format": "ripple-place.trace/1", "activity": "relu>0", "model": "pico-opt", "dataset": "made up",
        "n_tokens": "300",
    }  # fmt: skip

    tensors = load_file(FORMATS / "trace-token-index.safetensors")
    index = tensors["layers.10.experts.0.token_index"]
    assert (str(index.dtype), index.tolist()) == ("int32", [1, 4, 9, 15])
    assert tensors["layers.10.experts.3.active"].shape == (0, 2)
    assert json.loads(stock_metadata(FORMATS / "trace-token-index.safetensors")["thresholds"]) == {
        "layers.9": 0.25, "layers.10.experts": 0.5,
    }  # fmt: skip

    tensors = load_file(FORMATS / "trace-magnitudes.safetensors")
    token, neuron = np.nonzero(clustered(11, 40))
    parts = [tensors[f"layers.1.magnitude.{part}"] for part in ("indptr", "indices", "values")]
    assert [str(part.dtype) for part in parts] == ["int64", "int32", "float32"]
    np.testing.assert_array_equal(parts[0], np.searchsorted(token, np.arange(41)))
    np.testing.assert_array_equal(parts[1], neuron)
    np.testing.assert_array_equal(parts[2], token + neuron / 32)


def counted(layer: int) -> tuple[list[int], dict[tuple[int, int], int]]:
    """Return frequencies and neighbour graph of a block of the pico trace, counted the obvious way."""
    tokens = [set(np.flatnonzero(row).tolist()) for row in clustered(layer, 300)]
    matrix = coactivation.counts(tokens, 24)
    return coactivation.frequency(tokens, 24), coactivation.neighbor_graph(matrix, N_NEIGHBORS)


def test_profiles_are_written_as_ever(tmp_path: Path) -> None:
    """The same trace gives the same counts and the same bytes; so do counts alone."""
    profile(FORMATS / "trace.safetensors", tmp_path / "profile", ProfileParams(n_neighbors=N_NEIGHBORS, verdict=None))
    check_still_written("profile.safetensors", (tmp_path / "profile").read_bytes())
    blocks = {
        f"layers.{layer}": BlockProfile(np.array(counted(layer)[0]), csr_array((24, 24), dtype=np.int32))
        for layer in range(2)
    }
    write_profile(tmp_path / "counts", Profile(blocks, 64, None), n_tokens=300)
    check_still_written("profile-counts.safetensors", (tmp_path / "counts").read_bytes())


def test_profiles_are_read_for_ever() -> None:
    """The trace inside, exact counts, the neighbour graph, K, and the hash that placements record."""
    found = read_profile(FORMATS / "profile.safetensors")
    assert found.trace is not None
    assert_same_trace(found.trace, pico_trace())
    assert found.n_neighbors == N_NEIGHBORS
    assert list(found.blocks) == ["layers.0", "layers.1"]
    for layer, block in enumerate(found.blocks.values()):
        frequency, graph = counted(layer)
        assert block.frequency.tolist() == frequency
        rows, columns = block.graph.nonzero()
        assert dict(zip(zip(rows.tolist(), columns.tolist(), strict=True), block.graph.data.tolist(), strict=True)) == (
            graph
        )
    assert found.digest == "3f6ca2c2d48b4a7d948bbc0f9df2cefdbe01b80aefd5f0f87c96230d35afb648"


def test_profiles_of_counts_are_read_for_ever() -> None:
    """Frequencies without bits and without a graph, as imported from other tools."""
    found = read_profile(FORMATS / "profile-counts.safetensors")
    assert (found.trace, found.n_neighbors) == (None, 64)
    for layer, block in enumerate(found.blocks.values()):
        assert block.frequency.tolist() == counted(layer)[0]
        assert (block.graph.shape, block.graph.nnz) == ((24, 24), 0)
    assert stock_metadata(FORMATS / "profile-counts.safetensors")["n_tokens"] == "300"


def test_profiles_in_the_stock_reader() -> None:
    """A trace's tensors, and counts and graph of each block as a symmetric CSR matrix."""
    tensors = load_file(FORMATS / "profile.safetensors")
    assert tensors.keys() == load_file(FORMATS / "trace.safetensors").keys() | {
        f"layers.{layer}.{part}"
        for layer in range(2)
        for part in ("frequency", "graph.indptr", "graph.indices", "graph.counts")
    }
    frequency, graph = counted(1)
    assert (str(tensors["layers.1.frequency"].dtype), tensors["layers.1.frequency"].tolist()) == ("int64", frequency)
    indptr, indices, counts = (tensors[f"layers.1.graph.{part}"] for part in ("indptr", "indices", "counts"))
    assert [str(part.dtype) for part in (indptr, indices, counts)] == ["int64", "int32", "int32"]
    for neuron in range(24):
        row = slice(indptr[neuron], indptr[neuron + 1])
        assert dict(zip(indices[row].tolist(), counts[row].tolist(), strict=True)) == {
            other: count for (one, other), count in graph.items() if one == neuron
        }
    metadata = stock_metadata(FORMATS / "profile.safetensors")
    assert (metadata["format"], metadata["n_neighbors"]) == ("ripple-place.profile/1", "3")


@pytest.mark.parametrize("name", PLACEMENTS)
def test_placements_are_written_as_ever(tmp_path: Path, name: str) -> None:
    """The same orders give the same bytes."""
    write_placement(tmp_path / "placement", PLACEMENTS[name]())
    check_still_written(name, (tmp_path / "placement").read_bytes())


@pytest.mark.parametrize("name", PLACEMENTS)
def test_placements_are_read_for_ever(name: str) -> None:
    """Orders, second orders, counts, pinned neurons and metadata, as they were computed."""
    found, expected = read_placement(FORMATS / name), PLACEMENTS[name]()
    assert list(found.blocks) == list(expected.blocks)
    assert dict(found.metadata) == dict(expected.metadata)
    assert found.bundle_bytes == expected.bundle_bytes
    for block, other in zip(found.blocks.values(), expected.blocks.values(), strict=True):
        for part in ("order", "order_2", "pinned", "frequency"):
            np.testing.assert_equal(getattr(block, part), getattr(other, part))


def test_the_dram_that_a_placement_was_made_for() -> None:
    """What `simulate --dram-budget placement` goes by."""
    found = RecordedDram.of("golden", read_placement(FORMATS / "placement-full.safetensors"))
    assert found == RecordedDram("pinned", {"layers.0": 2, "layers.1": 1}, 0.4, 24576)
    assert RecordedDram.of("golden", read_placement(FORMATS / "placement.safetensors")) is None


def test_placements_in_the_stock_reader() -> None:
    """Names, dtypes and values of docs/formats.md, for engines that read orders without our library."""
    tensors = load_file(FORMATS / "placement-full.safetensors")
    assert {name: (str(tensor.dtype), tensor.tolist()) for name, tensor in tensors.items()} == {
        "layers.0.order": ("int32", [4, 0, 3, 1, 2]),
        "layers.0.order_2": ("int32", [1, 2, 0, 4, 3]),
        "layers.0.pinned": ("int32", [0, 3]),
        "layers.0.frequency": ("int64", [9, 5, 0, 2**40, 1]),
        "layers.1.order": ("int32", [1, 0]),
    }
    metadata = stock_metadata(FORMATS / "placement-full.safetensors")
    assert metadata == {"format": "ripple-place.placement/1", **full_placement().metadata}
