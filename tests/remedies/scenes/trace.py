"""Traces: in memory, in files, in other tools' formats, and several of them together."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file
from scipy.sparse import csr_array, save_npz

from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace, Magnitudes
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.trace.adapters import AdapterSource, read_adapter
from ripple_place.trace.arrays import read_arrays
from ripple_place.trace.counts import read_counts
from ripple_place.trace.files import PROFILE_FORMAT, SOURCES_KEY, read_trace
from ripple_place.trace.sources import join_traces, read_source, read_sources
from ripple_place.trace.synthetic import SyntheticSource
from ripple_place.trace.union import union_of_segments
from tests.remedies.cases import case, instead
from tests.torch_files import write_torch_file
from tests.trace_builders import block_of, pack, trace_of, write_stock_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from tests.remedies.cases import Attempts

ACTIVE = np.random.default_rng(0).random((12, 16)) < 0.5
ACTIVE[0, :9] = True
BITS = pack(ACTIVE)
START = np.array([0])


def stock(path: Path, **options: Any) -> Path:
    """Write a trace of one block."""
    return write_stock_trace(path, {"layers.0": ACTIVE}, **options)


def magnitudes(counts: list[int], neurons: list[int], values: list[float]) -> Magnitudes:
    """Return magnitudes of two rows or so."""
    starts = np.concatenate([[0], np.cumsum(counts)])
    return Magnitudes(starts, np.array(neurons, np.int32), np.array(values, np.float32))


# What a trace in memory must be.

TWO_ROWS = np.array([[3], [1]], np.uint8)
_MAGNITUDES = "trace/activation_trace.py:Magnitudes.__post_init__"
_BLOCK = "trace/activation_trace.py:BlockTrace.__post_init__"
_TRACE = "trace/activation_trace.py:ActivationTrace.__post_init__"
_ROWS = "trace/activation_trace.py:_check_rows.refuse"
instead(
    _MAGNITUDES, "", "fewer values than indices: as many are recorded",
    lambda: magnitudes([2], [0, 1], [1.0]), lambda: magnitudes([2], [0, 1], [1.0, 2.0]),
)  # fmt: skip
instead(
    _BLOCK, "for {} neurons", "rows too short for the neurons: whole rows are recorded",
    lambda: BlockTrace(9, TWO_ROWS), lambda: BlockTrace(9, np.zeros((2, 2), np.uint8)),
)  # fmt: skip
instead(
    "trace/activation_trace.py:_check_padding", "", "a bit beyond the last neuron: in little order, or with as "
    "many neurons as there are",
    lambda: BlockTrace(4, np.array([[128]], np.uint8)), lambda: BlockTrace(4, np.array([[1]], np.uint8)),
    lambda: BlockTrace(8, np.array([[128]], np.uint8)),
)  # fmt: skip
instead(
    _BLOCK, "ascending tokens", "tokens out of order: they ascend",
    lambda: BlockTrace(8, TWO_ROWS, np.array([1, 0], np.int32)),
    lambda: BlockTrace(8, TWO_ROWS, np.array([0, 1], np.int32)),
)  # fmt: skip
instead(
    _TRACE, "at least one of each", "a trace of no token: of some",
    lambda: ActivationTrace({"layers.0": BlockTrace(8, TWO_ROWS[:0])}, 0, START),
    lambda: ActivationTrace({"layers.0": BlockTrace(8, TWO_ROWS)}, 2, START),
)  # fmt: skip
instead(
    _TRACE, "ascending tokens from 0", "segments that start behind the end: within the trace",
    lambda: ActivationTrace({"layers.0": BlockTrace(8, TWO_ROWS)}, 2, np.array([0, 2])),
    lambda: ActivationTrace({"layers.0": BlockTrace(8, TWO_ROWS)}, 2, np.array([0, 1])),
)  # fmt: skip
instead(
    _TRACE, "shape {}; [{}]", "token ids for one token of two: for both",
    lambda: ActivationTrace({"layers.0": BlockTrace(8, TWO_ROWS)}, 2, START, np.array([7])),
    lambda: ActivationTrace({"layers.0": BlockTrace(8, TWO_ROWS)}, 2, START, np.array([7, 7])),
)  # fmt: skip
instead(
    _TRACE, "record all blocks on the same tokens", "blocks of different lengths: of the same",
    lambda: trace_of(ACTIVE, ACTIVE[:5]), lambda: trace_of(ACTIVE, ACTIVE),
)  # fmt: skip
instead(
    _TRACE, "only where the unit is", "a block of input columns among neurons: the trace says that units are columns",
    lambda: ActivationTrace({"layers.0.input": BlockTrace(8, TWO_ROWS)}, 2, START),
    lambda: ActivationTrace({"layers.0.input": BlockTrace(8, TWO_ROWS)}, 2, START, None, {"unit": "column"}),
)  # fmt: skip
instead(
    _TRACE, "(prefill) and", "a phase that is none: prefill or decode",
    lambda: ActivationTrace({"layers.0": BlockTrace(8, TWO_ROWS)}, 2, START, phases=np.array([0, 2], np.uint8)),
    lambda: ActivationTrace({"layers.0": BlockTrace(8, TWO_ROWS)}, 2, START, phases=np.array([0, 1], np.uint8)),
)  # fmt: skip
instead(
    "trace/activation_trace.py:_check_magnitudes", "", "magnitudes of one row of two: of both",
    lambda: BlockTrace(8, TWO_ROWS, None, magnitudes([1], [0], [1])),
    lambda: BlockTrace(8, TWO_ROWS, None, magnitudes([1, 1], [0, 0], [1, 1])),
)  # fmt: skip
for what, neurons, values in (
    ("a magnitude of neuron 8 of 8", [0, 8], [1, 1]),
    ("magnitudes out of order", [1, 0], [1, 1]),
    ("a magnitude of a neuron that is idle", [0, 2], [1, 1]),
    ("a magnitude that is NaN", [0, 1], [1, np.nan]),
):
    instead(
        _ROWS, "", f"{what}: what fires is recorded",
        lambda neurons=neurons, values=values: BlockTrace(8, TWO_ROWS[:1], None, magnitudes([2], neurons, values)),
        lambda: BlockTrace(8, TWO_ROWS[:1], None, magnitudes([2], [0, 1], [1, 2])),
    )  # fmt: skip


# Activity rules.

instead(
    "trace/activity_rules.py:_no_rule", "", "a rule that is not known: one of those named",
    lambda: ActivityRule.parse("loud"), lambda: ActivityRule.parse("top-k=10%"),
)  # fmt: skip


@case("trace/activity_rules.py:check_finite")
def outputs_that_are_nan(folder: Path) -> Attempts:
    """A NaN among the outputs: they are recorded again, without."""
    outputs = np.where(ACTIVE, 1.0, 0.0).astype(np.float32)
    path = folder / "layers.0.npy"
    np.save(path, np.where(outputs > 0, np.nan, outputs))
    yield partial(adapter, f"dense:{path}")
    np.save(path, outputs)


# Trace files.


@case("tensorfile.py:TensorFile.require_format", "update", untried="there is no later version yet")
def trace_of_a_later_version(folder: Path) -> Attempts:
    """A trace of format 2."""
    yield lambda: read_trace(stock(folder / "a", format="ripple-place.trace/2"))


@case("trace/files.py:open_trace_file", "a checkpoint or a placement is neither")
def weights_as_trace(folder: Path) -> Attempts:
    """Weights given as a trace: a trace is given."""
    save_file({"weight": np.zeros(3)}, folder / "model.safetensors")
    yield lambda: read_trace(folder / "model.safetensors")
    yield lambda: read_trace(stock(folder / "trace.safetensors"))


@case("trace/files.py:open_trace_file", "JSON such as")
def trace_without_list_of_blocks(folder: Path) -> Attempts:
    """A list of blocks that is no JSON: it is written as docs/formats.md says."""
    path = stock(folder / "a", blocks="layers.0: 16")
    yield lambda: read_trace(path)
    stock(path)


@case("trace/files.py:read_trace")
def counts_replayed(folder: Path) -> Attempts:
    """A profile of counts alone, replayed: the profile of a trace is."""
    path = folder / "counts.profile"
    save_file({"layers.0.frequency": np.ones(16)}, path, {"format": PROFILE_FORMAT, "blocks": '{"layers.0": 16}'})
    yield lambda: read_trace(path)
    stock(path, format=PROFILE_FORMAT)


@case("trace/files.py:_read_sources")
def sources_that_are_no_list(folder: Path) -> Attempts:
    """Digests of the sources that are no list: the profile is made again."""
    path = stock(folder / "a", **{SOURCES_KEY: "seven"})
    yield lambda: read_trace(path)
    stock(path, **{SOURCES_KEY: '["ab"]'})


# Numpy's files.


def saved_again(where: str, words: str, story: str, name: str, bad: Any, good: Any) -> None:
    """List a case of an array, or of arrays by block, to be saved otherwise."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        path = folder / name
        save(path, bad)
        yield lambda: read_source(path)
        save(path, good)

    def save(path: Path, content: Any) -> None:
        if isinstance(content, dict):
            np.savez(path, **content)
        elif isinstance(content, csr_array):
            save_npz(path, content)
        else:
            np.save(path, content)


_ARRAYS = "trace/arrays.py:_bits"
saved_again(_ARRAYS, "such as outputs > 0", "outputs as an array: compared with 0", "0.npy", ACTIVE * 0.5, ACTIVE)
saved_again(_ARRAYS, "such as outputs > 0", "one long row: a row for each token", "0.npy", ACTIVE[0], ACTIVE)
saved_again(
    _ARRAYS, "astype(bool)", "0 and 1 in bytes, not packed: as booleans", "0.npy", ACTIVE.astype(np.uint8), ACTIVE
)
saved_again("trace/arrays.py:_load", "", "an array of objects: of booleans", "0.npy", ACTIVE.astype(object), ACTIVE)
saved_again(
    "trace/arrays.py:_arrays_by_block", "not objects", "one array of objects of several: of booleans", "a.npz",
    {"layers.0": ACTIVE.astype(object)}, {"layers.0": ACTIVE},
)  # fmt: skip
saved_again(
    "trace/arrays.py:_arrays_by_block", "an array of that name", "arrays by no block's name: by their blocks'", "a.npz",
    {"active": ACTIVE}, {"layers.0": ACTIVE},
)  # fmt: skip
saved_again(
    "trace/arrays.py:_check_stored", "", "a sparse matrix with an infinite entry: recorded without", "0.npz",
    csr_array(np.where(ACTIVE, np.inf, 0)), csr_array(ACTIVE),
)  # fmt: skip


@case(_ARRAYS, "astype(bool)")
def packed_bits_of_few(folder: Path) -> Attempts:
    """Packed bits in which only every eighth neuron fires: named as packed."""
    path = folder / "layers.0.npy"
    np.save(path, pack(np.arange(16)[None] % 8 == 0))
    yield lambda: read_source(path)
    yield lambda: adapter(f"packed:{path},neurons=16")


@case("trace/arrays.py:read_npz")
def sparse_matrix_of_hardly_any(folder: Path) -> Attempts:
    """A sparse matrix that would fill memory: in files of fewer tokens."""
    shape = (2**14, 2**16)
    matrix = csr_array((np.ones(1), (np.zeros(1, int), np.zeros(1, int))), shape)
    save_npz(folder / "0.npz", matrix)
    yield lambda: read_source(folder / "0.npz")
    parts = [folder / name / "0.npz" for name in "ab"]
    for part in parts:
        part.parent.mkdir()
        save_npz(part, matrix[: 2**6])
    yield lambda: read_sources(parts)


@case("trace/arrays.py:block_in_name")
def array_of_no_block(folder: Path) -> Attempts:
    """A file that is named after no block: it is renamed."""
    np.save(folder / "active.npy", ACTIVE)
    yield lambda: read_source(folder / "active.npy")
    (folder / "active.npy").rename(folder / "layers.0.npy")
    yield lambda: read_source(folder / "layers.0.npy")


@case("trace/arrays.py:read_arrays")
def array_in_a_text_file(folder: Path) -> Attempts:
    """Numbers in a text file: saved with numpy."""
    (folder / "0.csv").write_text("1,0")
    yield lambda: read_arrays(folder / "0.csv")
    np.save(folder / "0.npy", ACTIVE)
    yield lambda: read_arrays(folder / "0.npy")


# Other tools' formats.


def adapter(text: str) -> ActivationTrace:
    """Read a source as named on the command line."""
    return read_adapter(AdapterSource.parse(text))


def named_otherwise(where: str, words: str, story: str, bad: str, *good: str, array: Any = BITS) -> None:
    """List a case of a source to be named otherwise; ``{}`` stands for the folder with its file."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        np.save(folder / "0.npy", array)
        yield partial(adapter, bad.format(folder))
        for text in good:
            yield partial(adapter, text.format(folder))


_PARSE, _PACKED = "trace/adapters.py:AdapterSource.parse", "trace/adapters.py:_packed"
named_otherwise(
    _PARSE, "", "an option that is not known: one that is", "packed:{}/0.npy,sequence=big", "packed:{}/0.npy,order=big"
)
named_otherwise(
    "trace/adapters.py:AdapterSource.count", "", "no neurons: 16", "packed:{}/0.npy,neurons=0",
    "packed:{}/0.npy,neurons=16",
)  # fmt: skip
named_otherwise(
    "trace/adapters.py:AdapterSource.rule", "that you fitted", "a rule that is fitted on outputs: the threshold",
    "dense:{}/0.npy,active=teal=50%", "dense:{}/0.npy,active=threshold=0.5", array=ACTIVE * 1.0,
)  # fmt: skip
named_otherwise(
    "trace/adapters.py:read_adapter", "check the path", "a path with a slip: the right one", "packed:{}/1.npy",
    "packed:{}/0.npy",
)  # fmt: skip
named_otherwise(
    _PACKED, "order=little or order=big", "an order of bits that is none: little", "packed:{}/0.npy,order=middle",
    "packed:{}/0.npy,order=little",
)  # fmt: skip
named_otherwise(
    _PACKED, "{} to {} for rows", "17 neurons in two bytes: 16", "packed:{}/0.npy,neurons=17",
    "packed:{}/0.npy,neurons=16",
)  # fmt: skip


def array_saved_otherwise(where: str, words: str, story: str, source: str, bad: Any, good: Any) -> None:
    """List a case of an array that the remedy wants otherwise; its bits must then be read as those of `ACTIVE`."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        np.save(folder / "0.npy", bad)
        yield partial(adapter, source.format(folder))
        np.save(folder / "0.npy", good)
        np.testing.assert_array_equal(adapter(source.format(folder)).blocks["layers.0"].active, BITS)


array_saved_otherwise(
    "trace/adapters.py:_dense", "", "outputs of one token: a row for each", "dense:{}/0.npy", np.ones(16), ACTIVE * 1.0
)
for order in ("little", "big"):
    packed = np.packbits(ACTIVE, axis=1, bitorder=order)
    for what, found, array in (
        ("booleans", "save what", ACTIVE), ("a byte a neuron", "or add neurons", ACTIVE.astype(np.uint8)),
    ):  # fmt: skip
        array_saved_otherwise(
            _PACKED, found, f"{what} given as packed, in {order} order: packed", f"packed:{{}}/0.npy,order={order}",
            array, packed,
        )  # fmt: skip


@case(_PACKED, "or add neurons")
def packed_where_few_fire(folder: Path) -> Attempts:
    """Packed bits in which only every eighth neuron fires: the number of neurons is added."""
    np.save(folder / "0.npy", pack(np.arange(16)[None] % 8 == 0))
    yield partial(adapter, f"packed:{folder}/0.npy")
    yield partial(adapter, f"packed:{folder}/0.npy,neurons=16")


@case("trace/adapters.py:read_adapter", "give a trace")
def counts_as_trace(folder: Path) -> Attempts:
    """Counts where a trace is needed: a trace is given, or the counts are profiled."""
    counted(folder, np.arange(16))
    yield lambda: read_source(f"powerinfer:{folder}")
    yield lambda: read_source(stock(folder / "a.safetensors"))
    yield lambda: read_counts(AdapterSource.parse(f"powerinfer:{folder}"))


def counted(folder: Path, counts: np.ndarray) -> None:
    """Write counts as PowerInfer does."""
    write_torch_file(folder / "activation_0.pt", counts)


@case("trace/counts.py:read_counts")
def no_counts(folder: Path) -> Attempts:
    """A directory without counts: the one that holds them."""
    (folder / "in").mkdir()
    counted(folder / "in", np.arange(16))
    yield lambda: read_counts(AdapterSource.parse(f"powerinfer:{folder}"))
    yield lambda: read_counts(AdapterSource.parse(f"powerinfer:{folder}/in"))


@case("trace/counts.py:_counts")
def counts_above_the_tokens(folder: Path) -> Attempts:
    """A neuron that fired more often than there were tokens: the tokens are corrected, or the counts."""
    counted(folder, np.arange(16))
    yield lambda: read_counts(AdapterSource.parse(f"powerinfer:{folder},tokens=9"))
    yield lambda: read_counts(AdapterSource.parse(f"powerinfer:{folder},tokens=90"))
    counted(folder, np.arange(9))
    yield lambda: read_counts(AdapterSource.parse(f"powerinfer:{folder},tokens=9"))


@case("trace/counts.py:_counts")
def counts_that_are_shares(folder: Path) -> Attempts:
    """Shares instead of counts: counts are saved."""
    counted(folder, np.linspace(0, 1, 16))
    yield lambda: read_counts(AdapterSource.parse(f"powerinfer:{folder}"))
    counted(folder, np.arange(16))


# DejaVu's.

OUTPUTS = np.where(ACTIVE, 0.75, 0.0)


def recorded(bad: Callable[[Path], None], where: str, words: str, story: str, *texts: str) -> None:
    """List a case of DejaVu's files: named by the first text, which is refused, and then by the others."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        bad(folder)
        for text in texts:
            yield partial(adapter, text.format(folder))


def labels(folder: Path, outputs: np.ndarray = OUTPUTS, dtype: str = "<f2") -> None:
    """Write a layer's outputs as DejaVu does."""
    folder.mkdir(exist_ok=True)
    (folder / "mlp_label_0.mmap").write_bytes(outputs.astype(dtype).tobytes())


_DEJAVU, _RAW = "trace/adapters.py:_read_dejavu", "trace/raw_numbers.py:open_numbers"
recorded(
    lambda folder: labels(folder / "in"), _DEJAVU, "directory that holds", "a directory without recordings: the right",
    "dejavu:{},neurons=16", "dejavu:{}/in,neurons=16",
)  # fmt: skip
recorded(labels, _DEJAVU, "no number of neurons", "without neurons=N: with it", "dejavu:{}", "dejavu:{},neurons=16")
recorded(
    labels, _DEJAVU, "say what was written", "numbers of a type that is none: float16",
    "dejavu:{},neurons=16,dtype=half", "dejavu:{},neurons=16,dtype=float16",
)  # fmt: skip
recorded(
    labels, _DEJAVU, "give tokens=N", "more tokens than rows: as many", "dejavu:{},neurons=16,tokens=13",
    "dejavu:{},neurons=16,tokens=12",
)  # fmt: skip
recorded(
    partial(labels, outputs=OUTPUTS * 0), _DEJAVU, "give tokens=N", "nothing fired, so that the end is not known: N",
    "dejavu:{},neurons=16", "dejavu:{},neurons=16,tokens=12",
)  # fmt: skip
recorded(
    labels, _RAW, "rows of {} neurons. correct neurons=N or dtype", "rows that do not come out: the right neurons",
    "dejavu:{},neurons=17", "dejavu:{},neurons=16",
)  # fmt: skip
WIDE = np.random.default_rng(0).standard_normal((64, 16)) * ACTIVE[:1]
recorded(
    partial(labels, outputs=WIDE, dtype="<f4"), _RAW, "add dtype=", "float32 read as float16: as float32, or as is",
    "dejavu:{},neurons=16", "dejavu:{},neurons=16,dtype=float32",
)  # fmt: skip
recorded(
    partial(labels, outputs=WIDE), _RAW, "leave it out for float16", "float16 read as float32: as float16",
    "dejavu:{},neurons=16,dtype=float32", "dejavu:{},neurons=16", "dejavu:{},neurons=16,dtype=float16",
)  # fmt: skip


@case("trace/raw_numbers.py:_check_companion")
def neurons_against_the_inputs(folder: Path) -> Attempts:
    """Inputs that do not come out for as many rows: the right number of neurons, or whole copies."""
    labels(folder)
    inputs = folder / "mlp_sp_x_0.mmap"
    inputs.write_bytes(bytes(12 * 2 * 5))
    yield partial(adapter, f"dejavu:{folder},neurons=8")
    yield partial(adapter, f"dejavu:{folder},neurons=16")

    inputs.write_bytes(bytes(12 * 2 * 5))


# Sources, and several of them.

_SOURCE, _JOIN = "trace/sources.py:read_source", "trace/sources.py:join_traces"


@case(_SOURCE, "check the path")
def trace_that_is_not_there(folder: Path) -> Attempts:
    """A path with a slip: the right one."""
    yield lambda: read_source(folder / "b")
    yield lambda: read_source(stock(folder / "a"))


@case(_SOURCE, "record a trace of the model")
def model_as_trace(folder: Path) -> Attempts:
    """A directory where a trace is needed: a trace that was recorded of it."""
    (folder / "model").mkdir()
    yield lambda: read_source(folder / "model")
    yield lambda: read_source(stock(folder / "model.trace"))


@case(_SOURCE, "convert it")
def trace_of_another_kind(folder: Path) -> Attempts:
    """A table as text: converted with numpy."""
    (folder / "0.txt").write_text("1 0")
    yield lambda: read_source(folder / "0.txt")
    np.save(folder / "0.npy", ACTIVE)
    yield lambda: read_source(folder / "0.npy")


def of_blocks(rows: int, *names: str) -> ActivationTrace:
    """Return a trace of the first rows of some blocks."""
    return ActivationTrace({name: block_of(ACTIVE[:rows]) for name in names}, rows, START)


def joined(*traces: ActivationTrace) -> ActivationTrace:
    """Join traces that came from some files."""
    return join_traces([*map(str, range(len(traces)))], traces)


instead(
    "trace/sources.py:check_one_unit", "", "traces of neurons and of columns: each by itself",
    lambda: joined(of_blocks(3, "layers.0"), replace(of_blocks(3, "layers.1"), metadata={"unit": "column"})),
    lambda: joined(replace(of_blocks(3, "layers.1"), metadata={"unit": "column"})),
)  # fmt: skip
instead(
    _JOIN, "in separate runs", "traces that share a block: each by itself",
    lambda: joined(of_blocks(3, "layers.0", "layers.1"), of_blocks(3, "layers.1", "layers.2")),
    lambda: joined(of_blocks(3, "layers.0", "layers.1")),
)  # fmt: skip
instead(
    _JOIN, "as many for each block", "blocks on texts of two lengths: on one text",
    lambda: joined(of_blocks(3, "layers.0"), of_blocks(4, "layers.1")),
    lambda: joined(of_blocks(4, "layers.0"), of_blocks(4, "layers.1")),
)  # fmt: skip
instead(
    _JOIN, "the same text for all blocks", "blocks on two texts: on one",
    lambda: joined(
        of_blocks(3, "layers.0"), ActivationTrace({"layers.1": block_of(ACTIVE[:3])}, 3, np.array([0, 1]))
    ),
    lambda: joined(of_blocks(3, "layers.0"), of_blocks(3, "layers.1")),
)  # fmt: skip
instead(
    "trace/sources.py:_end_to_end", "", "a layer of two widths: of one model",
    lambda: joined(trace_of(ACTIVE), trace_of(ACTIVE[:, :8])), lambda: joined(trace_of(ACTIVE), trace_of(ACTIVE)),
)  # fmt: skip

_SYNTHETIC = "trace/synthetic.py:SyntheticSource"
instead(
    f"{_SYNTHETIC}.__post_init__", "name one of these", "a workload that is not known: one that is",
    lambda: SyntheticSource("gpt-9"), lambda: SyntheticSource("opt-6.7b"),
)  # fmt: skip
instead(
    f"{_SYNTHETIC}.__post_init__", "correct the number", "no tokens: some",
    lambda: SyntheticSource("opt-6.7b", tokens=0), lambda: SyntheticSource("opt-6.7b", tokens=9),
)  # fmt: skip
instead(
    f"{_SYNTHETIC}.__post_init__", "fewer tokens", "a trace of terabytes: of fewer tokens, or fewer blocks",
    lambda: SyntheticSource("opt-6.7b", tokens=2**24, blocks=1024),
    lambda: SyntheticSource("opt-6.7b", tokens=2**10, blocks=1024),
    lambda: SyntheticSource("opt-6.7b", tokens=2**20, blocks=1),
)  # fmt: skip
instead(
    f"{_SYNTHETIC}.parse", "", "an option that is not known: one that is",
    lambda: SyntheticSource.parse("synthetic:opt-6.7b,words=3"),
    lambda: SyntheticSource.parse("synthetic:opt-6.7b,tokens=4096,active=0.05"),
)  # fmt: skip


def segments(n: int) -> ActivationTrace:
    """Return a trace of several segments."""
    return ActivationTrace({"layers.0": block_of(ACTIVE)}, len(ACTIVE), np.arange(n))


instead(
    "trace/union.py:batch_steps", "to a new profile", "sequences joined twice: the single ones are joined",
    lambda: union_of_segments(union_of_segments(segments(4), 2), 2), lambda: union_of_segments(segments(4), 2),
)  # fmt: skip
instead(
    "trace/union.py:batch_steps", "shorter, segments", "four sequences at once of two: more, shorter segments; "
    "or more traces",
    lambda: union_of_segments(segments(2), 4), lambda: union_of_segments(segments(4), 4),
    lambda: union_of_segments(joined(segments(2), segments(2)), 4),
)  # fmt: skip
