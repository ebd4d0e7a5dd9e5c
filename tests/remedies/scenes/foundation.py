"""The loose modules of the foundation: blocks, outputs, locks, placements, tensor files, units."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
from safetensors.numpy import save_file

from ripple_place import outputs, units
from ripple_place.blocks import select_layers
from ripple_place.bundle_sizes import check_bundle_bytes, sizes_of_blocks
from ripple_place.locks import one_writer
from ripple_place.outputs import check_output_file, check_place
from ripple_place.placement import (
    PLACEMENT_FORMAT,
    ModelPlacement,
    NeuronPlacement,
    read_placement,
    write_placement,
)
from ripple_place.tensorfile import TensorFile
from tests.remedies.cases import case, instead
from tests.test_outputs import make_socket
from tests.test_tensorfile import entry, write_raw

if TYPE_CHECKING:
    from tests.remedies.cases import Attempts

BLOCKS = ["layers.0", "layers.1"]

instead(
    "blocks.py:select_layers", "write the selection that way", "a range written 0..1: written 0-1",
    lambda: select_layers(BLOCKS, "0..1"), lambda: select_layers(BLOCKS, "0-1"),
)  # fmt: skip
instead(
    "blocks.py:select_layers", "name layers that exist", "layer 2 of a model with two: layer 1 is named",
    lambda: select_layers(BLOCKS, "2"), lambda: select_layers(BLOCKS, "1"),
)  # fmt: skip


@case("locks.py:one_writer")
def output_is_being_written(folder: Path) -> Attempts:
    """Another run writes the same output: it ends."""
    with one_writer(folder / "out"):
        yield lambda: take(folder / "out")


@case("outputs.py:not_ours")
def foreign_lock(folder: Path) -> Attempts:
    """A file of somebody else's under the name of our lock: it is renamed."""
    (folder / ".out.lock").write_text("mine")
    yield lambda: take(folder / "out")
    (folder / ".out.lock").rename(folder / "other")


def take(path: Path) -> None:
    """Hold the lock for an instant."""
    with one_writer(path):
        pass


def check_new(path: Path) -> None:
    """Check that a file can be written where none is."""
    check_output_file(path, force=False)


@case("outputs.py:check_output_file", "name a file in it")
def file_named_as_a_directory(folder: Path) -> Attempts:
    """A directory given as the file to write: a file in it is named."""
    yield lambda: check_new(folder)
    yield lambda: check_new(folder / "file")


@case("outputs.py:check_output_file", "another file of this command")
def output_is_an_input(folder: Path) -> Attempts:
    """The output is also an input: it gets another name."""
    yield lambda: check_output_file(folder / "a", force=True, apart_from=[folder / "a"])
    yield lambda: check_output_file(folder / "b", force=True, apart_from=[folder / "a"])


@case("outputs.py:check_output_file", "overwrite it with --force")
def file_exists(folder: Path) -> Attempts:
    """The file exists: another is named, or --force given."""
    (folder / "old").touch()
    yield lambda: check_new(folder / "old")
    yield lambda: check_new(folder / "new")
    yield lambda: check_output_file(folder / "old", force=True)


@case("outputs.py:check_output_file", "make the directory first")
def directory_of_file_is_missing(folder: Path) -> Attempts:
    """The directory to write it in is missing: it is made."""
    yield lambda: check_new(folder / "new" / "file")
    (folder / "new").mkdir()


@case("outputs.py:check_replaceable", "where it leads")
def output_is_a_link(folder: Path) -> Attempts:
    """A link to a file that is not there yet: the file itself is named."""
    (folder / "link").symlink_to("file")
    yield lambda: check_new(folder / "link")
    yield lambda: check_new(folder / "file")


@case("outputs.py:check_replaceable", "name another file")
def output_is_a_socket(folder: Path) -> Attempts:
    """A socket: another file is named."""
    make_socket(folder / "socket")
    yield lambda: check_new(folder / "socket")
    yield lambda: check_new(folder / "file")


@case("outputs.py:check_replaceable", "name another file")
def output_is_a_link_to_a_device(folder: Path) -> Attempts:
    """A link to a device, whose own name would be refused too: another file is named."""
    (folder / "link").symlink_to(os.devnull)
    yield lambda: check_new(folder / "link")
    yield lambda: check_new(folder / "file")


@case("outputs.py:check_place", "name a path inside it")
def directory_is_a_mount_point(folder: Path) -> Attempts:
    """A directory on which a disk is mounted: one inside it is named."""
    mount = folder / "disk"
    mount.mkdir()
    with patch.object(outputs, "is_mount_point", lambda path: path == mount):
        yield lambda: check_place(mount, suffix_bytes=9)
        yield lambda: check_place(mount / "new", suffix_bytes=9)


@case("outputs.py:check_place", "cannot be replaced; a path that can be renamed. name another file")
def file_is_a_mount_point(folder: Path) -> Attempts:
    """A single file that was mounted into a container: another is named."""
    (folder / "mounted").touch()
    with patch.object(outputs, "is_mount_point", lambda path: path.name == "mounted"):
        yield lambda: check_output_file(folder / "mounted", force=True)
        yield lambda: check_new(folder / "other")


@case("outputs.py:check_place", "name a path elsewhere")
def file_in_the_way(folder: Path) -> Attempts:
    """A file where a directory above the output would be: a path elsewhere is named."""
    (folder / "file").touch()
    yield lambda: check_place(folder / "file" / "out", suffix_bytes=9)
    yield lambda: check_place(folder / "elsewhere" / "out", suffix_bytes=9)


@case("outputs.py:check_place", "cannot be made in it")
def directory_of_another_user(folder: Path) -> Attempts:
    """No permission to write there: another directory is named, or the permissions are changed."""
    closed, opened = folder / "closed", folder / "open"
    closed.mkdir()
    opened.mkdir()
    with patch.object(os, "access", lambda path, *_, **__: Path(path) != closed):
        yield lambda: check_new(closed / "file")
        yield lambda: check_new(opened / "file")
    yield lambda: check_new(closed / "file")


@case("outputs.py:check_place", "belongs to another user")
def file_of_another_user(folder: Path) -> Attempts:
    """Another user's file in a shared directory: another name is chosen."""
    (folder / "old").touch()
    folder.chmod(0o1777)
    with patch.object(os, "geteuid", lambda: os.getuid() + 1):
        yield lambda: check_output_file(folder / "old", force=True)
        yield lambda: check_new(folder / "new")


@case("outputs.py:_check_names", "more while it is written")
def name_is_too_long(folder: Path) -> Attempts:
    """A name that leaves no room for what is added: a shorter one is chosen."""
    yield lambda: check_new(folder / ("x" * 250))
    yield lambda: check_new(folder / ("x" * 200))


@case("outputs.py:_check_names", "{}: {} bytes; choose a name of at most")
def directory_name_is_too_long(folder: Path) -> Attempts:
    """A directory to be made, by a name that is too long: a shorter one is chosen."""
    yield lambda: check_place(folder / ("x" * 256) / "out", suffix_bytes=9)
    yield lambda: check_place(folder / ("x" * 255) / "out", suffix_bytes=9)


ORDER = [1, 0, 2]
_PLACEMENT = "placement.py:NeuronPlacement.__post_init__"
instead(
    _PLACEMENT, "give both copies", "a second copy of fewer neurons: it gets as many",
    lambda: NeuronPlacement(ORDER, order_2=[0, 1]), lambda: NeuronPlacement(ORDER, order_2=[0, 1, 2]),
)  # fmt: skip
instead(
    _PLACEMENT, "sort and deduplicate", "pinned neurons out of order: they are sorted",
    lambda: NeuronPlacement(ORDER, pinned=[2, 0]), lambda: NeuronPlacement(ORDER, pinned=[0, 2]),
)  # fmt: skip
instead(
    _PLACEMENT, "give one count a neuron", "two counts for three neurons: three are given",
    lambda: NeuronPlacement(ORDER, frequency=[5, 6]), lambda: NeuronPlacement(ORDER, frequency=[5, 6, 7]),
)  # fmt: skip
instead(
    "placement.py:_permutation", "[slot] = neuron", "an order of fractions: neurons are given",
    lambda: NeuronPlacement([0.5, 1.0]), lambda: NeuronPlacement([0, 1]),
)  # fmt: skip
instead(
    "placement.py:_permutation", "give a permutation", "a neuron that lies twice: each lies once",
    lambda: NeuronPlacement([0, 0]), lambda: NeuronPlacement([0, 1]),
)  # fmt: skip
instead(
    "placement.py:ModelPlacement.__post_init__", "", "a placement of unknown units: of columns",
    lambda: ModelPlacement({"layers.0": NeuronPlacement(ORDER)}, {"unit": "row"}),
    lambda: ModelPlacement({"layers.0": NeuronPlacement(ORDER)}, {"unit": "column"}),
)  # fmt: skip
instead(
    "bundle_sizes.py:check_bundle_bytes", "", "a bundle of no bytes: of 4 KiB",
    lambda: check_bundle_bytes(0), lambda: check_bundle_bytes(4096),
)  # fmt: skip
instead(
    "bundle_sizes.py:sizes_of_blocks", "give both", "one size for columns: two",
    lambda: sizes_of_blocks(4096, "column", ["layers.0"]),
    lambda: sizes_of_blocks((32768, 8192), "column", ["layers.0"]),
)  # fmt: skip
instead(
    "bundle_sizes.py:sizes_of_blocks", "give one size", "two sizes for neurons: one",
    lambda: sizes_of_blocks((4096, 4096), "neuron", ["layers.0"]),
    lambda: sizes_of_blocks(24576, "neuron", ["layers.0"]),
)  # fmt: skip


@case("placement.py:read_placement", "give a file that `ripple-place reorder` wrote")
def no_placement(folder: Path) -> Attempts:
    """Weights given as a placement: a placement is given."""
    save_file({"a": np.zeros(1)}, folder / "weights")
    write_placement(folder / "placement", ModelPlacement({"layers.0": NeuronPlacement(ORDER)}))
    yield lambda: read_placement(folder / "weights")
    yield lambda: read_placement(folder / "placement")


@case("placement.py:read_placement", "write the file without this tensor")
def placement_with_more(folder: Path) -> Attempts:
    """A placement with a tensor that none has: it is written without."""
    order = {"layers.0.order": np.array(ORDER, np.int32)}
    save_file(order | {"notes": np.zeros(1)}, folder / "placement", {"format": PLACEMENT_FORMAT})
    yield lambda: read_placement(folder / "placement")
    save_file(order, folder / "placement", {"format": PLACEMENT_FORMAT})


@case("tensorfile.py:TensorFile.require_format", "update", untried="there is no later version yet")
def placement_of_a_later_version(folder: Path) -> Attempts:
    """A placement of format 2."""
    save_file({"a": np.zeros(1)}, folder / "placement", {"format": "ripple-place.placement/2"})
    yield lambda: read_placement(folder / "placement")


@case("tensorfile.py:TensorFile.open", "8 bytes of header length")
def tensor_file_is_cut_short(folder: Path) -> Attempts:
    """A copy that ends in the header: it is copied again, or another given."""
    whole, copy = save(folder / "whole"), folder / "copy"
    copy.write_bytes(whole.read_bytes()[:20])
    yield lambda: TensorFile.open(copy)
    yield lambda: TensorFile.open(whole)
    copy.write_bytes(whole.read_bytes())
    yield lambda: TensorFile.open(copy)


@case("tensorfile.py:TensorFile.open", "appended")
def tensor_file_is_too_long(folder: Path) -> Attempts:
    """A copy with something behind its data: it is copied again."""
    whole, copy = save(folder / "whole"), folder / "copy"
    copy.write_bytes(whole.read_bytes() + b"log")
    yield lambda: TensorFile.open(copy)
    copy.write_bytes(whole.read_bytes())


@case("tensorfile.py:TensorFile.open", "truncated")
def tensor_data_is_cut_short(folder: Path) -> Attempts:
    """A copy that ends in the data: it is copied again."""
    whole, copy = save(folder / "whole"), folder / "copy"
    copy.write_bytes(whole.read_bytes()[:-1])
    yield lambda: TensorFile.open(copy)
    copy.write_bytes(whole.read_bytes())


@case("tensorfile.py:_parse_json")
def no_tensor_file(folder: Path) -> Attempts:
    """A text file: a safetensors file is given."""
    (folder / "text").write_bytes(b"\x0a" + bytes(7) + b"# a readme, in which there is no header")
    yield lambda: TensorFile.open(folder / "text")
    yield lambda: TensorFile.open(save(folder / "weights"))


def written_wrongly(where: str, words: str, story: str, header: dict[str, object]) -> None:
    """List a case of a header that no safetensors library writes."""

    @case(where, words, f"{story}: the file is written with a library")
    def scene(folder: Path) -> Attempts:
        path = write_raw(folder / "a", header, b"data")
        yield lambda: TensorFile.open(path)
        save(path)


def save(path: Path) -> Path:
    """Write a sound file with the stock library."""
    save_file({"a": np.arange(4, dtype=np.uint8)}, path)
    return path


_OPEN, _ENTRY = "tensorfile.py:TensorFile.open", "tensorfile.py:_parse_entry"
written_wrongly(_OPEN, "no strings", "numbers as metadata", {"__metadata__": {"a": 1}, "a": entry(0, 4)})
written_wrongly(_OPEN, "no holes", "tensors that overlap", {"a": entry(0, 4), "b": entry(2, 4)})
written_wrongly(_ENTRY, "dtype, shape, data_offsets", "an entry without a shape", {"a": {"dtype": "U8"}})
written_wrongly(_ENTRY, "a list of sizes", "a shape that is a number", {"a": entry(0, 4, shape=4)})
written_wrongly(_ENTRY, "[start, end]", "data that ends before it starts", {"a": entry(4, 0, shape=[4])})
written_wrongly(_ENTRY, "2**200", "a shape of 2**248 items", {"a": entry(0, 4, shape=[2**62] * 4)})
written_wrongly(_ENTRY, "bytes of data", "four bytes for five items", {"a": entry(0, 4, shape=[5])})


@case(_ENTRY, "one of these")
def dtype_of_the_future(folder: Path) -> Attempts:
    """A dtype that is not known: another is written."""
    path = write_raw(folder / "a", {"a": entry(0, 4, "F2")}, b"data")
    yield lambda: TensorFile.open(path)
    save(path)


_MAP = "tensorfile.py:TensorFile.stored_array"


@case(_MAP, "with this tensor")
def tensor_is_missing(folder: Path) -> Attempts:
    """A tensor that the file lacks: the file is written with it."""
    path = save(folder / "a")
    yield lambda: TensorFile.open(path).array("b")
    save_file({"b": np.zeros(3)}, path)


@case(_MAP, "write the tensor that way")
def order_in_wide_integers(folder: Path) -> Attempts:
    """A placement whose order has 64-bit integers: it is written in 32 bits."""
    path, order = folder / "placement", np.array(ORDER)
    save_file({"layers.0.order": order}, path, {"format": PLACEMENT_FORMAT})
    yield lambda: read_placement(path)
    save_file({"layers.0.order": order.astype(np.int32)}, path, {"format": PLACEMENT_FORMAT})


@case(_MAP, "read it as bytes")
def dtype_without_numpy(folder: Path) -> Attempts:
    """A tensor of BF16, asked for as an array: its bytes are read where its extent says."""
    path = write_raw(folder / "a", {"a": entry(0, 4, "BF16", [2])}, b"data")
    extent = TensorFile.open(path).tensors["a"]
    yield lambda: TensorFile.open(path).array("a")
    yield lambda: path.read_bytes()[extent.offset_bytes :][: extent.length_bytes]


@case(_MAP, "fit in memory")
def empty_tensor_of_no_size(folder: Path) -> Attempts:
    """No bytes, and a size that no array has: the file is written with the tensor as it is."""
    path = write_raw(folder / "a", {"a": entry(0, 0, "F32", [0, 2**62])})
    yield lambda: TensorFile.open(path).array("a")
    save(path)


instead(
    "units.py:_parse", "", "a size in elephants: in KiB",
    lambda: units.parse_bytes("4 elephants"), lambda: units.parse_bytes("4KiB"),
)  # fmt: skip
instead(
    "units.py:_parse", "", "a time without a number: with one",
    lambda: units.parse_time_us("us"), lambda: units.parse_time_us("80us"),
)  # fmt: skip
instead(
    "units.py:parse_bytes", "", "a tenth of a byte, which was a tenth of a MiB: the unit is added",
    lambda: units.parse_bytes("0.1"), lambda: units.parse_bytes("0.1MiB"),
)  # fmt: skip
instead(
    "units.py:parse_rate_bytes_per_s", "", "a rate without a time: per second",
    lambda: units.parse_rate_bytes_per_s("1.6GB"), lambda: units.parse_rate_bytes_per_s("1.6GB/s"),
)  # fmt: skip
instead(
    "units.py:parse_share_or_bytes", "", "110 %: 10 %, or a size",
    lambda: units.parse_share_or_bytes("110%"), lambda: units.parse_share_or_bytes("10%"),
    lambda: units.parse_share_or_bytes("512MiB"),
)  # fmt: skip
instead(
    "units.py:_no_unit", "", "a share or a size without a unit: with one",
    lambda: units.parse_share_or_bytes("10"), lambda: units.parse_share_or_bytes("10%"),
)  # fmt: skip
