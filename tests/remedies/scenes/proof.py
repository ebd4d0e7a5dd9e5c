"""The proof of outputs: each way in which one can differ from what was made of its source."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import BUNDLED_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.proof import formats
from ripple_place.checkpoint.proof.forward import compare_forward
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.tensorfile import TensorFile
from tests.builders import adjust_manifest, swap_neurons
from tests.checkpoint.test_carriers import write_adapter
from tests.remedies.bench import model_at, placement_at
from tests.remedies.cases import case, run
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.remedies.cases import Attempts

WEIGHTS = "model.safetensors"
Q = "model.decoder.layers.0.self_attn.q_proj.weight"


def written(folder: Path, *options: object) -> Path:
    """Reorder a model, to the same place again and again."""
    if not (folder / "model").exists():
        model_at(folder / "model")
    placement = placement_at(folder / "placement")
    out = folder / "out"
    run("reorder", folder / "model", "--placement", placement, "--out", out, "--stride", "page", "--force", *options)
    return out


def spoiled(
    where: str, words: str, story: str, spoil: Callable[[Path], object], *options: object, adjust: bool = True
) -> None:
    """List a case of an output that is spoiled, with a manifest that agrees with it: it is made again."""

    @case(where, words, f"{story}: reordered again")
    def scene(folder: Path) -> Attempts:
        out = written(folder, *options)
        spoil(out)
        if adjust:
            adjust_manifest(out)
        yield lambda: verify(folder / "model", out)
        written(folder, *options)
        yield lambda: verify(folder / "model", out)


def extent_of(path: Path, name: str) -> Any:
    """Return where a tensor lies in a file."""
    return TensorFile.open(path).tensors[name]


def change_byte(path: Path, at: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def swap_rows(out: Path) -> None:
    """Put two neurons of a matrix into each other's place."""
    model = describe_ffn(Checkpoint.open(out.with_name("model")))
    tensor = model.blocks["layers.0"].tensors[0]
    swap_neurons(out / WEIGHTS, model.checkpoint.extent(tensor.name), tensor)


def pad_header(path: Path) -> None:
    """Make the header of a file longer by spaces."""
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(begin.to_bytes(8, "little") + data[8:begin] + b" " * 8 + data[begin:])


def rewrite_bundled(out: Path) -> None:
    """Write the bundled file with another header."""
    metadata = TensorFile.open(out / BUNDLED_FILE).metadata
    tensors = load_file(out / BUNDLED_FILE)
    save_file(tensors, out / BUNDLED_FILE, dict(metadata))


def forget(out: Path, name: str) -> None:
    """Remove a file, and leave it out of the manifest, which then agrees with the output."""
    (out / name).unlink()
    adjust_manifest(out, files={other: None for other in read_manifest(out).document["files"] if other != name})


def fill_padding(out: Path) -> None:
    """Write something behind a bundle, up to the next page."""
    extent = extent_of(out / BUNDLED_FILE, "layers.0.bundles")
    change_byte(out / BUNDLED_FILE, extent.offset_bytes + extent.shape[-1] - 1)


_FORMATS, _VERIFY, _INVENTORY = (f"checkpoint/proof/{name}.py" for name in ("formats", "verify", "inventory"))
spoiled("checkpoint/proof/compare.py:_require_equal", "", "neurons in each other's place", swap_rows)
spoiled(f"{_FORMATS}:compare_drop_in", "", "another header of a shard", lambda out: pad_header(out / WEIGHTS))
spoiled(f"{_FORMATS}:compare_bundled", "", "another header of the bundled file", rewrite_bundled)
spoiled(f"{_FORMATS}:_padding_error", "", "something in the padding", fill_padding)
spoiled(
    f"{_FORMATS}:_untouched_error", "", "other attention weights",
    lambda out: change_byte(out / WEIGHTS, extent_of(out / WEIGHTS, Q).offset_bytes),
)  # fmt: skip
spoiled(
    f"{_INVENTORY}:Contents.of", "no such file", "a file that is missing, in the manifest too",
    lambda out: forget(out, "config.json"), adjust=False,
)  # fmt: skip
spoiled(
    f"{_INVENTORY}:Contents.of", "no weights", "no weights, in the manifest too",
    lambda out: forget(out, WEIGHTS), "--format", "drop-in", adjust=False,
)  # fmt: skip
spoiled(
    f"{_VERIFY}:verify",
    "do not use",
    "a file that is damaged",
    lambda out: change_byte(out / WEIGHTS, -1),
    adjust=False,
)
spoiled(
    f"{_VERIFY}:check_placement", "", "a placement that was written otherwise",
    lambda out: pad_header(out / PLACEMENT_FILE),
)  # fmt: skip
spoiled(
    f"{_VERIFY}:_check_manifest", "", "a manifest of another family",
    lambda out: adjust_manifest(out, family="llama"), adjust=False,
)  # fmt: skip
spoiled(
    f"{_VERIFY}:check_copied",
    "",
    "another licence, in the manifest too",
    lambda out: (out / "LICENSE").write_text("no"),
)


# The proof by other means than bytes: bytes are compared before, so that what is read is changed.

_STOCK = f"{_FORMATS}:check_stock_reader"


class Stock:
    """Stands in for the stock reader."""

    def __init__(self, keys: list[str]) -> None:
        self.names = keys

    def __enter__(self) -> Stock:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def keys(self) -> list[str]:
        """Return the tensors' names."""
        return self.names


def stock(words: str, story: str, name: str, replacement: object) -> None:
    """List a case of a file that the stock reader reads otherwise than we do: written again, it does not."""

    @case(_STOCK, words, f"{story}: reordered again")
    def scene(folder: Path) -> Attempts:
        out = written(folder)
        with patch.object(formats, name, replacement):
            yield lambda: verify(folder / "model", out)
        written(folder)
        yield lambda: verify(folder / "model", out)


def refuse(*_: object, **__: object) -> None:
    """Refuse a file as the stock reader does."""
    raise formats.SafetensorError("HeaderTooLarge")


stock("tensors by the stock reader", "a stock reader that sees fewer tensors", "safe_open", lambda *_, **__: Stock([]))
stock("other contents", "a stock reader that sees other contents", "_reads_alike", lambda *_: False)
stock("the stock reader opens", "a stock reader that refuses the file", "safe_open", refuse)


@case("checkpoint/proof/forward.py:compare_forward")
def ffn_that_computes_otherwise(folder: Path) -> Attempts:
    """An FFN that computes otherwise, whose bytes nobody looked at: reordered again."""
    out = written(folder)
    model = describe_ffn(Checkpoint.open(folder / "model"))
    swap_rows(out)
    yield lambda: compare_forward(out, model, None, drop_in=True)
    written(folder)
    yield lambda: compare_forward(out, model, None, drop_in=True)


# What lies in an output.


@case(f"{_INVENTORY}:Inventory.of")
def link_in_an_output(folder: Path) -> Attempts:
    """An output of links, as caches have: copied with what they lead to, or without the link."""
    out = written(folder)
    (out / "config.json").rename(folder / "blob")
    (out / "config.json").symlink_to(folder / "blob")
    yield lambda: verify(folder / "model", out)
    shutil.copytree(out, folder / "copy")  # As `cp -rL` does.
    yield lambda: verify(folder / "model", folder / "copy")


@case(f"{_INVENTORY}:Inventory.check_accounted")
def file_added_to_an_output(folder: Path) -> Attempts:
    """A file that was added: removed."""
    out = written(folder)
    (out / "extra.safetensors").touch()
    yield lambda: verify(folder / "model", out)
    (out / "extra.safetensors").unlink()
    yield lambda: verify(folder / "model", out)


@case(f"{_VERIFY}:verify", "correct the path")
def original_that_is_not_there(folder: Path) -> Attempts:
    """An original that is not there: the right path."""
    out = written(folder)
    yield lambda: verify(folder / "modell", out)
    yield lambda: verify(folder / "model", out)


@case(f"{_VERIFY}:verify", "give the checkpoint from which")
def original_that_changed(folder: Path) -> Attempts:
    """An original whose config was changed since: as it was."""
    out = written(folder)
    config = folder / "model" / "config.json"
    before = config.read_text()
    config.write_text(before + "\n")
    yield lambda: verify(folder / "model", out)
    config.write_text(before)
    yield lambda: verify(folder / "model", out)


_CARRIERS = "checkpoint/proof/carriers.py:check_carriers"


def counts_at(path: Path) -> Path:
    """Write the counts of a layer."""
    path.mkdir()
    write_torch_file(path / "activation_0.pt", np.arange(24))
    return path


@case(_CARRIERS, "give all originals")
def original_of_a_carrier_left_out(folder: Path) -> Attempts:
    """The original of one carrier of two: both, or none."""
    counts, adapter = counts_at(folder / "counts"), write_adapter(folder / "adapter", {})
    out = written(folder, "--carrier", counts, "--adapter", adapter)
    yield lambda: run("verify", folder / "model", out, "--carrier", counts)
    yield lambda: run("verify", folder / "model", out, "--carrier", counts, "--adapter", adapter)


@case(_CARRIERS, "other contents")
def carrier_that_was_changed(folder: Path) -> Attempts:
    """A carrier in the output that is another: reordered again."""
    counts = counts_at(folder / "counts")
    out = written(folder, "--carrier", counts)
    write_torch_file(next(out.rglob("activation_0.pt")), np.arange(24))
    adjust_manifest(out)
    yield lambda: run("verify", folder / "model", out, "--carrier", counts)
    written(folder, "--carrier", counts)
    yield lambda: run("verify", folder / "model", out, "--carrier", counts)
