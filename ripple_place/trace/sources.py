"""What `profile` and `simulate` take as traces: files of bits, arrays, sparse matrices, synthetic ones, and several."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ripple_place.blocks import is_block_name
from ripple_place.errors import TraceFormatError, UnsupportedError, UsageError
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace, Magnitudes
from ripple_place.trace.files import read_trace
from ripple_place.trace.synthetic import SyntheticSource, draw_trace, is_synthetic, synthetic_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt


def read_source(path: Path) -> ActivationTrace:
    """Read one trace source.

    Parameters
    ----------
    path : Path
        ``*.safetensors``, or any file in that format: a trace or profile. ``*.npy``: one block, boolean
        ``[n_tokens, n_neurons]``, or uint8 packed bits in little order (the number of neurons is then 8 times the
        columns). ``*.npz``: one block as written by `scipy.sparse.save_npz` (stored entries that are not zero are
        active), or one boolean array for each block under its name (``numpy.savez(path, **{"layers.0": active})``).
        A file with one block is named after it: ``layers.3.npy``, ``layer_3.npz``, ``3.npy``. Or no file at all:
        ``synthetic:opt-6.7b,tokens=4096`` (`ripple_place.trace.synthetic`).

    Raises
    ------
    UsageError
        If there is nothing at `path`, its ending says nothing, or there is no such synthetic workload.
    UnsupportedError
        If `path` is a directory: `ripple_place.trace.capture` records from models.
    TraceFormatError
        If the content is no trace.
    """
    if is_synthetic(path):
        return draw_trace(SyntheticSource.parse(str(path)))
    if not path.exists():
        raise UsageError(
            path, found="nothing there", expected=f"a trace, or {' or '.join(synthetic_names())}",
            remedy="check the path",
        )  # fmt: skip
    if path.is_dir():
        raise UnsupportedError(
            path, found="a directory", expected="trace files",
            remedy="record a trace of the model first: ripple-place profile MODEL --text FILE, or your own code "
            "(docs/formats.md)",
        )  # fmt: skip
    if path.suffix == ".npy":
        return _of_blocks(path, {_block_in_name(path): _read_npy(path)})
    if path.suffix == ".npz":
        return _of_blocks(path, _read_npz(path))
    if path.suffix == ".safetensors" or _looks_like_safetensors(path):
        return read_trace(path)
    raise UsageError(
        path, found=f"a file ending in {path.suffix!r}", expected=".safetensors, .npy or .npz",
        remedy="convert it to one of these (docs/formats.md)",
    )  # fmt: skip


def read_sources(paths: Sequence[Path]) -> ActivationTrace:
    """Read several trace sources as one trace; see `join_traces`.

    Raises
    ------
    TraceFormatError
        If they can be joined neither way, or one is bad.
    UsageError, UnsupportedError
        As for `read_source`.
    """
    return join_traces(paths, [read_source(path) for path in paths])


def join_traces(paths: Sequence[Path], traces: Sequence[ActivationTrace]) -> ActivationTrace:
    """Join the traces that came from some paths.

    Sources of the same blocks are laid one after the other, each in segments of its own; sources of different blocks
    and equally many tokens are laid side by side.

    Raises
    ------
    TraceFormatError
        If they can be joined neither way.
    """
    if len(traces) == 1:
        return traces[0]
    names = [set(trace.blocks) for trace in traces]
    if all(other == names[0] for other in names):
        return _end_to_end(paths, traces)
    if len(set().union(*names)) < sum(map(len, names)):
        raise TraceFormatError(
            ", ".join(map(str, paths)), found="traces that share some blocks and not others",
            expected="the same blocks in each, or no block twice", remedy="give them in separate runs",
        )  # fmt: skip
    if len({trace.n_tokens for trace in traces}) > 1:
        raise TraceFormatError(
            ", ".join(map(str, paths)), found=f"{[trace.n_tokens for trace in traces]} tokens",
            expected="as many for each block", remedy="record all blocks on the same text",
        )  # fmt: skip
    first = traces[0]
    for path, trace in zip(paths, traces, strict=True):
        if not np.array_equal(trace.segment_starts, first.segment_starts) or (
            trace.tokens is not None and first.tokens is not None and not np.array_equal(trace.tokens, first.tokens)
        ):
            raise TraceFormatError(
                path, found=f"other tokens or segments than {paths[0]}", expected="the same text for all blocks",
                remedy="record all blocks on the same text",
            )  # fmt: skip
    blocks = {name: block for trace in traces for name, block in trace.blocks.items()}
    return ActivationTrace(blocks, first.n_tokens, first.segment_starts, first.tokens, first.metadata)


def _end_to_end(paths: Sequence[Path], traces: Sequence[ActivationTrace]) -> ActivationTrace:
    """Lay traces of the same blocks one after the other."""
    starts = np.cumsum([0, *(trace.n_tokens for trace in traces)])
    blocks = {}
    for name in traces[0].blocks:
        parts = [trace.blocks[name] for trace in traces]
        if len({part.n_neurons for part in parts}) > 1:
            raise TraceFormatError(
                f"{', '.join(map(str, paths))}: {name}", found=f"{[part.n_neurons for part in parts]} neurons",
                expected="traces of one model", remedy="give the traces of one model",
            )  # fmt: skip
        index = None
        if any(part.token_index is not None for part in parts):
            index = np.concatenate(
                [
                    (np.arange(part.n_rows) if part.token_index is None else part.token_index) + start
                    for part, start in zip(parts, starts, strict=False)
                ]
            ).astype(np.int32)
        active = np.concatenate([part.active for part in parts])
        blocks[name] = BlockTrace(parts[0].n_neurons, active, index, _magnitudes_end_to_end(parts))
    return ActivationTrace(
        blocks,
        int(starts[-1]),
        np.concatenate([trace.segment_starts + start for trace, start in zip(traces, starts, strict=False)]),
        np.concatenate([trace.tokens for trace in traces if trace.tokens is not None])
        if all(trace.tokens is not None for trace in traces)
        else None,
        _joined_metadata(traces),
    )


def _joined_metadata(traces: Sequence[ActivationTrace]) -> dict[str, str]:
    """Return what the traces say of themselves, each thing once; thresholds only if they are the same."""
    metadata = {
        key: " + ".join(dict.fromkeys(trace.metadata.get(key, "unknown") for trace in traces))
        for key in ("activity", "model", "dataset")
    }
    thresholds = {trace.metadata.get("thresholds") for trace in traces}
    same = thresholds.pop() if len(thresholds) == 1 else None
    return metadata if same is None else metadata | {"thresholds": same}


def _magnitudes_end_to_end(parts: Sequence[BlockTrace]) -> Magnitudes | None:
    """Lay magnitudes one after the other; None unless every part has some."""
    matrices = [part.magnitudes for part in parts if part.magnitudes is not None]
    if len(matrices) < len(parts):
        return None
    starts = np.cumsum([0, *(matrix.indices.size for matrix in matrices)])
    indptr = [matrix.indptr[:-1] + start for matrix, start in zip(matrices, starts, strict=False)]
    return Magnitudes(
        np.concatenate([*indptr, starts[-1:]]).astype(np.int64),
        np.concatenate([matrix.indices for matrix in matrices]),
        np.concatenate([matrix.values for matrix in matrices]),
    )


def _looks_like_safetensors(path: Path) -> bool:
    """Tell whether a file that is named anyhow (``wiki.profile``) has a JSON object where a header would start."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _of_blocks(path: Path, blocks: dict[str, BlockTrace]) -> ActivationTrace:
    n_tokens = next(iter(blocks.values())).n_rows if blocks else 0
    try:
        return ActivationTrace(blocks, n_tokens, np.zeros(1, np.int64), None, {"activity": "as given"})
    except TraceFormatError as cause:
        raise TraceFormatError(
            f"{path}: {cause.where}", found=cause.found, expected=cause.expected, remedy=cause.remedy
        ) from cause


def _block_in_name(path: Path) -> str:
    """Return the block that a file is named after."""
    if is_block_name(path.stem):
        return path.stem
    numbers: list[str] = re.findall(r"\d+", path.stem)
    name = f"layers.{int(numbers[0])}" if len(numbers) == 1 else ""
    if not is_block_name(name):
        raise UsageError(
            path, found=f"the name {path.name}", expected="a name that says the block, such as layers.3.npy",
            remedy="rename the file",
        )  # fmt: skip
    return name


@contextmanager
def _decoding(path: Path, expected: str) -> Iterator[None]:
    """Turn whatever numpy and scipy raise on damaged content into a `TraceFormatError`; errors of storage pass."""
    try:
        yield
    except OSError:
        raise
    except Exception as cause:
        raise TraceFormatError(
            path, found=str(cause) or type(cause).__name__, expected=expected, remedy="save it again"
        ) from cause


def _load(path: Path, file: BinaryIO) -> Any:
    """Return the array in a ``.npy`` file, or the archive that an ``.npz`` file is."""
    with _decoding(path, "an array that numpy.load reads without pickle"):
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray) != (path.suffix == ".npy"):
            raise ValueError("an .npz archive" if path.suffix == ".npy" else "a single .npy array")
        return content


def _bits(where: object, array: npt.NDArray[Any]) -> BlockTrace:
    """Return the trace of a dense boolean array or of packed bits."""
    if array.ndim != 2 or array.dtype not in (np.bool_, np.uint8) or 0 in array.shape:
        raise TraceFormatError(
            where, found=f"{array.dtype} {list(array.shape)}",
            expected="boolean [n_tokens, n_neurons], or uint8 bits packed in little order",
            remedy="compare the activations with their threshold first",
        )  # fmt: skip
    if array.dtype == np.bool_:
        return BlockTrace(array.shape[1], np.packbits(array, axis=1, bitorder="little"))
    if array.max() <= 1:
        # Packed, this would mean that seven neurons in eight never fire: far likelier one byte a neuron.
        raise TraceFormatError(
            where, found="uint8 with no value above 1", expected="booleans, or eight neurons packed in a byte",
            remedy="save it with .astype(bool)",
        )  # fmt: skip
    return BlockTrace(8 * array.shape[1], np.ascontiguousarray(array))


def _read_npy(path: Path) -> BlockTrace:
    with path.open("rb") as file:
        return _bits(path, _load(path, file))


def _read_npz(path: Path) -> dict[str, BlockTrace]:
    with path.open("rb") as file:
        archive = _load(path, file)
        if "format" not in archive.files:
            for name in archive.files:
                if not is_block_name(name):
                    raise TraceFormatError(
                        f"{path}: {name}", found="an array of that name", expected="block names such as layers.0",
                        remedy="save with numpy.savez(path, **{'layers.0': active})",
                    )  # fmt: skip
            with _decoding(path, "arrays saved by numpy.savez"):
                arrays = {name: archive[name] for name in archive.files}
            return {name: _bits(f"{path}: {name}", array) for name, array in arrays.items()}
    from scipy import sparse

    with _decoding(path, "a matrix saved by scipy.sparse.save_npz"):
        matrix = sparse.load_npz(path)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise ValueError(f"shape {list(matrix.shape)}, not [n_tokens, n_neurons]")
        if matrix.format in ("csr", "csc", "bsr"):
            # Nothing is checked on loading, and to convert or unpack a wild index is to write outside of an array.
            matrix.check_format(full_check=True)
        matrix = matrix.tocsr()
    n_tokens, n_neurons = matrix.shape
    active = np.zeros((n_tokens, (n_neurons + 7) // 8), np.uint8)
    for start in range(0, n_tokens, 4096):
        rows = (matrix[start : start + 4096] != 0).toarray()
        active[start : start + 4096] = np.packbits(rows, axis=1, bitorder="little")
    return {_block_in_name(path): BlockTrace(n_neurons, active)}
