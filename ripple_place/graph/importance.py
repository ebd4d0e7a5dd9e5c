"""What dropping neurons costs, as a profile stores it: importance by neuron, and how it differs from token to token."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import TraceFormatError
from ripple_place.jsontext import parse_json
from ripple_place.tensorfile import TensorSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.arrays import Float32Array
    from ripple_place.tensorfile import TensorFile

METHOD = "fisher"
KEY = "importance"
_AGAIN = "measure it again: `ripple-place profile MODEL --text FILE --importance`"


@dataclass(frozen=True)
class SensitivityNote:
    """How the sensitivity of a block was fitted.

    Attributes
    ----------
    input : str
        The module of the model whose input is the state x.
    r2 : float or None
        Share of the variance of ``log |g|^2`` that it explains on held-out tokens, where known.
    """

    input: str
    r2: float | None


@dataclass(frozen=True)
class ImportanceNote:
    """How importance was measured.

    Attributes
    ----------
    n_tokens : int
        Of the text.
    seed : int
        Of the labels; of several texts, that of the last.
    n_rows : mapping of str to int
        By block, the tokens that reach it, over which its importance is the mean.
    sensitivity : mapping of str to SensitivityNote
    """

    n_tokens: int
    seed: int
    n_rows: Mapping[str, int] = field(default_factory=dict)
    sensitivity: Mapping[str, SensitivityNote] = field(default_factory=dict)

    def to_metadata(self) -> str:
        """Return the value of a profile's metadata key ``importance``; `n_rows` only where not all tokens came."""
        document: dict[str, Any] = {"method": METHOD, "n_tokens": self.n_tokens, "seed": self.seed}
        if fewer := {name: n for name, n in self.n_rows.items() if n != self.n_tokens}:
            document["n_rows"] = fewer
        if self.sensitivity:
            document["sensitivity"] = {
                name: {"input": note.input, "r2": note.r2} for name, note in self.sensitivity.items()
            }
        return json.dumps(document)


@dataclass(frozen=True, eq=False)
class ModelImportance:
    """What dropping a neuron's output h costs for a token, in nats: about ``s(x) * importance * h^2``.

    Attributes
    ----------
    values : mapping of str to ndarray of shape (n_neurons,), float32
        Importance by block, in nats per squared unit of h; at least 0. Without blocks that no token reached.
    sensitivities : mapping of str to ndarray of shape (d + 2,), float32
        Weights of ``s`` by block (`ripple_place.trace.sensitivity.sensitivity_of`), where fitted. Otherwise s is 1.
    note : ImportanceNote
    """

    values: Mapping[str, Float32Array]
    sensitivities: Mapping[str, Float32Array]
    note: ImportanceNote

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``importance`` of ``profile --json``."""
        blocks = {}
        for name, values in self.values.items():
            fit = self.note.sensitivity.get(name)
            blocks[name] = {
                "mean": float(values.mean(dtype=np.float64)),
                "share_of_top_10_percent": share_of_top(values),
                "sensitivity_r2": None if fit is None else fit.r2,
            }
        return {"method": METHOD, "n_tokens": self.note.n_tokens, "blocks": blocks}


def share_of_top(values: Float32Array, share: float = 0.1) -> float | None:
    """Return the share of the sum that the largest values make, `share` of them and at least one; None of zeros."""
    ordered = np.sort(values.astype(np.float64))[::-1]
    total = ordered.sum()
    return float(ordered[: max(1, round(share * ordered.size))].sum() / total) if total > 0 else None


def join_importance(parts: Sequence[ModelImportance]) -> ModelImportance | None:
    """Return the importance over several texts: the mean over all tokens; sensitivities of the last that has one.

    Parameters
    ----------
    parts : sequence of ModelImportance
        Of the same model, in the order of the texts; blocks may be spread over them.
    """
    if not parts:
        return None
    sums: dict[str, Any] = {}
    n_rows: dict[str, int] = {}
    for part in parts:
        for name, values in part.values.items():
            weight = part.note.n_rows.get(name, part.note.n_tokens)
            sums[name] = sums.get(name, 0.0) + values.astype(np.float64) * weight
            n_rows[name] = n_rows.get(name, 0) + weight
    # Parts that share a block were measured on one text after the other; others side by side, on the same.
    is_joined = len(n_rows) < sum(len(part.values) for part in parts)
    n_tokens = [part.note.n_tokens for part in parts]
    note = ImportanceNote(
        sum(n_tokens) if is_joined else max(n_tokens), parts[-1].note.seed, n_rows,
        {name: fit for part in parts for name, fit in part.note.sensitivity.items()},
    )  # fmt: skip
    means = {name: (total / max(1, n_rows[name])).astype(np.float32) for name, total in sums.items()}
    return ModelImportance(means, {name: w for part in parts for name, w in part.sensitivities.items()}, note)


def importance_tensors(importance: ModelImportance) -> list[TensorSource]:
    """Return the tensors of a profile's importance."""
    return [
        *(TensorSource.of_array(f"{name}.importance", values) for name, values in importance.values.items()),
        *(TensorSource.of_array(f"{name}.sensitivity", weights) for name, weights in importance.sensitivities.items()),
    ]


def importance_in(file: TensorFile, sizes: Mapping[str, int]) -> ModelImportance | None:
    """Read the importance of a profile that was opened; None if it has none.

    Parameters
    ----------
    file : TensorFile
    sizes : mapping of str to int
        Neurons of each block.

    Raises
    ------
    TraceFormatError
        If tensors or metadata are malformed.
    """
    held = {name for name in sizes if f"{name}.importance" in file.tensors or f"{name}.sensitivity" in file.tensors}
    if not held and KEY not in file.metadata:
        return None
    note = _read_note(file)
    values = {name: _read(file, f"{name}.importance", n) for name, n in sizes.items() if name in held}
    for name, array in values.items():
        if (array < 0).any():
            raise _error(f"{file.path}: tensor {name}.importance", "negative numbers", "costs of at least 0")
    sensitivities = {name: _read(file, f"{name}.sensitivity") for name in note.sensitivity}
    if surplus := [name for name in values if f"{name}.sensitivity" in file.tensors and name not in sensitivities]:
        raise _error(
            f"{file.path}: tensor {surplus[0]}.sensitivity", "weights without a note in the metadata", "one for each"
        )
    n_rows = {name: note.n_rows.get(name, note.n_tokens) for name in values}
    note = ImportanceNote(note.n_tokens, note.seed, n_rows, note.sensitivity)
    return ModelImportance(values, sensitivities, note)


def _read(file: TensorFile, name: str, n: int | None = None) -> Float32Array:
    """Return a vector of finite numbers: `n` of them, or as many as a sensitivity may have."""
    array = file.array(name, dtype="F32", n_axes=1)
    if array.size != n if n is not None else array.size < 3:
        raise _error(f"{file.path}: tensor {name}", f"{array.size} numbers", f"{n or 'at least 3'}")
    if not np.isfinite(array).all():
        raise _error(f"{file.path}: tensor {name}", "NaN or infinity", "finite numbers")
    return array


def _read_note(file: TensorFile) -> ImportanceNote:
    try:
        document = parse_json(file.metadata.get(KEY, ""))
        if document["method"] != METHOD:
            raise ValueError(f"method {document['method']!r}")
        n_rows, fits = document.get("n_rows", {}), document.get("sensitivity", {})
        counts = (document["n_tokens"], document["seed"], *n_rows.values())
        if not all(type(count) is int and 0 <= count < 2**63 for count in counts):
            raise ValueError(f"counts {counts}")
        sensitivity = {name: SensitivityNote(str(fit["input"]), _number(fit["r2"])) for name, fit in fits.items()}
        return ImportanceNote(document["n_tokens"], document["seed"], n_rows, sensitivity)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as cause:
        expected = f'JSON such as {{"method": "{METHOD}", "n_tokens": 8192, "seed": 0}}'
        raise _error(f"{file.path}: metadata '{KEY}'", f"{type(cause).__name__}: {cause}", expected) from cause


def _number(value: Any) -> float | None:
    if value is not None and not math.isfinite(value):
        raise ValueError(f"r2 {value!r}")
    return None if value is None else float(value)


def _error(where: str, found: str, expected: str) -> TraceFormatError:
    return TraceFormatError(where, found=found, expected=expected, remedy=_AGAIN)
