"""A profile: a trace with, for each block, firing counts and the co-activation neighbour graph; and its file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import NEURON, UNITS_EXPECTED, unit_problem
from ripple_place.errors import TraceFormatError
from ripple_place.graph.importance import KEY as IMPORTANCE_KEY
from ripple_place.graph.importance import ModelImportance, importance_in, importance_tensors
from ripple_place.graph.recount import check_counts
from ripple_place.predict.files import KEY as PREDICTOR_KEY
from ripple_place.predict.files import note_to_metadata, predictor_in, predictor_tensors
from ripple_place.tensorfile import DTYPE_BITS, TensorSource, write_tensor_file
from ripple_place.trace.files import PROFILE_FORMAT, open_trace_file, read_trace, trace_metadata, trace_tensors
from ripple_place.units import parse_count

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from scipy.sparse import csr_array

    from ripple_place.arrays import Float32Array, Int64Array
    from ripple_place.graph.importance import ImportanceNote
    from ripple_place.predict.predictor import ModelPredictor
    from ripple_place.tensorfile import TensorFile
    from ripple_place.trace.activation_trace import ActivationTrace


@dataclass(frozen=True, eq=False)
class BlockProfile:
    """Counts of one block.

    Attributes
    ----------
    frequency : ndarray of shape (n_neurons,), int64
        Rows of the trace in which each neuron fires.
    graph : csr_array of shape (n_neurons, n_neurons)
        Symmetric; see `ripple_place.graph.coactivation.neighbor_graph`.
    importance : ndarray of shape (n_neurons,), float32, or None
        What dropping each neuron costs, in nats per squared unit of its output; None where that was not measured
        (`ripple_place.graph.importance.ModelImportance`).
    sensitivity : ndarray of shape (d + 2,), float32, or None
        Weights of `ripple_place.trace.sensitivity.sensitivity_of`; None where not fitted.
    """

    frequency: Int64Array
    graph: csr_array
    importance: Float32Array | None = None
    sensitivity: Float32Array | None = None

    @property
    def n_neurons(self) -> int:
        """Neurons of the block."""
        return self.frequency.size


@dataclass(frozen=True, eq=False)
class Profile:
    """What `profile` learns of a model.

    Attributes
    ----------
    blocks : mapping of str to BlockProfile
        In model order.
    n_neighbors : int
        K of the neighbour graphs.
    trace : ActivationTrace or None
        The activations themselves; None in a profile of imported counts.
    importance_note : ImportanceNote or None
        How the blocks' importance was measured; None if it was not.
    predictor : ModelPredictor or None
        What tells from the input of an FFN which neurons fire; None if that was not fitted.
    counted_as : mapping of str to str
        Of a profile without a trace: its ``unit`` and ``model``, where known.
    digest : str
        SHA-256 of the firing counts, which names the profile in what is derived from it.
    """

    blocks: Mapping[str, BlockProfile]
    n_neighbors: int
    trace: ActivationTrace | None
    importance_note: ImportanceNote | None = None
    predictor: ModelPredictor | None = None
    counted_as: Mapping[str, str] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """What a block is made of, one of `ripple_place.blocks.UNITS`."""
        return self.counted_as.get("unit", NEURON) if self.trace is None else self.trace.unit

    @property
    def importance(self) -> ModelImportance | None:
        """The importance of all blocks; None if it was not measured."""
        if self.importance_note is None:
            return None
        values = {name: block.importance for name, block in self.blocks.items() if block.importance is not None}
        weights = {name: block.sensitivity for name, block in self.blocks.items() if block.sensitivity is not None}
        return ModelImportance(values, weights, self.importance_note)

    def with_importance(self, importance: ModelImportance | None) -> Profile:
        """Return the profile with this importance, or none."""
        values, weights = (importance.values, importance.sensitivities) if importance is not None else ({}, {})
        blocks = {
            name: replace(block, importance=values.get(name), sensitivity=weights.get(name))
            for name, block in self.blocks.items()
        }
        return replace(self, blocks=blocks, importance_note=None if importance is None else importance.note)

    @property
    def digest(self) -> str:
        """Hash of the counts."""
        digest = hashlib.sha256()
        for name, block in self.blocks.items():
            digest.update(name.encode())
            for array in (block.frequency, block.graph.indices, block.graph.data):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def write_profile(path: str | os.PathLike[str], profile: Profile, *, n_tokens: int | None = None) -> None:
    """Write a profile file (`ripple-place.profile/1`); it appears whole or not at all.

    Parameters
    ----------
    path : path-like
    profile : Profile
    n_tokens : int, optional
        Of a profile without a trace: the tokens that its counts come from, where known.

    Raises
    ------
    OSError
        If storage refuses.
    """
    wide, narrow = [], []
    for name, block in profile.blocks.items():
        wide += [
            TensorSource.of_array(f"{name}.frequency", block.frequency),
            TensorSource.of_array(f"{name}.graph.indptr", block.graph.indptr.astype(np.int64)),
        ]
        narrow += [
            TensorSource.of_array(f"{name}.graph.indices", block.graph.indices.astype(np.int32)),
            TensorSource.of_array(f"{name}.graph.counts", block.graph.data.astype(np.int32)),
        ]
    tensors, metadata = [*wide, *narrow], {"n_neighbors": str(profile.n_neighbors)}
    if profile.trace is not None:
        tensors += trace_tensors(profile.trace)
        metadata = trace_metadata(profile.trace, PROFILE_FORMAT) | metadata
    else:
        sizes = {name: block.n_neurons for name, block in profile.blocks.items()}
        metadata |= {"format": PROFILE_FORMAT, "blocks": json.dumps(sizes), "activity": "as counted"}
        metadata |= profile.counted_as
        metadata |= {} if n_tokens is None else {"n_tokens": str(n_tokens)}
    if (importance := profile.importance) is not None:
        tensors += importance_tensors(importance)
        metadata[IMPORTANCE_KEY] = importance.note.to_metadata()
    if profile.predictor is not None:
        tensors += predictor_tensors(profile.predictor)
        metadata[PREDICTOR_KEY] = note_to_metadata(profile.predictor.note)
    if importance is not None or profile.predictor is not None:
        # Widest dtype first, so that each tensor is aligned to its own size.
        tensors.sort(key=lambda tensor: -DTYPE_BITS[tensor.dtype])
    write_tensor_file(path, tensors, metadata)


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """Read a profile file.

    Raises
    ------
    TraceFormatError
        If it is damaged, a plain trace, or contradicts itself: firing counts are compared with the bits, those of
        pairs with a sample that is counted again. Or if its importance or predictors are malformed.
    OSError
        If it cannot be read.
    """
    file, sizes = open_trace_file(path)
    if file.metadata["format"] != PROFILE_FORMAT:
        raise TraceFormatError(
            path, found="a trace without counts", expected="a profile",
            remedy=f"run `ripple-place profile {path} --out PROFILE` first",
        )  # fmt: skip
    blocks = {name: _read_block(file, name, n_neurons) for name, n_neurons in sizes.items()}
    has_bits = any(name.endswith(".active") for name in file.tensors)
    n_neighbors = parse_count(file.metadata.get("n_neighbors")) or 64
    trace = read_trace(path) if has_bits else None
    if trace is not None:
        for name, block in blocks.items():
            check_counts(f"{path}: {name}", trace.blocks[name], block.frequency, block.graph)
    counted_as = _read_counted_as(file, sizes) if trace is None else {}
    profile = Profile(blocks, n_neighbors, trace, predictor=predictor_in(file, sizes), counted_as=counted_as)
    return profile.with_importance(importance_in(file, sizes))


def _read_counted_as(file: TensorFile, names: Iterable[str]) -> dict[str, str]:
    """Return the unit and the model of imported counts, where the file says."""
    said = {key: file.metadata[key] for key in ("unit", "model") if key in file.metadata}
    if problem := unit_problem(said.get("unit", NEURON), names):
        raise TraceFormatError(
            f"{file.path}: unit", found=problem, expected=UNITS_EXPECTED, remedy="profile the counts again"
        )
    return said


def read_importance(path: str | os.PathLike[str]) -> ModelImportance | None:
    """Read what dropping neurons costs from a profile file, and nothing else of it; None if it does not say.

    Raises
    ------
    TraceFormatError
        If the file is damaged, no trace or profile, or its importance is malformed.
    OSError
        If it cannot be read.
    """
    return importance_in(*open_trace_file(path))


def read_predictor(path: str | os.PathLike[str]) -> ModelPredictor | None:
    """Read the predictors of a profile file, and nothing else of it; None if it has none.

    Raises
    ------
    TraceFormatError
        If the file is damaged, no trace or profile, or its predictors are malformed.
    OSError
        If it cannot be read.
    """
    return predictor_in(*open_trace_file(path))


def _read_block(file: TensorFile, name: str, n_neurons: int) -> BlockProfile:
    from scipy.sparse import csr_array

    frequency = file.array(f"{name}.frequency", dtype="I64", n_axes=1)
    indptr = file.array(f"{name}.graph.indptr", dtype="I64", n_axes=1)
    indices = file.array(f"{name}.graph.indices", dtype="I32", n_axes=1)
    counts = file.array(f"{name}.graph.counts", dtype="I32", n_axes=1)
    try:
        if frequency.shape != (n_neurons,) or (frequency < 0).any() or (counts <= 0).any():
            raise ValueError("counts of another number of neurons, or not positive")
        graph = csr_array((counts, indices, indptr), shape=(n_neurons, n_neurons))
        graph.check_format(full_check=True)
        if (graph != graph.T).nnz or graph.diagonal().any():
            raise ValueError("a graph that is not symmetric, or has loops")
        first = np.repeat(np.arange(n_neurons), np.diff(indptr))
        if (counts > np.minimum(frequency[first], frequency[indices])).any():
            raise ValueError("a pair that fires together more often than one of the two fires")
    except ValueError as cause:
        raise TraceFormatError(
            f"{file.path}: {name}", found=str(cause), expected=f"counts and a graph of {n_neurons} neurons",
            remedy="profile again",
        ) from cause  # fmt: skip
    return BlockProfile(frequency, graph)
