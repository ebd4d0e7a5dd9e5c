"""The trace file: round trip, files by other producers, profiles read as traces, and every malformed one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, safe_open

from ripple_place.errors import TraceFormatError
from ripple_place.storedarray import StoredArray
from ripple_place.trace.activation_trace import ActivationTrace
from ripple_place.trace.files import read_trace, write_trace
from tests.trace_builders import block_of, pack, random_activity, unpack, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path


def full_trace() -> ActivationTrace:
    """Return a trace with everything that a trace may have."""
    rng = np.random.default_rng(0)
    return ActivationTrace(
        {
            "layers.10": block_of(random_activity(rng, 6, 13)),
            "layers.9.experts.1": block_of(random_activity(rng, 2, 8), [1, 5]),
            "layers.9.experts.2": block_of(random_activity(rng, 0, 8), []),
        },
        6,
        np.array([0, 4]),
        np.arange(6, dtype=np.int32),
        {"activity": "relu>0", "model": "pico", "dataset": "none"},
    )


def check_equal(first: ActivationTrace, second: ActivationTrace) -> None:
    """Compare two traces."""
    assert list(first.blocks) == list(second.blocks)
    assert (first.n_tokens, first.metadata) == (second.n_tokens, second.metadata)
    np.testing.assert_array_equal(first.segment_starts, second.segment_starts)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    for name, block in first.blocks.items():
        assert block.n_neurons == second.blocks[name].n_neurons
        np.testing.assert_array_equal(block.active, second.blocks[name].active)
        np.testing.assert_array_equal(block.token_index, second.blocks[name].token_index)


def test_round_trip(tmp_path: Path) -> None:
    """Every part comes back, experts without tokens included; the same trace makes the same bytes."""
    for name in ("a", "b"):
        write_trace(tmp_path / name, full_trace())
    check_equal(read_trace(tmp_path / "a"), full_trace())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_file_as_others_read_it(tmp_path: Path) -> None:
    """The stock reader finds the tensors and metadata that docs/formats.md promises."""
    write_trace(tmp_path / "a", full_trace())
    assert {name: (str(array.dtype), array.shape) for name, array in load_file(tmp_path / "a").items()} == {
        "segment_starts": ("int64", (2,)),
        "tokens": ("int32", (6,)),
        "layers.9.experts.1.token_index": ("int32", (2,)),
        "layers.9.experts.2.token_index": ("int32", (0,)),
        "layers.9.experts.1.active": ("uint8", (2, 1)),
        "layers.9.experts.2.active": ("uint8", (0, 1)),
        "layers.10.active": ("uint8", (6, 2)),
    }
    with safe_open(tmp_path / "a", "numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata.pop("blocks")) == {"layers.9.experts.1": 8, "layers.9.experts.2": 8, "layers.10": 13}
    assert metadata == {
        "format": "ripple-place.trace/1", "n_tokens": "6", "activity": "relu>0", "model": "pico", "dataset": "none",
    }  # fmt: skip


def test_minimal_file_by_others(tmp_path: Path) -> None:
    """Bits, format and sizes are enough: one segment, as many tokens as rows."""
    active = random_activity(np.random.default_rng(1), 5, 11)
    trace = read_trace(write_stock_trace(tmp_path / "a", {"layers.0": active}))
    assert (trace.n_tokens, trace.segment_starts.tolist(), trace.tokens, trace.metadata) == (5, [0], None, {})
    np.testing.assert_array_equal(unpack(trace.blocks["layers.0"]), active)


def test_full_file_by_others(tmp_path: Path) -> None:
    """All optional parts, saved by the stock library in its own order, in which I32 data may follow U8 data."""
    active = random_activity(np.random.default_rng(2), 3, 11)
    tensors = {
        "layers.0.experts.3.token_index": np.array([0, 2, 8], np.int32),
        "segment_starts": np.array([0, 7]),
        "tokens": np.arange(9, dtype=np.int32),
    }
    trace = read_trace(
        write_stock_trace(tmp_path / "a", {"layers.0.experts.3": active}, tensors=tensors, model="m", private="x")
    )
    assert (trace.n_tokens, trace.segment_starts.tolist(), trace.metadata) == (9, [0, 7], {"model": "m"})
    assert trace.blocks["layers.0.experts.3"].token_index.tolist() == [0, 2, 8]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("n_tokens", "tokens", "expected"), [("9", None, 9), (None, 7, 7), (None, None, 6), ("many", None, 6)]
)
def test_number_of_tokens(tmp_path: Path, n_tokens: str | None, tokens: int | None, expected: int) -> None:
    """What the metadata say, else the token ids, else the last token that any expert saw."""
    tensors: dict[str, np.ndarray] = {"layers.0.experts.0.token_index": np.array([0, 5], np.int32)}
    if tokens is not None:
        tensors["tokens"] = np.arange(tokens, dtype=np.int32)
    metadata = {} if n_tokens is None else {"n_tokens": n_tokens}
    path = write_stock_trace(tmp_path / "a", {"layers.0.experts.0": np.ones((2, 3))}, tensors=tensors, **metadata)
    assert read_trace(path).n_tokens == expected


def test_bits_stay_in_the_file(tmp_path: Path) -> None:
    """A trace may be larger than memory: its bits are read as they are asked for."""
    path = write_stock_trace(tmp_path / "a", {"layers.0": np.ones((4, 8))})
    active = read_trace(path).blocks["layers.0"].active
    assert isinstance(active, StoredArray)
    assert np.asarray(active[1:3]).tolist() == [[255], [255]]


def test_a_profile_is_read_as_a_trace(tmp_path: Path) -> None:
    """Whatever reads a trace reads a profile: the same tensors, and others beside them."""
    active = random_activity(np.random.default_rng(3), 5, 11)
    counts = {"layers.0.frequency": active.sum(axis=0, dtype=np.int64)}
    path = write_stock_trace(tmp_path / "p", {"layers.0": active}, tensors=counts, format="ripple-place.profile/1")
    np.testing.assert_array_equal(unpack(read_trace(path).blocks["layers.0"]), active)


ONE = {"layers.0": np.ones((3, 4))}


def sizes(indptr: list[int], indices: list[int], values: list[float]) -> dict[str, np.ndarray]:
    """Return the tensors of magnitudes."""
    return {
        "layers.0.magnitude.indptr": np.array(indptr), "layers.0.magnitude.indices": np.array(indices, np.int32),
        "layers.0.magnitude.values": np.array(values, np.float32),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tensors", "metadata", "match"),
    [
        (
            {},
            {"format": "ripple-place.trace/2"},
            "found format 'ripple-place.trace/2'; expected ripple-place.trace/1 or",
        ),
        ({}, {"format": "pt"}, "found format 'pt'; .*a checkpoint or a placement is neither"),
        ({}, {"blocks": ""}, "metadata 'blocks': found Expecting value"),
        ({}, {"blocks": "{}"}, "metadata 'blocks': found no blocks"),
        ({}, {"blocks": "[1]"}, "metadata 'blocks': found no blocks"),
        ({}, {"blocks": '{"layers.0": "4"}'}, "found 'layers.0': '4'; expected JSON such as"),
        ({}, {"blocks": '{"layers.0": 4.0}'}, "found 'layers.0': 4.0"),
        ({}, {"blocks": '{"layers.0": true}'}, "found 'layers.0': True"),
        ({}, {"blocks": '{"layers.0": 0}'}, "found 'layers.0': 0"),
        ({}, {"blocks": '{"layers.0": 9999999999}'}, "found 'layers.0': 9999999999"),
        ({}, {"blocks": '{"layer_0": 4}'}, "found 'layer_0': 4"),
        ({}, {"blocks": '{"layers.00": 4}'}, "found 'layers.00': 4"),
        ({}, {"blocks": "[" * 100_000}, "metadata 'blocks': found brackets nested too deep"),
        ({}, {"blocks": '{"layers.0": 4, "layers.1": 4}'}, "layers.1: found no activation bits; .*layers.1.active"),
        ({}, {"blocks": '{"layers.0": 9}'}, r"layers.0.active: found shape \[3, 1\]; expected \[n_rows, 2\]"),
        ({}, {"blocks": '{"layers.0": 3}'}, "layers.0.active: found bits set past neuron 2"),
        ({}, {"n_tokens": "4"}, "layers.0: found 3 rows; expected tokens below 4"),
        ({}, {"n_tokens": "0"}, "trace: found 1 blocks, 0 tokens"),
        ({"layers.0.active": np.zeros((0, 1), np.uint8)}, {}, "trace: found 1 blocks, 0 tokens"),
        ({"layers.0.active": np.ones((3, 1), bool)}, {}, "tensor layers.0.active: found BOOL .*expected U8 tensor"),
        ({"layers.0.active": np.ones(3, np.uint8)}, {}, r"found U8 \[3\]; expected U8 tensor with 2 axes"),
        ({"layers.0.token_index": np.arange(3)}, {}, r"tensor layers.0.token_index: found I64 \[3\]; expected I32"),
        ({"layers.0.token_index": np.arange(2, dtype="<i4")}, {}, r"layers.0.token_index: found shape \[2\]"),
        ({"tokens": np.arange(3)}, {}, "tensor tokens: found I64"),
        ({"tokens": np.arange(4, dtype="<i4")}, {}, "layers.0: found 3 rows; expected tokens below 4"),
        ({"tokens": np.arange(4, dtype="<i4")}, {"n_tokens": "3"}, r"tokens: found shape \[4\]; expected \[3\]"),
        ({"segment_starts": np.zeros(1, np.int32)}, {}, "tensor segment_starts: found I32"),
        ({"segment_starts": np.array([0, 9])}, {}, r"segment_starts: found \[0, 9\]"),
        (sizes([0, 1, 1, 2], [3, 4], [1, 2]), {}, "layers.0.magnitude.indices: found neuron 4 in row 2; expected neur"),
        (sizes([0, 2, 2, 2], [3, 1], [1, 2]), {}, "layers.0.magnitude.indices: found neuron 1 out of order in row 0"),
        (
            {"layers.0.active": np.full((3, 1), 7, np.uint8)} | sizes([0, 1, 1, 2], [2, 3], [1, 2]),
            {},
            "layers.0.magnitude.indices: found neuron 3, which does not fire, in row 2",
        ),
        (sizes([0, 1, 1, 2], [3, 2], [1, np.inf]), {}, "layers.0.magnitude.values: found a value of neuron 2 that is"),
        (sizes([0, 2, 1, 2], [3, 2], [1, 2]), {}, "layers.0.magnitude: found"),
        (sizes([0, 1, 1, 3], [3, 2], [1, 2]), {}, "layers.0.magnitude: found"),
        (sizes([0, 1, 2], [3, 2], [1, 2]), {}, "layers.0.magnitude.indptr: found 3 starts; expected 4"),
        (
            {"layers.0.magnitude.values": np.ones(1, np.float32)},
            {},
            "found no tensor layers.0.magnitude.indptr; expected one by that name",
        ),
    ],
)
def test_bad_files(tmp_path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str], match: str) -> None:
    """Each rule of the format has a file that breaks it; the message names the file and the tensor."""
    path = write_stock_trace(tmp_path / "bad.trace.safetensors", ONE, tensors=tensors, **metadata)
    with pytest.raises(TraceFormatError, match=f"^{re.escape(str(path))}: .*{match}"):
        read_trace(path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"PK\x03\x04 a zip archive", b"\x93NUMPY"])
def test_files_that_are_something_else(tmp_path: Path, content: bytes) -> None:
    """A bad container is a bad trace."""
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(TraceFormatError):
        read_trace(tmp_path / "a")


def test_a_hand_packed_byte(tmp_path: Path) -> None:
    """Bit order by hand: neurons 0 and 9 of 10 are byte 1 and byte 2."""
    tensors: dict[str, Any] = {"layers.0.active": np.array([[1, 2]], np.uint8)}
    trace = read_trace(write_stock_trace(tmp_path / "a", {"layers.0": np.zeros((1, 10))}, tensors=tensors))
    assert np.flatnonzero(unpack(trace.blocks["layers.0"])[0]).tolist() == [0, 9]
    np.testing.assert_array_equal(pack(unpack(trace.blocks["layers.0"])), tensors["layers.0.active"])


@pytest.mark.parametrize("n_tokens", ["2147483648", None])
def test_tokens_that_no_row_is_of(tmp_path: Path, n_tokens: str | None) -> None:
    """A small file may say that few tokens reach an expert, not that there are two billion, for others make room."""
    index = {"layers.0.experts.0.token_index": np.array([0, 2**31 - 1 if n_tokens is None else 5], np.int32)}
    metadata = {} if n_tokens is None else {"n_tokens": n_tokens}
    path = write_stock_trace(tmp_path / "a", {"layers.0.experts.0": np.ones((2, 3))}, tensors=index, **metadata)
    with pytest.raises(TraceFormatError, match=r"a: n_tokens: found 2147483648 tokens in \d+ bytes; expected at most"):
        read_trace(path)
    few = write_stock_trace(tmp_path / "b", {"layers.0.experts.0": np.ones((2, 3))}, tensors=index, n_tokens="1000000")
    if n_tokens is not None:
        assert read_trace(few).n_tokens == 1_000_000


def test_neurons_that_no_row_is_of(tmp_path: Path) -> None:
    """A block without rows has as many neurons as its name is followed by, and no bytes that would account for them."""
    empty = {"layers.0.active": np.zeros((0, 2**27), np.uint8)}
    path = write_stock_trace(tmp_path / "a", {}, tensors=empty, blocks=json.dumps({"layers.0": 2**30}), n_tokens="1")
    with pytest.raises(TraceFormatError, match=r"found 1073741824 neurons in \d+ bytes, which hold at most"):
        read_trace(path)
