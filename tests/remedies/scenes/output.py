"""Outputs: where they may be written, what they are made of, what an interrupted run leaves, and restoring."""

from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from ripple_place.checkpoint import rewrite
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import MANIFEST_FILE
from ripple_place.checkpoint.output import bundle_layout, ours
from ripple_place.checkpoint.output.convert import convert
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.restore import restore
from ripple_place.checkpoint.writing import WritingParams
from ripple_place.placement import ModelPlacement, NeuronPlacement
from tests.builders import opt_config, opt_tensors, write_checkpoint
from tests.checkpoint.model.test_quantised import write_quantised
from tests.checkpoint.test_carriers import write_adapter
from tests.failing_call import FailingCall
from tests.remedies.bench import model_at, output_at, placement_at, profile_at
from tests.remedies.cases import case, instead, run
from tests.test_outputs import make_socket
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.remedies.cases import Attempts

_OURS, _OUTDIR, _PLAN = "checkpoint/output/ours.py", "checkpoint/output/outdir.py", "checkpoint/output/plan.py"


def written(folder: Path, out: Path, *options: object, model: str = "model") -> None:
    """Apply a placement to a model, which is made if it is not there."""
    if not (folder / model).exists():
        model_at(folder / model)
    run("reorder", folder / model, "--placement", placement_at(folder / "placement"), "--out", out, *options)


# Where an output may be.


@case(f"{_OURS}:check_replaced", "no output of ours")
def foreign_directory(folder: Path) -> Attempts:
    """A directory of somebody else's: another is named, with --force or not, or it is removed."""
    (folder / "home").mkdir()
    (folder / "home" / "letter").touch()
    yield lambda: written(folder, folder / "home")
    yield lambda: written(folder, folder / "out")
    shutil.rmtree(folder / "home")
    yield lambda: written(folder, folder / "home")


@case(f"{_OURS}:check_replaced", "does not name")
def notes_in_an_output(folder: Path) -> Attempts:
    """An output with a file of the user's in it: that is moved."""
    written(folder, folder / "out")
    (folder / "out" / "letter").touch()
    yield lambda: written(folder, folder / "out", "--force")
    (folder / "out" / "letter").rename(folder / "letter")
    yield lambda: written(folder, folder / "out", "--force")


@case(f"{_OURS}:check_partial")
def open_directory_beside(folder: Path) -> Attempts:
    """An empty OUT.partial that others may write to: it is removed."""
    (folder / "out.partial").mkdir()
    (folder / "out.partial").chmod(0o777)
    yield lambda: written(folder, folder / "out")
    (folder / "out.partial").rmdir()
    yield lambda: written(folder, folder / "out")


@case("outputs.py:not_ours")
def foreign_partial(folder: Path) -> Attempts:
    """A directory OUT.partial of somebody else's: it is renamed."""
    (folder / "out.partial").mkdir()
    (folder / "out.partial" / "letter").touch()
    yield lambda: written(folder, folder / "out")
    (folder / "out.partial").rename(folder / "letters")
    yield lambda: written(folder, folder / "out")


@case(f"{_OURS}:_check_owner", "another user")
def partial_of_another_user(folder: Path) -> Attempts:
    """An OUT.partial of another user: another OUT is named, or it is removed."""
    (folder / "out.partial").mkdir(mode=0o700)
    with patch.object(os, "geteuid", lambda: os.getuid() + 1):
        yield lambda: ours.check_partial(folder / "out.partial")
        yield lambda: ours.check_partial(folder / "other.partial")
        (folder / "out.partial").rmdir()
        yield lambda: ours.check_partial(folder / "out.partial")


@case(f"{_OURS}:_check_owner", "mount point")
def partial_on_its_own_disk(folder: Path) -> Attempts:
    """An OUT.partial on which a disk is mounted: another OUT is named, or the disk is unmounted."""
    (folder / "out.partial").mkdir(mode=0o700)
    with patch.object(ours, "is_mount_point", lambda path: True):
        yield lambda: written(folder, folder / "out")
        yield lambda: written(folder, folder / "other")
    yield lambda: written(folder, folder / "out")


@case(f"{_OUTDIR}:check_output", "name a directory elsewhere")
def output_in_its_source(folder: Path) -> Attempts:
    """An output inside its source: elsewhere."""
    yield lambda: written(folder, folder / "model" / "out")
    yield lambda: written(folder, folder / "out")


@case(f"{_OUTDIR}:check_output", "leads nowhere")
def output_is_a_broken_link(folder: Path) -> Attempts:
    """A link that leads nowhere, as OUT: another is named, or it is removed."""
    # A link's target decides where the output goes, so only one that leads in circles is left of them.
    (folder / "out").symlink_to("out")
    yield lambda: written(folder, folder / "out")
    yield lambda: written(folder, folder / "other")
    (folder / "out").unlink()
    yield lambda: written(folder, folder / "out")


@case(f"{_OUTDIR}:check_output", "overwrite with --force")
def output_exists(folder: Path) -> Attempts:
    """An earlier output: another OUT is named, or --force given."""
    written(folder, folder / "out")
    yield lambda: written(folder, folder / "out")
    yield lambda: written(folder, folder / "other")
    yield lambda: written(folder, folder / "out", "--force")


@case(f"{_OUTDIR}:check_output", "name another, or remove it")
def restored_exists(folder: Path) -> Attempts:
    """A directory to restore to that exists, where there is no --force: another is named, or it is removed."""
    out, target = output_at(folder / "out"), folder / "restored"
    target.mkdir()
    yield lambda: run("verify", out, "--restore", target)
    yield lambda: run("verify", out, "--restore", folder / "other")
    target.rmdir()
    yield lambda: run("verify", out, "--restore", target)


def with_room(n_bytes: int) -> Any:
    """Return a patch of the free space that the system tells of."""
    return patch.object(shutil, "disk_usage", lambda path: SimpleNamespace(free=n_bytes))


@case(f"{_OUTDIR}:check_free_space", "one format instead of both")
def no_room_for_both_formats(folder: Path) -> Attempts:
    """Room for one format of two: one format, or more room."""
    source = model_at(folder / "model")
    model = describe_ffn(Checkpoint.open(source))
    plans = [plan_rewrite(model, ModelPlacement({}), folder / "out", formats=formats) for formats in BOTH_OR_ONE]
    both_bytes, one_bytes = map(rewrite.needed_bytes, plans)
    with with_room((both_bytes + one_bytes) // 2):
        yield lambda: written(folder, folder / "a")
        yield lambda: written(folder, folder / "b", "--format", "drop-in")
    yield lambda: written(folder, folder / "a")


BOTH_OR_ONE = (("drop-in", "bundled"), ("drop-in",))


@case(f"{_OUTDIR}:check_free_space", "make room, or write elsewhere.")
def no_room_to_restore(folder: Path) -> Attempts:
    """No room for what is restored: with more room."""
    out = output_at(folder / "out")
    with with_room(9):
        yield lambda: restore(out, folder / "restored")
    yield lambda: restore(out, folder / "restored")


@case(f"{_OUTDIR}:_settle")
def half_an_old_output(folder: Path) -> Attempts:
    """What a killed run set aside is not whole: it is moved away."""
    written(folder, folder / "out")
    (folder / "out").rename(folder / ".out.replaced")
    (folder / ".out.replaced" / "config.json").unlink()
    yield lambda: written(folder, folder / "out")
    (folder / ".out.replaced").rename(folder / "kept")
    yield lambda: written(folder, folder / "out")


@case("checkpoint/output/nesting.py:check_no_output_around")
def output_in_an_output(folder: Path) -> Attempts:
    """An output inside another: beside it."""
    written(folder, folder / "out")
    yield lambda: written(folder, folder / "out" / "second")
    yield lambda: written(folder, folder / "second")


@case("checkpoint/output/nesting.py:check_no_output_within")
def output_in_the_checkpoint(folder: Path) -> Attempts:
    """An output that was moved into its checkpoint: it is moved out."""
    written(folder, folder / "out")
    (folder / "out").rename(folder / "model" / "out")
    yield lambda: written(folder, folder / "second")
    (folder / "model" / "out").rename(folder / "out")
    yield lambda: written(folder, folder / "second")


# What is rewritten.


@case("checkpoint/fileio.py:read_into")
def checkpoint_cut_while_read(folder: Path) -> Attempts:
    """A shard that is cut short while it is read: it is copied again and left alone."""
    model = model_at(folder / "model")
    weights = model / "model.safetensors"
    whole = weights.read_bytes()

    def cut(plan: object, journal: object, progress: object) -> None:
        weights.write_bytes(whole[:-100])
        WRITE(plan, journal, progress)

    with patch.object(rewrite, "write_output", cut):
        yield lambda: written(folder, folder / "out")
    weights.write_bytes(whole)
    yield lambda: written(folder, folder / "out")


WRITE = rewrite.write_output


def planned(source: Path, out: Path, orders: dict[str, list[int]] | None = None, **options: Any) -> None:
    """Plan a rewrite."""
    placement = ModelPlacement({name: NeuronPlacement(order) for name, order in (orders or {}).items()})
    plan_rewrite(describe_ffn(Checkpoint.open(source)), placement, out, **options)


def planned_otherwise(words: str, story: str, bad: dict[str, Any], good: dict[str, Any]) -> None:
    """List a case of options of a plan, from Python."""

    @case(f"{_PLAN}:plan_rewrite", words, story)
    def scene(folder: Path) -> Attempts:
        model = model_at(folder / "model")
        yield lambda: planned(model, folder / "out", **bad)
        yield lambda: planned(model, folder / "out", **good)


planned_otherwise(
    "name those", "a format that is not known: one that is", {"formats": ["zip"]}, {"formats": ["bundled"]}
)
planned_otherwise(
    "name one of those", "a stride that is not known: one that is", {"stride": "wide"}, {"stride": "page"}
)


@case(f"{_PLAN}:_check_granules")
def placement_that_parts_scales(folder: Path) -> Attempts:
    """A placement that parts neurons which share scales: one of whole granules."""
    model, swapped, granules = write_quantised(folder / "m", "gptq in order"), [*range(96)], np.arange(96)
    swapped[0], swapped[95] = 95, 0
    granules = np.concatenate([granules[32:64], granules[:32], granules[64:]])
    options: dict[str, Any] = {"formats": ["drop-in"]}
    yield lambda: planned(model, folder / "out", {"layers.0": swapped}, **options)
    yield lambda: planned(model, folder / "out", {"layers.0": granules}, **options)


@case(f"{_PLAN}:_check_bundles")
def packed_weights_bundled(folder: Path) -> Attempts:
    """Weights of several neurons in a word, bundled: in the drop-in format alone."""
    model, placement = write_quantised(folder / "m", "awq"), placement_at(folder / "p", names=())
    command = ("reorder", model, "--placement", placement, "--out", folder / "out")
    yield lambda: run(*command)
    yield lambda: run(*command, "--format", "drop-in")


@case(f"{_PLAN}:orders_of")
def placement_of_another_model(folder: Path) -> Attempts:
    """A placement of a model of other widths: of this one."""
    model = model_at(folder / "m")
    yield lambda: planned(model, folder / "out", {"layers.0": [*range(23)]})
    yield lambda: planned(model, folder / "out", {"layers.0": [*range(24)]})


_BUNDLE = "checkpoint/output/bundle_layout.py:lay_out"


@case(_BUNDLE, "bundled file")
def bundled_file_as_checkpoint(folder: Path) -> Attempts:
    """A checkpoint with tensors named as bundles are: the original."""
    named = opt_tensors() | {"layers.0.bundles": np.ones(1, "f2")}
    bundled = write_checkpoint(folder / "bundled", named, opt_config())
    yield lambda: planned(bundled, folder / "out")
    yield lambda: planned(model_at(folder / "m"), folder / "out")


@case(_BUNDLE, "write the drop-in format only")
def index_too_long(folder: Path) -> Attempts:
    """An index that outgrows a header: without the bundled format."""
    model = model_at(folder / "m")
    with patch.object(bundle_layout, "MAX_HEADER_BYTES", 100):
        yield lambda: planned(model, folder / "out")
        yield lambda: planned(model, folder / "out", formats=["drop-in"])


_SIDE = "checkpoint/output/sidefiles.py:list_side_files"


@case(_SIDE, "reordered before")
def output_reordered_again(folder: Path) -> Attempts:
    """An output to be reordered once more: the original, or what is restored from it."""
    written(folder, folder / "out")
    yield lambda: written(folder, folder / "again", model="out")
    yield lambda: written(folder, folder / "again")
    run("verify", folder / "out", "--restore", folder / "restored")
    yield lambda: written(folder, folder / "third", model="restored")


@case(_SIDE, "a special file")
def socket_in_the_checkpoint(folder: Path) -> Attempts:
    """A socket beside the weights: it is removed."""
    model = model_at(folder / "model")
    make_socket(model / "run.sock")
    yield lambda: written(folder, folder / "a")
    (model / "run.sock").unlink()


@case("foreign.py:_absent", "run the download again", "a broken link beside the weights: its target is downloaded")
def broken_link_in_the_checkpoint(folder: Path) -> Attempts:
    """As where the hub's cache lost a blob."""
    model = model_at(folder / "model")
    (model / "merges.txt").symlink_to(folder / "blob")
    yield lambda: written(folder, folder / "a")
    (folder / "blob").write_text("a b")
    yield lambda: written(folder, folder / "a")


@case(_SIDE, "an adapter")
def adapter_in_the_checkpoint(folder: Path) -> Attempts:
    """An adapter in a directory of the checkpoint: it is moved out, and given with --adapter."""
    adapter = write_adapter(model_at(folder / "model") / "adapter", {})
    yield lambda: written(folder, folder / "a")
    adapter.rename(folder / "adapter")
    yield lambda: written(folder, folder / "a")
    yield lambda: written(folder, folder / "b", "--adapter", folder / "adapter")


instead(
    "checkpoint/writing.py:WritingParams.__post_init__", "", "a format that is not known: one that is",
    lambda: WritingParams(formats=("zip",)), lambda: WritingParams(formats=("bundled",)),
)  # fmt: skip


@case("checkpoint/writing.py:WritingParams.check_gguf")
def gguf_in_the_output(folder: Path) -> Attempts:
    """A GGUF file inside the output: beside it."""
    yield lambda: written(folder, folder / "out", "--gguf", folder / "out" / "a.gguf")
    yield lambda: written(folder, folder / "out", "--gguf", folder / "a.gguf")


@case("checkpoint/writing.py:WritingParams.check_needs_checkpoint")
def adapter_without_a_checkpoint(folder: Path) -> Attempts:
    """An adapter, and no checkpoint: with it."""
    model, learned, adapter = model_at(folder / "model"), profile_at(folder / "p"), write_adapter(folder / "a", {})
    options = ("--profile", learned, "--adapter", adapter, "--out", folder / "out")
    yield lambda: run("reorder", *options)
    yield lambda: run("reorder", model, *options)


# Torch files.

_CONVERT = "checkpoint/output/convert.py:_torch_files"
INDEX = "pytorch_model.bin.index.json"


def torch_at(path: Path) -> Path:
    """Write a checkpoint of two torch shards."""
    path.mkdir(parents=True)
    weight_map = {f"layer.{n}": f"part-{n}.bin" for n in range(2)}
    (path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    for n in range(2):
        write_torch_file(path / f"part-{n}.bin", {f"layer.{n}": np.ones((4, 8), "f4")})
    return path


@case(_CONVERT, "give the directory")
def no_torch_files(folder: Path) -> Attempts:
    """A directory above the one with the torch files: that one."""
    torch_at(folder / "m" / "snapshot")
    yield lambda: convert(folder / "m", folder / "out")
    yield lambda: convert(folder / "m" / "snapshot", folder / "out")


@case(_CONVERT, "that has one")
def torch_index_without_its_map(folder: Path) -> Attempts:
    """An index without its map: downloaded again."""
    source = torch_at(folder / "m")
    whole = (source / INDEX).read_text()
    (source / INDEX).write_text("{}")
    yield lambda: convert(source, folder / "out")
    (source / INDEX).write_text(whole)


@case(_CONVERT, "download the index")
def torch_index_cut_short(folder: Path) -> Attempts:
    """An index that is cut short: downloaded again."""
    source = torch_at(folder / "m")
    whole = (source / INDEX).read_text()
    (source / INDEX).write_text(whole[:20])
    yield lambda: convert(source, folder / "out")
    (source / INDEX).write_text(whole)


@case(_CONVERT, "the shard that the index names")
def torch_shard_missing(folder: Path) -> Attempts:
    """A shard that is not there: downloaded."""
    source = torch_at(folder / "m")
    (source / "part-1.bin").rename(folder / "elsewhere")
    yield lambda: convert(source, folder / "out")
    (folder / "elsewhere").rename(source / "part-1.bin")


@case(_CONVERT, "download the model elsewhere")
def torch_index_that_points_outside(folder: Path) -> Attempts:
    """An index that points outside: the model is downloaded elsewhere."""
    source = torch_at(folder / "m")
    (source / INDEX).write_text('{"weight_map": {"x": "../part-1.bin"}}')
    yield lambda: convert(source, folder / "out")
    yield lambda: convert(torch_at(folder / "elsewhere"), folder / "out")


# Interrupted runs.


def interrupted(story: str, words: str, change: Callable[[Path], object], *options: str) -> None:
    """List a case of a run that was interrupted, and is to be resumed otherwise: it starts over."""

    @case("checkpoint/output/journal.py:_require_same_run", words, story)
    def scene(folder: Path) -> Attempts:
        with patch.object(rewrite, "build_manifest", FailingCall(rewrite.build_manifest, 1, KeyboardInterrupt())):
            try:
                written(folder, folder / "out")
            except BaseException:
                assert (folder / "out.partial").exists()
        change(folder)
        yield lambda: written(folder, folder / "out", "--resume", *options)
        if options:
            shutil.copytree(folder / "out.partial", folder / "kept.partial")
            yield lambda: written(folder, folder / "out", "--resume")
            shutil.rmtree(folder / "out")
            (folder / "kept.partial").rename(folder / "out.partial")
        yield lambda: written(folder, folder / "out", *options)


interrupted(
    "the source has changed meanwhile: without --resume", "as it was. leave out",
    lambda folder: os.utime(folder / "model" / "config.json", (1, 1)),
)  # fmt: skip
interrupted(
    "another format than before: as before, or without --resume", "repeat the command", lambda folder: None,
    "--format", "drop-in",
)  # fmt: skip


# Manifests, and restoring.

_MANIFEST, _RESTORE = "checkpoint/output/manifest.py:read_manifest", "checkpoint/restore.py:restore"


@case(_MANIFEST, "named with --out")
def checkpoint_as_output(folder: Path) -> Attempts:
    """A checkpoint given as an output: the output."""
    out = output_at(folder / "out")
    yield lambda: read_manifest(folder / "model")
    yield lambda: read_manifest(out)


def changed_manifest(out: Path, old: str, new: str) -> None:
    """Replace some text of a manifest."""
    text = (out / MANIFEST_FILE).read_text()
    assert old in text
    (out / MANIFEST_FILE).write_text(text.replace(old, new, 1))


@case(_MANIFEST, "with this version")
def damaged_manifest(folder: Path) -> Attempts:
    """A manifest that was edited: reordered again."""
    written(folder, folder / "out")
    changed_manifest(folder / "out", '"opt"', '"llama"')
    yield lambda: read_manifest(folder / "out")
    written(folder, folder / "out", "--force")
    yield lambda: read_manifest(folder / "out")


@case(_MANIFEST, "a later version", untried="there is no later version yet")
def manifest_of_a_later_version(folder: Path) -> Attempts:
    """An output of manifest format 2."""
    changed_manifest(output_at(folder / "out"), "ripple-place.manifest/1", "ripple-place.manifest/2")
    yield lambda: read_manifest(folder / "out")


@case(_RESTORE, "restore from an output of")
def restored_from_bundles(folder: Path) -> Attempts:
    """An output of the bundled format alone: one that has the drop-in format too."""
    written(folder, folder / "bundled", "--format", "bundled")
    written(folder, folder / "both")
    yield lambda: restore(folder / "bundled", folder / "restored")
    yield lambda: restore(folder / "both", folder / "restored")


@case(_RESTORE, "restore from another copy")
def restored_from_a_damaged_output(folder: Path) -> Attempts:
    """An output with a damaged file: from another copy."""
    written(folder, folder / "out")
    shutil.copytree(folder / "out", folder / "copy")
    (folder / "out" / "config.json").write_text("{}")
    yield lambda: restore(folder / "out", folder / "restored")
    yield lambda: restore(folder / "copy", folder / "restored")


@case(_RESTORE, "report this", untried="it reports a fault of the package")
def restored_wrongly(folder: Path) -> Attempts:
    """A program that restores another model than the original."""
    out = output_at(folder / "out")
    with patch("ripple_place.checkpoint.restore.slots_of", lambda order: order[::-1].copy()):
        yield lambda: restore(out, folder / "restored")
