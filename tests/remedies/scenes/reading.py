"""Layouts that are read for real."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import load_device
from ripple_place.flash.simulation_params import SimulationParams
from ripple_place.runtime.layout_reader import LayoutReader, ReaderParams
from tests.builders import adjust_manifest
from tests.flash.builders import linear_device
from tests.remedies.cases import case
from tests.runtime.builders import write_output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from ripple_place.flash.device.profile import DeviceProfile
    from tests.remedies.cases import Attempts

SLOTS = np.array([3, 40])
BUNDLED = "ripple_place/bundled.safetensors"
DEVICE = linear_device()
LOADED = SimulationParams("lru", {"layers.0": 10})


def read(out: Path, simulation: SimulationParams = LOADED, device: DeviceProfile = DEVICE, **params: Any) -> None:
    """Open an output and read a row of it."""
    with LayoutReader.open(out, device, simulation, ReaderParams(**params)) as reader:
        reader.serve("layers.0", SLOTS)


def otherwise(
    where: str, words: str, story: str, bad: Callable[[Path], object], *good: Callable[[Path], object]
) -> None:
    """List a case of an output that is read in a way that is refused, and in other ways."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        out = write_output(folder)
        yield lambda: bad(out)
        for each in good:
            yield lambda each=each: each(out)  # type: ignore[misc]


def ask(**request: Any) -> Callable[[Path], object]:
    """Return what asks a reader for rows."""

    def serve(out: Path) -> None:
        with LayoutReader.open(out, DEVICE, LOADED) as reader:
            reader.serve(**({"block": "layers.0", "slots": SLOTS} | request))

    return serve


_READER, _SERVER, _FILE = "runtime/layout_reader.py", "runtime/block_server.py:BlockServer", "runtime/bundled_file.py"

otherwise(
    f"{_READER}:ReaderParams.__post_init__", "", "a check that is not known: one that is",
    lambda out: read(out, check="none"), lambda out: read(out, check="header"),
)  # fmt: skip
otherwise(
    f"{_READER}:LayoutReader.begin", "", "a block of another model: one of this", ask(block="layers.9"), ask(),
)  # fmt: skip
otherwise(
    f"{_READER}:_check_servable", "", "batches, which only a simulation has: without",
    lambda out: read(out, SimulationParams(batch_of_step=np.ones(3, np.int32))), read,
)  # fmt: skip
otherwise(
    f"{_SERVER}.begin", "", "memory of another shape: of the right one",
    ask(rows=np.empty((3, 800), np.uint8)), ask(rows=np.empty((2, 800), np.uint8)),
)  # fmt: skip
otherwise(
    f"{_SERVER}._checked", "", "a slot that stands twice: once",
    ask(slots=np.array([3, 3])), ask(slots=np.array([3])),
)  # fmt: skip
otherwise(
    "runtime/block_parts.py:parts_of_block", "the kernel decides", "a device that maps files: one that reads them",
    lambda out: read(out, device=under(load_device("ufs4-oneplus12-neuralink"), ReadConditions(access="mmap"))), read,
)  # fmt: skip
otherwise(
    "runtime/kept_rows.py:KeptRows.__init__", "", "a cache that knows the future: one that does not",
    lambda out: read(out, SimulationParams("belady", {"layers.0": 10})), read,
)  # fmt: skip
otherwise(
    "runtime/read_queue.py:ReadQueue.__init__", "", "no reads in flight: four",
    lambda out: read(out, depth=0), lambda out: read(out, depth=4),
)  # fmt: skip


@case("runtime/layout_reader.py:_check_page", untried="storage that reads only multiples of longer blocks")
def short_pages(folder: Path) -> Attempts:
    """A device with pages of 100 bytes, none of which this storage reads."""
    out = write_output(folder)
    yield lambda: read(out, device=linear_device(page_bytes=256))


@case("runtime/block_parts.py:parts_of_block", "gates apart")
def gates_within(folder: Path) -> Attempts:
    """The rest of bundles whose gates lie in them: written with gates apart."""
    out = write_output(folder / "within", gated=True)
    yield lambda: read(out, parts="rest")
    apart = write_output(folder / "apart", gated=True, gates="apart")
    yield lambda: read(apart, parts="rest")


@case("runtime/bundled_file.py:BundledFile.open", "without a bundled file")
def no_bundles(folder: Path) -> Attempts:
    """An output in drop-in form alone: with a bundled file."""
    out = write_output(folder / "drop-in", formats=("drop-in",))
    yield lambda: read(out)
    both = write_output(folder / "both")
    yield lambda: read(both)


def damage(where: str, words: str, story: str, break_it: Callable[[Path], object]) -> None:
    """List a case of a bundled file that is no longer what was written: written again."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        out = write_output(folder / "damaged")
        break_it(out / BUNDLED)
        yield lambda: read(out)
        again = write_output(folder / "again")
        yield lambda: read(again)


def _flip_last(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _name_another_stride(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"stride_bytes", b"strife_bytes", 1))


damage(
    f"{_FILE}:BundledFile.open", "no such file", "no bundled file any more: written again", lambda path: path.unlink()
)
damage(f"{_FILE}:BundledFile.check_hash", "", "a flipped bit: written again", _flip_last)
damage(
    f"{_FILE}:_check_header", "as the manifest says", "a file that was cut: written again",
    lambda path: path.write_bytes(path.read_bytes()[:-1]),
)  # fmt: skip
damage(f"{_FILE}:_check_header", "another index", "a changed index: written again", _name_another_stride)


@case(f"{_FILE}:BundledFile.open", "without length and hash")
def unlisted(folder: Path) -> Attempts:
    """A manifest that says nothing of the bundled file: written again."""
    out = write_output(folder / "damaged")
    files = json.loads((out / "ripple_place/manifest.json").read_text())["files"]
    del files[BUNDLED]
    adjust_manifest(out, files=files)
    yield lambda: read(out)
    again = write_output(folder / "again")
    yield lambda: read(again)


@case(f"{_FILE}:BundledFile.check_unchanged")
def written_while_read(folder: Path) -> Attempts:
    """A file that somebody writes to while it is read: written again, and left alone."""
    out = write_output(folder / "out")

    def read_and_change() -> None:
        with LayoutReader.open(out, DEVICE, LOADED) as reader:
            _flip_last(out / BUNDLED)
            reader.serve("layers.0", SLOTS)

    yield read_and_change
    again = write_output(folder / "again")
    yield lambda: read(again)


@case("runtime/read_queue.py:ReadQueue._explain")
def cut_while_read(folder: Path) -> Attempts:
    """A file that is cut while it is read: written again, and left alone."""
    out = write_output(folder / "out")

    def read_and_cut() -> None:
        with LayoutReader.open(out, DEVICE, LOADED) as reader, (out / BUNDLED).open("r+b") as file:
            file.truncate(4096)
            reader.serve("layers.0", SLOTS)

    yield read_and_cut
    again = write_output(folder / "again")
    yield lambda: read(again)
