"""The profile file: round trip, its name (digest), what it shares with traces, and every malformed one."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_array

from ripple_place.errors import TraceFormatError
from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.graph.profile import BlockProfile, Profile, read_profile, write_profile
from ripple_place.trace.files import read_trace, write_trace
from tests.trace_builders import random_activity, trace_of, unpack, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.trace.activation_trace import ActivationTrace


def profile_of(trace: ActivationTrace, k: int = 3) -> Profile:
    """Return the profile of a trace."""
    blocks = {}
    for name, block in trace.blocks.items():
        bits = NeuronBits.of_block(block)
        blocks[name] = BlockProfile(bits.frequency(), neighbor_graph(bits, k))
    return Profile(blocks, k, trace)


@pytest.fixture
def profile() -> Profile:
    """Return a profile of two blocks, one of them with dead neurons."""
    rng = np.random.default_rng(0)
    second = random_activity(rng, 20, 9)
    second[:, 3:6] = False
    return profile_of(trace_of(random_activity(rng, 20, 13), second))


def test_round_trip(tmp_path: Path, profile: Profile) -> None:
    """Counts, graphs, bits and the number of neighbours come back; the same profile makes the same bytes."""
    for name in ("a", "b"):
        write_profile(tmp_path / name, profile)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = read_profile(tmp_path / "a")
    assert (list(read.blocks), read.n_neighbors, read.digest) == (list(profile.blocks), 3, profile.digest)
    for name, block in profile.blocks.items():
        assert read.blocks[name].n_neurons == block.n_neurons
        np.testing.assert_array_equal(read.blocks[name].frequency, block.frequency)
        np.testing.assert_array_equal(read.blocks[name].graph.toarray(), block.graph.toarray())
        np.testing.assert_array_equal(unpack(read.trace.blocks[name]), unpack(profile.trace.blocks[name]))  # type: ignore[union-attr]


def test_digest(profile: Profile) -> None:
    """It names the counts: stable from run to run, and another where a single count, or a block's name, is."""
    assert profile.digest == profile.digest
    assert re.fullmatch("[0-9a-f]{64}", profile.digest)
    first, second = profile.blocks.values()
    changed = first.frequency.copy()
    changed[0] += 1
    others = [
        {"layers.0": BlockProfile(changed, first.graph), "layers.1": second},
        {"layers.0": BlockProfile(first.frequency, first.graph * 2), "layers.1": second},
        {"layers.0": first, "layers.2": second},
        {"layers.0": first},
    ]
    assert len({Profile(blocks, 3, None).digest for blocks in (*others, profile.blocks)}) == 5


def test_digest_of_a_given_trace() -> None:
    """Placements record it: it must not change with the version of numpy or scipy, nor with the platform."""
    trace = trace_of(np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]]))
    assert profile_of(trace).digest == "e4e032e02e09426b2edde2b50036b8e0571b604ac279e5b148f8d4d116aa4d46"


def test_it_is_a_trace(tmp_path: Path, profile: Profile) -> None:
    """Whatever reads a trace reads a profile, and finds the same trace in it."""
    write_profile(tmp_path / "p", profile)
    write_trace(tmp_path / "t", read_trace(tmp_path / "p"))
    write_trace(tmp_path / "expected", profile.trace)  # type: ignore[arg-type]
    assert (tmp_path / "t").read_bytes() == (tmp_path / "expected").read_bytes()


def test_file_as_others_read_it(tmp_path: Path, profile: Profile) -> None:
    """The stock reader finds the tensors that docs/formats.md promises, in the promised dtypes."""
    write_profile(tmp_path / "p", profile)
    tensors = load_file(tmp_path / "p")
    n_edges = profile.blocks["layers.1"].graph.nnz
    assert {name: (str(t.dtype), t.shape) for name, t in tensors.items() if name.startswith("layers.1.")} == {
        "layers.1.frequency": ("int64", (9,)),
        "layers.1.graph.indptr": ("int64", (10,)),
        "layers.1.graph.indices": ("int32", (n_edges,)),
        "layers.1.graph.counts": ("int32", (n_edges,)),
        "layers.1.active": ("uint8", (20, 2)),
    }


def test_a_profile_of_imported_counts(tmp_path: Path, profile: Profile) -> None:
    """Without bits there are counts and no trace; written again, it is the same."""
    write_profile(tmp_path / "p", profile)
    tensors = {name: tensor for name, tensor in load_file(tmp_path / "p").items() if not name.endswith(".active")}
    save_file(tensors, tmp_path / "q", {"format": "ripple-place.profile/1", "blocks": '{"layers.0":13,"layers.1":9}'})
    read = read_profile(tmp_path / "q")
    assert read.trace is None
    assert (read.digest, read.n_neighbors) == (profile.digest, 64)
    write_profile(tmp_path / "r", read, n_tokens=20)
    again = read_profile(tmp_path / "r")
    assert (again.trace, again.digest) == (None, profile.digest)
    with safe_open(tmp_path / "r", "numpy") as file:
        assert file.metadata()["n_tokens"] == "20"
    with pytest.raises(TraceFormatError, match=r"layers.0: found no activation bits; .* Profile again from a trace"):
        read_trace(tmp_path / "q")


def test_a_plain_trace_is_no_profile(tmp_path: Path) -> None:
    """The remedy is the very command to run."""
    path = write_stock_trace(tmp_path / "t", {"layers.0": np.eye(3)})
    with pytest.raises(
        TraceFormatError,
        match=rf"^{re.escape(str(path))}: found a trace without counts; expected a profile. "
        rf"Run `ripple-place profile {re.escape(str(path))} --out PROFILE` first",
    ):
        read_profile(path)


GOOD = {
    "layers.0.frequency": np.array([2, 3, 0]),
    "layers.0.graph.indptr": np.array([0, 1, 2, 2]),
    "layers.0.graph.indices": np.array([1, 0], np.int32),
    "layers.0.graph.counts": np.array([2, 2], np.int32),
}


@pytest.mark.parametrize(
    ("part", "value", "match"),
    [
        ("frequency", None, "found no tensor layers.0.frequency"),
        ("frequency", [2, 3], "layers.0: found counts of another number of neurons, or not positive; expected counts"),
        ("frequency", [2, 3, -1], "layers.0: found counts of another number of neurons"),
        ("frequency", np.array([2, 3, 0], np.int32), r"layers.0.frequency: found I32 \[3\]; expected I64"),
        ("graph.counts", [0, 0], "found counts of another number of neurons, or not positive"),
        ("graph.counts", [2, -2], "found counts of another number"),
        ("graph.counts", [3, 3], "layers.0: found a pair that fires together more often than one of the two fires"),
        ("frequency", [2, 1, 9], "layers.0: found a pair that fires together more often than one of the two"),
        ("graph.counts", [2, 1], "layers.0: found a graph that is not symmetric, or has loops"),
        ("graph.counts", [2], "layers.0: found indices and data should have the same size"),
        ("graph.indices", [2, 0], "found a graph that is not symmetric"),
        ("graph.indices", [0, 1], "found a graph that is not symmetric, or has loops"),
        ("graph.indices", [1, 3], "layers.0: found indices must be < 3"),
        ("graph.indices", [1, -1], "layers.0: found indices must be >= 0"),
        ("graph.indptr", [0, 1, 2], "layers.0: found index pointer size"),
        ("graph.indptr", [1, 1, 2, 2], "layers.0: found index pointer should start with 0"),
        ("graph.indptr", [0, 1, 2, 9], "layers.0: found Last value of index pointer"),
        ("graph.indptr", [0, 2, 1, 2], "layers.0: found ind"),
    ],
)
def test_bad_profiles(tmp_path: Path, part: str, value: object, match: str) -> None:
    """Counts and graph are checked when read: kernels trust them."""
    tensors = dict(GOOD)
    name = f"layers.0.{part}"
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value if isinstance(value, np.ndarray) else np.array(value, GOOD[name].dtype)
    save_file(tensors, tmp_path / "p", {"format": "ripple-place.profile/1", "blocks": '{"layers.0": 3}'})
    with pytest.raises(TraceFormatError, match=match):
        read_profile(tmp_path / "p")


@pytest.mark.parametrize(("neuron", "change"), [(2, 1), (8, 40)])
def test_firings_that_contradict_the_bits(tmp_path: Path, profile: Profile, neuron: int, change: int) -> None:
    """Orders are searched on the bits and pinned by the counts: a profile put together from two is neither."""
    block = profile.blocks["layers.1"]
    frequency = block.frequency.copy()
    frequency[neuron] += change
    changed = BlockProfile(frequency, block.graph)
    write_profile(tmp_path / "p", replace(profile, blocks=profile.blocks | {"layers.1": changed}))  # type: ignore[operator]
    match = rf"p: layers.1: found a count of {frequency[neuron]} for neuron {neuron}, which fires in \d+ rows \(1 of 9"
    with pytest.raises(TraceFormatError, match=match):
        read_profile(tmp_path / "p")


def test_pairs_that_contradict_the_bits(tmp_path: Path, profile: Profile) -> None:
    """The graph may be symmetric, below the counts of its neurons, and still be that of another trace."""
    block = profile.blocks["layers.1"]
    counts = block.graph.toarray()
    first, second = np.unravel_index(counts.argmax(), counts.shape)
    counts[first, second] = counts[second, first] = counts[first, second] - 1
    changed = BlockProfile(block.frequency, csr_array(counts))
    write_profile(tmp_path / "p", replace(profile, blocks=profile.blocks | {"layers.1": changed}))  # type: ignore[operator]
    pair = f"a count of {counts[first, second]} for neurons {first} and {second}"
    match = rf"p: layers.1: found {pair}, which fire together in {counts[first, second] + 1} rows"
    with pytest.raises(TraceFormatError, match=match):
        read_profile(tmp_path / "p")


def test_a_good_one_by_others(tmp_path: Path) -> None:
    """What the rows above break is sound as it stands; n_neighbors that is no number counts as unknown."""
    for n_neighbors, expected in (("2", 2), ("0", 64), ("²", 64), ("many", 64)):
        metadata = {"format": "ripple-place.profile/1", "blocks": '{"layers.0": 3}', "n_neighbors": n_neighbors}
        save_file(GOOD, tmp_path / "p", metadata)
        read = read_profile(tmp_path / "p")
        assert read.blocks["layers.0"].graph.toarray().tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 0]]
        assert read.n_neighbors == expected
