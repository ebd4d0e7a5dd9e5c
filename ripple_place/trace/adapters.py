"""Traces in other tools' formats: DejaVu's raw numbers, dense arrays of numbers, packed bits of either order.

Routes of experts are read by `ripple_place.trace.routes`, counts by `ripple_place.trace.counts`.

A source is written ``kind:path,option=value,...``; docs/profiling.md lists kinds and options.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import NEURON
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.activity_rules import ActivityRule, check_finite
from ripple_place.trace.arrays import read_arrays
from ripple_place.trace.raw_numbers import DTYPES, open_numbers, row_chunks, rows_written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import AnyArray
    from ripple_place.storedarray import StoredArray

KINDS = {
    "dejavu": ("neurons", "active", "tokens", "dtype"),
    "dense": ("active",),
    "packed": ("order", "neurons"),
    "powerinfer": ("tokens",),
    "routes": ("used", "experts"),
    "mbolt": (),
}
"""Options of each kind."""


@dataclass(frozen=True)
class AdapterSource:
    """A source in another tool's format.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    path : Path
    options : mapping of str to str
    """

    kind: str
    path: Path
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> AdapterSource:
        """Read a source as written on the command line.

        >>> AdapterSource.parse("packed:bits.npy,order=big,neurons=100").options
        {'order': 'big', 'neurons': '100'}

        Raises
        ------
        UsageError
            If an option is unknown, twice there or empty.
        """
        kind, _, rest = text.partition(":")
        path, *parts = rest.split(",")
        options: dict[str, str] = {}
        for part in parts:
            key, _, value = part.partition("=")
            if key not in KINDS[kind] or key in options or not value:
                known = KINDS[kind]
                raise UsageError(
                    text, found=repr(part),
                    expected=f"a value for one of {', '.join(known)}, each at most once" if known else "no options",
                    remedy=f"write it like {kind}:PATH{f',{known[0]}=...' if known else ''} (docs/profiling.md)",
                )  # fmt: skip
            options[key] = value
        return cls(kind, Path(path), options)

    def __str__(self) -> str:
        """Write the source as it is parsed."""
        return ",".join([f"{self.kind}:{self.path}", *(f"{key}={value}" for key, value in self.options.items())])

    def count(self, option: str) -> int | None:
        """Return an option that is a number; None if it is not given.

        Raises
        ------
        UsageError
            If it is no number from 1 on.
        """
        value = self.options.get(option)
        if value is None:
            return None
        if re.fullmatch("[1-9][0-9]{0,11}", value) is None:
            raise UsageError(
                str(self), found=f"{option}={value}", expected="a number from 1 on", remedy="correct the number"
            )
        return int(value)

    def rule(self) -> ActivityRule:
        """Return the activity rule for numbers; not zero unless one is given.

        Raises
        ------
        UsageError
            If it looks at more than the numbers of one token.
        """
        rule = ActivityRule.parse(self.options.get("active", "relu"))
        if NEURON not in rule.units:
            raise UsageError(
                str(self), found=f"active={rule}, a rule of {rule.units[0]}s",
                expected="a rule of neurons, which other tools record", remedy="take a rule of neurons, such as top-k",
            )  # fmt: skip
        if rule.is_fitted:
            raise UsageError(
                str(self), found=f"active={rule}", expected="relu, threshold=X or top-k=K for recorded numbers",
                remedy="compare with the threshold that you fitted: threshold=X",
            )  # fmt: skip
        return rule


def is_adapter(path: Path | str) -> bool:
    """Tell whether a source is written in the form ``kind:path``.

    >>> is_adapter("dejavu:traces,neurons=4096"), is_adapter("dejavu.npy")
    (True, False)
    """
    return str(path).partition(":")[0] in KINDS and ":" in str(path)


def read_adapter(source: AdapterSource) -> ActivationTrace:
    """Read a source in another tool's format.

    Raises
    ------
    UsageError
        If there is nothing at its path, or an option is missing or wrong.
    TraceFormatError
        If the content does not fit, has counts and no bits, or numbers that are not finite.
    """
    if not source.path.exists():
        raise UsageError(source, found="nothing there", expected="a file or directory", remedy="check the path")
    if source.kind in ("powerinfer", "mbolt"):
        raise TraceFormatError(
            source, found="counts and no bits", expected="activations of single tokens",
            remedy="give a trace; counts can be profiled, by themselves, and nothing else",
        )  # fmt: skip
    if source.kind == "dejavu":
        return _trace(source, _read_dejavu(source), str(source.rule()))
    if source.kind == "dense":
        rule = source.rule()
        arrays = read_arrays(source.path)
        blocks = {name: _dense(f"{source}: {name}", array, rule) for name, array in arrays.items()}
        return _trace(source, blocks, str(rule))
    return _trace(
        source, {name: _packed(source, array) for name, array in read_arrays(source.path).items()}, "as given"
    )


def _trace(source: AdapterSource, blocks: dict[str, BlockTrace], activity: str) -> ActivationTrace:
    n_tokens = next(iter(blocks.values())).n_rows if blocks else 0
    try:
        return ActivationTrace(blocks, n_tokens, np.zeros(1, np.int64), None, {"activity": activity})
    except TraceFormatError as cause:
        raise TraceFormatError.relocated(cause, f"{source}: {cause.where}") from cause


def _dense(where: str, array: AnyArray | StoredArray, rule: ActivityRule) -> BlockTrace:
    """Apply a rule to numbers, some rows at a time; `where` is the source and its block."""
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "biuf":
        raise TraceFormatError(
            where, found=f"{array.dtype} {list(array.shape)}", expected="numbers [n_tokens, n_neurons]",
            remedy="save what the neurons put out, a row for each token",
        )  # fmt: skip
    packed = []
    for first_row, part in row_chunks(array):
        numbers = _floats(part)
        check_finite(numbers, where, first_row=first_row)
        packed.append(np.packbits(rule.active(numbers), axis=1, bitorder="little"))
    return BlockTrace(array.shape[1], np.concatenate(packed))


def _packed(source: AdapterSource, array: AnyArray) -> BlockTrace:
    """Take packed bits of either order."""
    order = source.options.get("order", "little")
    if order not in ("little", "big"):
        raise UsageError(source, found=f"order={order}", expected="order=little or order=big", remedy="say one")
    packbits = f"numpy.packbits(active, axis=1, bitorder={order!r})"
    if array.ndim != 2 or 0 in array.shape or array.dtype != np.uint8:
        raise TraceFormatError(
            source, found=f"{array.dtype} {list(array.shape)}", expected="uint8 [n_tokens, ceil(n_neurons / 8)]",
            remedy=f"save what {packbits} returns",
        )  # fmt: skip
    n_neurons = source.count("neurons") or 8 * array.shape[1]
    if "neurons" not in source.options and array.max() <= 1:
        # Packed, this would mean that seven neurons in eight never fire: far likelier one byte a neuron.
        raise TraceFormatError(
            source, found="uint8 with no value above 1, and no number of neurons", expected="eight neurons in a byte",
            remedy=f"pack it with {packbits}, or add neurons={n_neurons} if it is packed",
        )  # fmt: skip
    if -(-n_neurons // 8) != array.shape[1]:
        raise UsageError(
            source, found=f"neurons={n_neurons}", expected=f"{8 * array.shape[1] - 7} to {8 * array.shape[1]} for rows "
            f"of {array.shape[1]} bytes", remedy="correct the number",
        )  # fmt: skip
    if order == "big":
        array = np.packbits(np.unpackbits(array, axis=1), axis=1, bitorder="little")
    return BlockTrace(n_neurons, np.ascontiguousarray(array))


def _read_dejavu(source: AdapterSource) -> dict[str, BlockTrace]:
    """Read ``mlp_label_{layer}.mmap``: [n_tokens, n_neurons], raw, room for more tokens than were written."""
    files = {
        int(match[1]): path
        for path in source.path.iterdir()
        if (match := re.fullmatch(r"mlp_label_(\d+)\.mmap", path.name))
    } if source.path.is_dir() else {}  # fmt: skip
    if not files:
        raise UsageError(
            source, found="no mlp_label_0.mmap and so on", expected="a directory of them",
            remedy="give the directory that holds them",
        )  # fmt: skip
    n_neurons = source.count("neurons")
    if n_neurons is None:
        raise UsageError(
            source, found="no number of neurons", expected="one: the files do not say",
            remedy=f"add it, as in dejavu:{source.path},neurons=16384",
        )  # fmt: skip
    rule, dtype = source.rule(), source.options.get("dtype")
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(
            source, found=f"dtype={dtype}", expected=f"one of {', '.join(DTYPES)}", remedy="say what was written"
        )
    arrays = {layer: open_numbers(path, n_neurons, dtype) for layer, path in sorted(files.items())}
    n_tokens = source.count("tokens") or max(map(rows_written, arrays.values()))
    shortest = min(array.shape[0] for array in arrays.values())
    if not 0 < n_tokens <= shortest:
        raise TraceFormatError(
            source, found=f"{n_tokens} tokens", expected=f"1 to {shortest}, the rows of the shortest file",
            remedy="give tokens=N, as many as were recorded",
        )  # fmt: skip
    return {
        f"layers.{layer}": _dense(f"{source}: layers.{layer}", array[:n_tokens], rule)
        for layer, array in arrays.items()
    }


def _floats(array: AnyArray) -> AnyArray:
    """Return numbers whose absolute value is a number of the same kind: not so of the lowest integer, or of bits."""
    return array if array.dtype.kind == "f" else array.astype(np.float64)
