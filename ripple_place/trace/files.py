"""The trace file, format ``ripple-place.trace/1`` (docs/formats.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import is_block_name
from ripple_place.errors import TraceFormatError
from ripple_place.jsontext import parse_json
from ripple_place.tensorfile import TensorFile, TensorSource, write_tensor_file
from ripple_place.trace.activation_trace import (
    ASSUMED,
    PREDICTED_RECALL,
    RECORD_AGAIN,
    UNIT_BYTES,
    ActivationTrace,
    BlockTrace,
    Magnitudes,
)
from ripple_place.units import parse_count

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from ripple_place.arrays import Int32Array
    from ripple_place.storedarray import StoredArray

TRACE_FORMAT = "ripple-place.trace/1"
PROFILE_FORMAT = "ripple-place.profile/1"
METADATA_KEYS = (
    "activity", "unit", "thresholds", "perplexity", "perplexity_without_rule", "model", "adapter", "dataset",
    PREDICTED_RECALL, UNIT_BYTES, ASSUMED,
)  # fmt: skip
SOURCES_KEY = "source_digests"
_CLAIMED_TOKENS, _TOKENS_PER_BYTE = 2**20, 8
_CLAIMED_NEURONS, _NEURONS_PER_BYTE = 2**22, 64
"""Tokens and neurons that a file may name without a row for each, and so many more for each of its bytes: experts that
few tokens reach have few rows, but whoever reads a trace keeps numbers for each token and each neuron."""


def open_trace_file(path: str | os.PathLike[str]) -> tuple[TensorFile, dict[str, int]]:
    """Open a trace or profile file and return it with its blocks' numbers of neurons.

    Raises
    ------
    TraceFormatError
        If the container is damaged, the format another, or the list of blocks malformed.
    OSError
        If the file cannot be read.
    """
    file = TensorFile.open(path, TraceFormatError, keep_open=True)
    file.require_format(
        TRACE_FORMAT, PROFILE_FORMAT,
        remedy="give an activation trace or a profile; a checkpoint or a placement is neither",
    )  # fmt: skip
    try:
        blocks = parse_json(file.metadata.get("blocks", ""))
        if not isinstance(blocks, dict) or not blocks:
            raise ValueError("no blocks")
        for name, n_neurons in blocks.items():
            if not is_block_name(name) or type(n_neurons) is not int or not 0 < n_neurons < 2**31:
                raise ValueError(f"{name!r}: {n_neurons!r}")
        most = _CLAIMED_NEURONS + _NEURONS_PER_BYTE * file.size_bytes
        if (n_neurons := sum(blocks.values())) > most:
            raise ValueError(f"{n_neurons} neurons in {file.size_bytes} bytes, which hold at most {most}")
    except ValueError as cause:
        raise TraceFormatError(
            f"{path}: metadata 'blocks'", found=str(cause), expected='JSON such as {"layers.0": 4096}',
            remedy=RECORD_AGAIN,
        ) from cause  # fmt: skip
    return file, blocks


def read_trace(path: str | os.PathLike[str]) -> ActivationTrace:
    """Read a trace, or the trace within a profile. Bits stay in the file and are read as they are used.

    Raises
    ------
    TraceFormatError
        If the file is damaged, has no bits (a profile of imported counts), or contradicts itself.
    OSError
        If it cannot be read.
    """
    file, sizes = open_trace_file(path)
    blocks = {}
    for name, n_neurons in sizes.items():
        if f"{name}.active" not in file.tensors:
            raise TraceFormatError(
                f"{path}: {name}", found="no activation bits", expected=f"a tensor {name}.active",
                remedy="profile again from a trace; counts alone cannot be replayed",
            )  # fmt: skip
        active = file.stored_array(f"{name}.active", dtype="U8", n_axes=2)
        index_name = f"{name}.token_index"
        index = file.array(index_name, dtype="I32", n_axes=1) if index_name in file.tensors else None
        bits_name = f"{name}.predicted"
        predicted = file.stored_array(bits_name, dtype="U8", n_axes=2) if bits_name in file.tensors else None
        blocks[name] = _located(path, name, n_neurons, active, index, _read_magnitudes(file, name), predicted)
    tokens = file.array("tokens", dtype="I32", n_axes=1) if "tokens" in file.tensors else None
    segment_starts = (
        file.array("segment_starts", dtype="I64", n_axes=1)
        if "segment_starts" in file.tensors
        else np.zeros(1, np.int64)
    )
    phases = file.array("phases", dtype="U8", n_axes=1) if "phases" in file.tensors else None
    n_tokens = _count_tokens(file, blocks, tokens)
    metadata = {key: file.metadata[key] for key in METADATA_KEYS if key in file.metadata}
    try:
        return ActivationTrace(blocks, n_tokens, segment_starts, tokens, metadata, _read_sources(file), phases)
    except TraceFormatError as cause:
        raise TraceFormatError.relocated(cause, f"{path}: {cause.where}") from cause


def _count_tokens(file: TensorFile, blocks: Mapping[str, BlockTrace], tokens: Int32Array | None) -> int:
    """Return how many tokens a trace is of: by its metadata, else by its token ids, else by its rows."""
    n_tokens = parse_count(file.metadata.get("n_tokens"))
    if n_tokens is None and tokens is not None:
        n_tokens = tokens.size
    elif n_tokens is None:
        n_tokens = max(
            block.n_rows if block.token_index is None else int(block.token_index.max(initial=-1)) + 1
            for block in blocks.values()
        )
    if n_tokens > (most := _CLAIMED_TOKENS + _TOKENS_PER_BYTE * file.size_bytes):
        raise TraceFormatError(
            f"{file.path}: n_tokens", found=f"{n_tokens} tokens in {file.size_bytes} bytes",
            expected=f"at most {most}, for so few rows", remedy="correct n_tokens, or store the ids of the tokens too",
        )  # fmt: skip
    return n_tokens


def write_trace(path: str | os.PathLike[str], trace: ActivationTrace) -> None:
    """Write a trace file; it appears whole or not at all.

    Raises
    ------
    OSError
        If storage refuses.
    """
    write_tensor_file(path, trace_tensors(trace), trace_metadata(trace, TRACE_FORMAT))


def trace_tensors(trace: ActivationTrace) -> list[TensorSource]:
    """Return the tensors of a trace file, widest dtype first so that each is aligned to its own size."""
    magnitudes = [(f"{name}.magnitude", block.magnitudes) for name, block in trace.blocks.items() if block.magnitudes]
    tensors = [TensorSource.of_array("segment_starts", trace.segment_starts)]
    tensors += [TensorSource.of_array(f"{name}.indptr", matrix.indptr) for name, matrix in magnitudes]
    for name, matrix in magnitudes:
        tensors.append(TensorSource.of_array(f"{name}.indices", matrix.indices))
        tensors.append(TensorSource.of_array(f"{name}.values", matrix.values))
    if trace.tokens is not None:
        tensors.append(TensorSource.of_array("tokens", trace.tokens))
    tensors += [
        TensorSource.of_array(f"{name}.token_index", block.token_index)
        for name, block in trace.blocks.items()
        if block.token_index is not None
    ]
    tensors += [TensorSource.of_array(f"{name}.active", block.active) for name, block in trace.blocks.items()]
    if trace.phases is not None:
        tensors.append(TensorSource.of_array("phases", trace.phases))
    return tensors + [
        TensorSource.of_array(f"{name}.predicted", block.predicted)
        for name, block in trace.blocks.items()
        if block.predicted is not None
    ]


def trace_metadata(trace: ActivationTrace, file_format: str) -> dict[str, str]:
    """Return the metadata of a trace or profile file."""
    sizes = {name: block.n_neurons for name, block in trace.blocks.items()}
    metadata = {**trace.metadata, "format": file_format, "blocks": json.dumps(sizes), "n_tokens": str(trace.n_tokens)}
    return metadata | ({SOURCES_KEY: json.dumps(trace.sources)} if trace.sources else {})


def _read_sources(file: TensorFile) -> tuple[str, ...]:
    """Return the digests of what a trace was made of, where the file says."""
    if SOURCES_KEY not in file.metadata:
        return ()
    try:
        digests = parse_json(file.metadata[SOURCES_KEY])
        if not isinstance(digests, list) or not all(isinstance(digest, str) and digest for digest in digests):
            raise ValueError(f"{digests!r}")
    except ValueError as cause:
        raise TraceFormatError(
            f"{file.path}: metadata '{SOURCES_KEY}'", found=str(cause), expected="a JSON list of digests",
            remedy="profile again",
        ) from cause  # fmt: skip
    return tuple(digests)


def _read_magnitudes(file: TensorFile, name: str) -> Magnitudes | None:
    """Return what a block's active neurons put out, where the file says: in three tensors or none."""
    if not any(f"{name}.magnitude.{part}" in file.tensors for part in ("indptr", "indices", "values")):
        return None
    indptr = file.array(f"{name}.magnitude.indptr", dtype="I64", n_axes=1)
    indices = file.stored_array(f"{name}.magnitude.indices", dtype="I32", n_axes=1)
    values = file.stored_array(f"{name}.magnitude.values", dtype="F32", n_axes=1)
    try:
        return Magnitudes(indptr, indices, values)
    except TraceFormatError as cause:
        raise TraceFormatError.relocated(cause, f"{file.path}: {name}.{cause.where}") from cause


def _located(
    path: str | os.PathLike[str],
    name: str,
    n_neurons: int,
    active: StoredArray,
    token_index: Int32Array | None,
    magnitudes: Magnitudes | None,
    predicted: StoredArray | None,
) -> BlockTrace:
    """Build a block's trace; its errors say which file and block."""
    try:
        return BlockTrace(n_neurons, active, token_index, magnitudes, predicted)
    except TraceFormatError as cause:
        raise TraceFormatError.relocated(cause, f"{path}: {name}.{cause.where}") from cause
