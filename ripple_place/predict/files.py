"""Predictors in files: tensors of a profile, and a file of their own in an output."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.jsontext import parse_json
from ripple_place.predict.params import MAGNITUDE, PREDICTS
from ripple_place.predict.predictor import METHODS, BlockPredictor, ModelPredictor, PredictorNote
from ripple_place.tensorfile import DTYPE_BITS, TensorFile, TensorSource, tensor_file_pieces

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from ripple_place.arrays import AnyArray, Int32Array
    from ripple_place.errors import TensorFileError

KEY = "predictor"
"""Entry of the metadata."""
PREDICTORS_FORMAT = "ripple-place.predictors/1"
BY_NEURON = ("up", "bias", "scale")
"""Tensors with a row for each neuron."""
PIECE_BYTES = 8 << 20
_AGAIN = "fit the predictors again with `ripple-place profile --predictor`"


def predictor_tensors(predictor: ModelPredictor, orders: Mapping[str, Int32Array] | None = None) -> list[TensorSource]:
    """Return the tensors of predictors, those of a block together.

    Parameters
    ----------
    predictor : ModelPredictor
    orders : mapping of str to ndarray of int32, optional
        ``order[slot]`` by block: another order of the neurons. Each tensor is permuted when it is written.
    """
    tensors = []
    for name, block in predictor.blocks.items():
        parts = {
            "bias": block.bias, "threshold": block.threshold, "scale": block.scale, "constant": block.constant,
            "down": block.down, "up": block.up,
        }  # fmt: skip
        for part, array in parts.items():
            if array is not None:
                source = TensorSource.of_array(f"{name}.predictor.{part}", np.ascontiguousarray(array))
                if orders is not None and part in BY_NEURON:
                    source = replace(source, pieces=_in_order(array, orders[name]))
                tensors.append(source)
    return tensors


def _in_order(array: AnyArray, order: Int32Array) -> Iterator[AnyArray]:
    """Yield the rows of an array in another order, about `PIECE_BYTES` at a time."""
    n_rows = max(1, PIECE_BYTES // array[:1].nbytes)
    for first in range(0, order.size, n_rows):
        yield np.ascontiguousarray(array[order[first : first + n_rows]])


def note_to_metadata(note: PredictorNote) -> str:
    """Return the value of the metadata entry `KEY`."""
    return json.dumps(
        {
            "predicts": note.predicts, "recalls": list(note.recalls), "n_tokens": note.n_tokens,
            "methods": dict(note.methods),
        }
    )  # fmt: skip


def predictor_in(file: TensorFile, sizes: Mapping[str, int]) -> ModelPredictor | None:
    """Read the predictors of a file that was opened; None if it has none.

    Parameters
    ----------
    file : TensorFile
    sizes : mapping of str to int
        Neurons of each block.

    Raises
    ------
    TensorFileError
        If tensors or metadata are malformed.
    """
    held = [name for name in sizes if any(tensor.startswith(f"{name}.predictor.") for tensor in file.tensors)]
    if not held and KEY not in file.metadata:
        return None
    note = _read_note(file)
    if [*note.methods] != held:
        raise _error(
            file, f"metadata '{KEY}'", f"methods of {len(note.methods)} blocks",
            f"one for each of the {len(held)} blocks with a predictor",
        )  # fmt: skip
    return ModelPredictor({name: _read_block(file, name, sizes[name], note) for name in held}, note)


def predictors_pieces(
    predictor: ModelPredictor, orders: Mapping[str, Int32Array] | None = None
) -> Iterator[memoryview]:
    """Yield the content of a file of predictors; the same predictors give the same bytes.

    Parameters
    ----------
    predictor : ModelPredictor
    orders : mapping of str to ndarray of int32, optional
        ``order[slot]`` by block: the order of the neurons in the file, if it is another one.
    """
    # Widest dtype first, so that each tensor is aligned to its own size.
    tensors = sorted(predictor_tensors(predictor, orders), key=lambda tensor: -DTYPE_BITS[tensor.dtype])
    sizes = {name: block.n_neurons for name, block in predictor.blocks.items()}
    metadata = {
        "format": PREDICTORS_FORMAT, "blocks": json.dumps(sizes), KEY: note_to_metadata(predictor.note)
    }  # fmt: skip
    yield from tensor_file_pieces(tensors, metadata)


def predictors_bytes(predictor: ModelPredictor) -> int:
    """Return the size of a file of predictors."""
    header = next(predictors_pieces(predictor))
    return header.nbytes + sum(tensor.length_bytes for tensor in predictor_tensors(predictor))


def predictors_content(predictor: ModelPredictor) -> bytes:
    """Return the content of a file of predictors, all of it in memory."""
    return b"".join(bytes(piece) for piece in predictors_pieces(predictor))


def read_predictors(path: str | os.PathLike[str], error: type[TensorFileError]) -> ModelPredictor:
    """Read a file of predictors.

    Parameters
    ----------
    path : path-like
    error : subclass of TensorFileError
        What to raise.

    Raises
    ------
    TensorFileError
        If the file is malformed.
    OSError
        If it cannot be read.
    """
    file = TensorFile.open(path, error)
    file.require_format(PREDICTORS_FORMAT, remedy=_AGAIN)
    try:
        sizes = parse_json(file.metadata.get("blocks", ""))
        if not isinstance(sizes, dict) or not all(type(n) is int and n > 0 for n in sizes.values()):
            raise ValueError(f"{sizes!r}")
    except ValueError as cause:
        raise _error(file, "metadata 'blocks'", str(cause), "a JSON object of sizes by block") from cause
    found = predictor_in(file, sizes)
    if found is None or found.blocks.keys() != sizes.keys():
        raise _error(file, "tensors", "blocks without a predictor", "one for each block of the metadata")
    return found


def _read_block(file: TensorFile, name: str, n_neurons: int, note: PredictorNote) -> BlockPredictor:
    down, up = _read(file, f"{name}.predictor.down", "F16", 2), _read(file, f"{name}.predictor.up", "F16", 2)
    bias, threshold = _read(file, f"{name}.predictor.bias", "F32", 1), _read(file, f"{name}.predictor.threshold", "F32")
    scale = _read(file, f"{name}.predictor.scale", "F32") if note.predicts == MAGNITUDE else None
    rank = down.shape[0]
    expected = {"up": (n_neurons, rank), "bias": (n_neurons,), "threshold": (len(note.recalls),)}
    found = {"up": up.shape, "bias": bias.shape, "threshold": threshold.shape}
    if scale is not None:
        expected, found = {**expected, "scale": (n_neurons,)}, {**found, "scale": scale.shape}
        if (scale < 0).any():
            raise _error(file, f"tensor {name}.predictor.scale", "negative numbers", "at least 0")
    constant = None
    if f"{name}.predictor.constant" in file.tensors:
        constant = _read(file, f"{name}.predictor.constant", "F32")
        expected, found = {**expected, "constant": down.shape[1:]}, {**found, "constant": constant.shape}
    for part, shape in expected.items():
        if found[part] != shape:
            raise _error(file, f"tensor {name}.predictor.{part}", f"shape {list(found[part])}", f"{list(shape)}")
    return BlockPredictor(down, up, bias, threshold, scale, constant)


def _read(file: TensorFile, name: str, dtype: str, n_axes: int = 1) -> AnyArray:
    """Return a tensor of finite numbers."""
    array = file.array(name, dtype=dtype, n_axes=n_axes)
    if not array.size or not np.isfinite(array).all():
        raise _error(file, f"tensor {name}", "no number, NaN or infinity", "finite numbers")
    return array


def _read_note(file: TensorFile) -> PredictorNote:
    try:
        document = parse_json(file.metadata.get(KEY, ""))
        predicts, recalls = document["predicts"], document["recalls"]
        n_tokens, methods = document["n_tokens"], document["methods"]
        if predicts not in PREDICTS or type(n_tokens) is not int or not 0 < n_tokens < 2**63:
            raise ValueError(f"predicts {predicts!r}, n_tokens {n_tokens!r}")
        if not recalls or recalls != sorted({*recalls}) or not all(type(r) is float and 0 < r < 1 for r in recalls):
            raise ValueError(f"recalls {recalls!r}")
        if not isinstance(methods, dict) or not all(method in METHODS for method in methods.values()):
            raise ValueError(f"methods {methods!r}")
        return PredictorNote(predicts, tuple(recalls), n_tokens, methods)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as cause:
        raise _error(
            file, f"metadata '{KEY}'", f"{type(cause).__name__}: {cause}",
            'JSON such as {"predicts": "activity", "recalls": [0.99], "n_tokens": 8192, "methods": {}}',
        ) from cause  # fmt: skip


def _error(file: TensorFile, what: str, found: str, expected: str) -> TensorFileError:
    return file.error(f"{file.path}: {what}", found=found, expected=expected, remedy=_AGAIN)
