"""What `profile` and `simulate` take as traces: bits, arrays, sparse matrices, routes, synthetic ones, and several."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import unit_metadata
from ripple_place.errors import TraceFormatError, UnsupportedError, UsageError
from ripple_place.hub import nothing_error
from ripple_place.inputfile import open_stream
from ripple_place.trace.activation_trace import ASSUMED, PREDICTED_RECALL, ActivationTrace, BlockTrace, Magnitudes
from ripple_place.trace.adapters import AdapterSource, is_adapter, read_adapter
from ripple_place.trace.arrays import block_in_name, read_npy, read_npz
from ripple_place.trace.files import read_trace
from ripple_place.trace.routes.read import form_of_routes, read_routes
from ripple_place.trace.synthetic import SyntheticSource, draw_trace, is_synthetic, synthetic_names
from ripple_place.trace.unit_bytes import read_unit_bytes, unit_bytes_metadata

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.arrays import UInt8Array


def read_source(path: Path) -> ActivationTrace:
    """Read one trace source.

    Parameters
    ----------
    path : Path
        ``*.safetensors``, or any file in that format: a trace or profile. ``*.npy``: one block, boolean
        ``[n_tokens, n_neurons]``, or uint8 packed bits in little order (the number of neurons is then 8 times the
        columns). ``*.npz``: one block as written by `scipy.sparse.save_npz` (stored entries that are not zero are
        active), or one boolean array for each block under its name (``numpy.savez(path, **{"layers.0": active})``).
        A file with one block is named after it: ``layers.3.npy``, ``layer_3.npz``, ``3.npy``. ``*.csv``, ``*.jsonl``,
        or any file that begins as they do: routes of experts (`ripple_place.trace.routes.read`). Or no file at all:
        ``synthetic:opt-6.7b,tokens=4096`` (`ripple_place.trace.synthetic`). Or another tool's format:
        ``dejavu:DIR,neurons=16384`` (`ripple_place.trace.adapters`).

    Raises
    ------
    UsageError
        If there is nothing at `path`, its ending says nothing, or there is no such synthetic workload.
    UnsupportedError
        If `path` is a directory: `ripple_place.capture` records from models.
    TraceFormatError
        If the content is no trace.
    """
    if is_synthetic(path):
        return draw_trace(SyntheticSource.parse(str(path)))
    if is_adapter(path):
        source = AdapterSource.parse(str(path))
        return read_routes(source) if source.kind == "routes" else read_adapter(source)
    if not path.exists():
        raise nothing_error(
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
        return _of_blocks(path, {block_in_name(path): read_npy(path)})
    if path.suffix == ".npz":
        return _of_blocks(path, read_npz(path))
    if is_tensor_file(path):
        return read_trace(path)
    if path.suffix == ".json":
        return read_adapter(AdapterSource("mbolt", path, {}))  # Says that counts are no trace.
    if path.suffix in (".csv", ".jsonl") or form_of_routes(path) is not None:
        return read_routes(AdapterSource("routes", path, {}))
    raise UsageError(
        path, found=f"a file ending in {path.suffix!r}", expected=".safetensors, .npy, .npz, or routes of experts",
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
    and equally many tokens are laid side by side. Predictions are kept if all traces that have some have them at the
    same recall; laid one after the other, a block keeps them if every trace has them of it.

    Raises
    ------
    TraceFormatError
        If they can be joined neither way.
    """
    if len(traces) == 1:
        return traces[0]
    check_one_unit(paths, traces)
    recalls = {trace.metadata.get(PREDICTED_RECALL) for trace in traces if trace.has_predictions}
    if len(recalls) > 1:
        traces = [_without_predictions(trace) for trace in traces]
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
    metadata = {key: value for key, value in first.metadata.items() if key != PREDICTED_RECALL} | _recall_of(traces)
    metadata |= _unit_bytes_of(traces)
    return ActivationTrace(
        blocks, first.n_tokens, first.segment_starts, first.tokens, metadata, phases=first.phases
    )  # fmt: skip


def check_one_unit(paths: Sequence[Path], traces: Sequence[ActivationTrace]) -> None:
    """Refuse traces of neurons among those of columns or experts.

    Raises
    ------
    TraceFormatError
        If there are both.
    """
    if len({trace.unit for trace in traces}) > 1:
        raise TraceFormatError(
            ", ".join(map(str, paths)), found=f"blocks of {' and of '.join(trace.unit + 's' for trace in traces)}",
            expected="blocks of the same unit in each", remedy="profile those of each unit apart",
        )  # fmt: skip


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
        active = np.concatenate([np.asarray(part.active) for part in parts])
        blocks[name] = BlockTrace(
            parts[0].n_neurons, active, index, _magnitudes_end_to_end(parts), _predicted_end_to_end(parts)
        )
    recall = _recall_of(traces) if any(block.predicted is not None for block in blocks.values()) else {}
    return ActivationTrace(
        blocks,
        int(starts[-1]),
        np.concatenate([trace.segment_starts + start for trace, start in zip(traces, starts, strict=False)]),
        np.concatenate([trace.tokens for trace in traces if trace.tokens is not None])
        if all(trace.tokens is not None for trace in traces)
        else None,
        _joined_metadata(traces) | recall,
        phases=_phases_end_to_end(traces),
    )


def _phases_end_to_end(traces: Sequence[ActivationTrace]) -> UInt8Array | None:
    """Return the phases of all tokens; None unless every trace has them."""
    phases = [trace.phases for trace in traces if trace.phases is not None]
    return np.concatenate(phases) if len(phases) == len(traces) else None


def _joined_metadata(traces: Sequence[ActivationTrace]) -> dict[str, str]:
    """Return what the traces say of themselves, each thing once; thresholds only if they are the same.

    Perplexities of several texts by one rule become that of all: the mean of their logarithms, by tokens.
    """
    metadata = {
        key: " + ".join(dict.fromkeys(trace.metadata.get(key, "unknown") for trace in traces))
        for key in ("activity", "model", "dataset")
    }
    metadata |= unit_metadata(traces[0].unit) | _unit_bytes_of(traces)
    if assumed := dict.fromkeys(trace.metadata[ASSUMED] for trace in traces if ASSUMED in trace.metadata):
        metadata[ASSUMED] = " + ".join(assumed)
    if any("adapter" in trace.metadata for trace in traces):
        adapters = dict.fromkeys(trace.metadata.get("adapter", "none") for trace in traces)
        metadata["adapter"] = " + ".join(adapters)
    thresholds = {trace.metadata.get("thresholds") for trace in traces}
    same = thresholds.pop() if len(thresholds) == 1 else None
    metadata |= {} if same is None else {"thresholds": same}
    if len({trace.metadata.get("activity") for trace in traces}) == 1:
        for key in ("perplexity", "perplexity_without_rule"):
            with suppress(KeyError, ValueError):
                nats = [trace.n_tokens * math.log(float(trace.metadata[key])) for trace in traces]
                metadata[key] = repr(math.exp(sum(nats) / sum(trace.n_tokens for trace in traces)))
    return metadata


def _unit_bytes_of(traces: Sequence[ActivationTrace]) -> dict[str, str]:
    """Return the metadata entry of the bytes of units that the traces say; empty if none does, or two disagree."""
    said: dict[str, int] = {}
    for trace in traces:
        for name, size in read_unit_bytes(trace.metadata).items():
            if said.setdefault(name, size) != size:
                return {}
    return unit_bytes_metadata(said)


def _magnitudes_end_to_end(parts: Sequence[BlockTrace]) -> Magnitudes | None:
    """Lay magnitudes one after the other; None unless every part has some."""
    matrices = [part.magnitudes for part in parts if part.magnitudes is not None]
    if len(matrices) < len(parts):
        return None
    starts = np.cumsum([0, *(matrix.indices.size for matrix in matrices)])
    indptr = [matrix.indptr[:-1] + start for matrix, start in zip(matrices, starts, strict=False)]
    return Magnitudes(
        np.concatenate([*indptr, starts[-1:]]).astype(np.int64),
        np.concatenate([np.asarray(matrix.indices) for matrix in matrices]),
        np.concatenate([np.asarray(matrix.values) for matrix in matrices]),
    )


def _predicted_end_to_end(parts: Sequence[BlockTrace]) -> UInt8Array | None:
    """Lay predictions one after the other; None unless every part has some."""
    bits = [np.asarray(part.predicted) for part in parts if part.predicted is not None]
    return np.concatenate(bits) if len(bits) == len(parts) else None


def _recall_of(traces: Sequence[ActivationTrace]) -> dict[str, str]:
    """Return the metadata entry of the recall that the traces with predictions share; empty if none says it."""
    said = [trace.metadata[PREDICTED_RECALL] for trace in traces if trace.predicted_recall is not None]
    return {PREDICTED_RECALL: said[0]} if said else {}


def _without_predictions(trace: ActivationTrace) -> ActivationTrace:
    return replace(trace, blocks={name: replace(block, predicted=None) for name, block in trace.blocks.items()})


def is_tensor_file(path: Path) -> bool:
    """Tell whether a file is read as a safetensors file: a trace or a profile.

    Raises
    ------
    UsageError, OSError
        If it is no regular file, or cannot be read.
    """
    if path.suffix in (".npy", ".npz"):
        return False
    return path.suffix == ".safetensors" or _looks_like_safetensors(path)


def _looks_like_safetensors(path: Path) -> bool:
    """Tell whether a file that is named anyhow (``wiki.profile``) has a JSON object where a header would start."""
    with open_stream(path) as file:
        return file.read(9)[8:] == b"{"


def _of_blocks(path: Path, blocks: dict[str, BlockTrace]) -> ActivationTrace:
    n_tokens = next(iter(blocks.values())).n_rows if blocks else 0
    try:
        return ActivationTrace(blocks, n_tokens, np.zeros(1, np.int64), None, {"activity": "as given"})
    except TraceFormatError as cause:
        raise TraceFormatError.relocated(cause, f"{path}: {cause.where}") from cause
