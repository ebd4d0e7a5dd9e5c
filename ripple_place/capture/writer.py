"""A trace that grows while a model runs: raw files in a directory, and a note of how far they are good.

Each tensor is one file that is appended to: memory does not grow with the tokens, and blocks whose number of rows is
unknown beforehand (experts) are no special case. After each batch, or each layer, the sizes of all files are noted in
``state.json``. A capture resumes by cutting the files back to the noted sizes.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.inputfile import read_input
from ripple_place.jsontext import parse_json
from ripple_place.tensorfile import as_bytes
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace, Magnitudes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import AnyArray, Float32Array, Int32Array, Int64Array, UInt8Array
    from ripple_place.capture.text import CalibrationText

_MAX_NAME = 200
STATE_FILE = "state.json"
_OUR_FILES = re.compile(r"state\.json(\.new)?|.*\.raw|hidden\.[\w.]+")
"""The state, rows of blocks, and the states between layers of a capture layer by layer."""
FLUSH_BYTES = 64 * 2**20
"""Rows held in memory before they are written; small enough for laptops, large enough to write in few calls."""


@dataclass(frozen=True)
class BlockLayout:
    """The shape of a block, as known before the model runs.

    Parameters
    ----------
    n_neurons : int
    routed : bool
        Only some tokens reach it: rows carry their token.
    """

    n_neurons: int
    routed: bool = False


class TraceWriter:
    """Appends rows of blocks to the files of a directory.

    Parameters
    ----------
    directory : Path
        Made if it is not there.
    identity : mapping of str to anything JSON has
        Everything that the capture depends on: model, text, rule. A capture goes on only if all of it is the same.
    resume : bool
        Go on where an earlier capture in `directory` stopped; otherwise remove its files.

    Attributes
    ----------
    progress : dict of str to anything JSON has
        As of the last `commit`; empty at the start.

    Raises
    ------
    UsageError
        If the capture in `directory` is of something else.
    TraceFormatError
        If its state is damaged.
    OSError
        If storage refuses.
    """

    def __init__(self, directory: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
        self.directory = directory
        self.progress: dict[str, Any] = {}
        self._identity = json.loads(json.dumps(dict(identity)))
        self._sizes: dict[str, int] = {}
        self._buffers: dict[str, list[memoryview]] = {}
        self._buffered_bytes = 0
        if resume and (directory / STATE_FILE).exists():
            self._restore()
            return
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir()
        self.commit({})

    def _restore(self) -> None:
        state = read_state(self.directory)
        if state["identity"] != self._identity:
            other = sorted(
                key for key in {*state["identity"], *self._identity}
                if state["identity"].get(key) != self._identity.get(key)
            )  # fmt: skip
            raise UsageError(
                self.directory, found=f"an interrupted capture with another {', '.join(other)}",
                expected="the same model, text and rule", remedy="repeat the options of then, or begin anew: --force",
            )  # fmt: skip
        self.progress, self._sizes = state["progress"], state["sizes"]
        for path in self.directory.iterdir():
            size = self._sizes.get(path.name)
            if path.suffix == ".raw" and size is None:
                path.unlink()
            elif size is not None:
                with path.open("r+b") as file:
                    file.truncate(size)

    def append(
        self,
        block: str,
        active: UInt8Array,
        token_index: Int32Array | None = None,
        magnitudes: tuple[Int64Array, Int32Array, Float32Array] | None = None,
    ) -> None:
        """Add rows to a block.

        Parameters
        ----------
        block : str
        active : ndarray of shape (n_rows, ceil(n_neurons / 8)), uint8
            Packed bits.
        token_index : ndarray of shape (n_rows,), int32, optional
            Token of each row, where not every token reaches the block.
        magnitudes : tuple of arrays, optional
            Active neurons of each row, their ids row after row, and their values.
        """
        self._append(f"{block}.active", active)
        if token_index is not None:
            self._append(f"{block}.token_index", token_index)
        if magnitudes is not None:
            counts, indices, values = magnitudes
            self._append(f"{block}.magnitude.counts", counts)
            self._append(f"{block}.magnitude.indices", indices)
            self._append(f"{block}.magnitude.values", values)

    def append_inputs(self, block: str, inputs: Float32Array) -> None:
        """Add what enters the FFN of a block, of shape (n_rows, n_inputs), for the rows that `append` adds."""
        self._append(f"{block}.input", inputs)

    def inputs(self, block: str, n_rows: int) -> Float32Array | None:
        """Return what `append_inputs` wrote of a block, mapped from the file; None if that was nothing."""
        found = self._mapped(f"{block}.input", np.float32)
        return found.reshape(n_rows, -1) if found.size else None

    def holds_row(self, block: str, row: int, n_neurons: int) -> bool:
        """Tell whether a row of a block was appended before."""
        name = f"{block}.active.raw"
        n_bytes = self._sizes.get(name, 0) + sum(piece.nbytes for piece in self._buffers.get(name, ()))
        return n_bytes > row * ((n_neurons + 7) // 8)

    def merge(self, block: str, active: UInt8Array, first_row: int) -> None:
        """Add active neurons to rows that were appended before.

        A capture that is interrupted may do it again without harm.

        Parameters
        ----------
        block : str
        active : ndarray of shape (n_rows, ceil(n_neurons / 8)), uint8
            Packed bits.
        first_row : int
        """
        self._flush()
        with (self.directory / f"{block}.active.raw").open("r+b") as file:
            file.seek(first_row * active.shape[1])
            before = np.frombuffer(file.read(active.nbytes), np.uint8).reshape(active.shape)
            file.seek(first_row * active.shape[1])
            file.write(as_bytes(before | active))

    def _append(self, name: str, array: AnyArray) -> None:
        piece = as_bytes(np.ascontiguousarray(array))
        self._buffers.setdefault(name + ".raw", []).append(piece)
        self._buffered_bytes += piece.nbytes
        if self._buffered_bytes > FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        for name, pieces in self._buffers.items():
            with (self.directory / name).open("ab") as file:
                for piece in pieces:
                    file.write(piece)
                self._sizes[name] = file.tell()
        self._buffers.clear()
        self._buffered_bytes = 0

    def commit(self, progress: Mapping[str, Any]) -> None:
        """Write all buffered rows, and note that the files are good as of `progress`."""
        self._flush()
        self.progress = dict(progress)
        state = {"identity": self._identity, "progress": self.progress, "sizes": self._sizes}
        beside = self.directory / (STATE_FILE + ".new")
        beside.write_text(json.dumps(state), encoding="utf-8")
        beside.replace(self.directory / STATE_FILE)

    def trace(
        self, blocks: Mapping[str, BlockLayout], text: CalibrationText, metadata: Mapping[str, str]
    ) -> ActivationTrace:
        """Return what was written as a trace; bits stay in the files and are mapped as they are used.

        Parameters
        ----------
        blocks : mapping of str to BlockLayout
        text : CalibrationText
            What was captured, all of it.
        metadata : mapping of str to str
        """
        return ActivationTrace(
            {name: self._block(name, layout) for name, layout in blocks.items()},
            text.n_tokens, text.segment_starts, text.tokens, metadata,
        )  # fmt: skip

    def _block(self, name: str, layout: BlockLayout) -> BlockTrace:
        active = self._mapped(f"{name}.active", np.uint8).reshape(-1, (layout.n_neurons + 7) // 8)
        index = self._mapped(f"{name}.token_index", np.int32) if layout.routed else None
        magnitudes = None
        if f"{name}.magnitude.counts.raw" in self._sizes:
            counts = self._mapped(f"{name}.magnitude.counts", np.int64)
            magnitudes = Magnitudes(
                np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
                self._mapped(f"{name}.magnitude.indices", np.int32),
                self._mapped(f"{name}.magnitude.values", np.float32),
            )
        return BlockTrace(layout.n_neurons, active, index, magnitudes)

    def _mapped(self, name: str, dtype: type) -> AnyArray:
        if not self._sizes.get(name + ".raw"):
            return np.empty(0, dtype)
        return np.memmap(self.directory / (name + ".raw"), np.dtype(dtype), mode="r")


def is_capture(directory: Path) -> bool:
    """Tell whether a directory holds nothing but the files of a capture, which may be removed."""
    return (
        directory.is_dir() and not directory.is_symlink()
        and all(_OUR_FILES.fullmatch(path.name) and path.is_file() for path in directory.iterdir())
    )  # fmt: skip


def read_state(directory: Path) -> dict[str, Any]:
    """Return the state of a capture: identity, progress, and the sizes of its files.

    Raises
    ------
    TraceFormatError
        If it is damaged, or a file is shorter than noted.
    """
    path = directory / STATE_FILE
    try:
        state = parse_json(read_input(path))
        for name, size in state["sizes"].items():
            if Path(name).name != name or len(name) > _MAX_NAME or type(size) is not int or size < 0:
                raise ValueError(f"a file {name!r} of {size!r} bytes")
            if (directory / name).stat().st_size < size:
                raise ValueError(f"{name} shorter than {size} bytes")
        if not (isinstance(state["identity"], dict) and isinstance(state["progress"], dict)):
            raise ValueError("no identity or no progress")
    except (ValueError, KeyError, TypeError, AttributeError, FileNotFoundError) as cause:
        raise TraceFormatError(
            path, found=str(cause), expected="the state of a capture", remedy="begin anew: --force"
        ) from cause
    result: dict[str, Any] = state
    return result
