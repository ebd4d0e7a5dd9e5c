"""Outputs that were changed with intent, and whose manifest was made to agree: all are found out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import BUNDLED_FILE, MANIFEST_FILE, OWN_DIRECTORY, PLACEMENT_FILE
from ripple_place.checkpoint.output.manifest import format_manifest
from ripple_place.checkpoint.output.manifest_form import malformed_key
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.restore import restore
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import VerificationError
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement, write_placement
from ripple_place.tensorfile import TensorFile
from tests.builders import contents, llama_config, llama_tensors, random_placement, write_checkpoint
from tests.checkpoint.test_carriers import dat, lora, write_adapter
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Harm = Callable[[Path], Any]

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
UP = "model.layers.0.mlp.up_proj.weight"
Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a Llama of two shards whose second block stays in original order, with code and a generation config."""
    tensors = llama_tensors(n_neurons=25)
    shards = {name: FIRST if "layers.0." in name else SECOND for name in tensors}
    path = write_checkpoint(tmp_path / "m", tensors, llama_config(n_neurons=25), shards=shards)
    (path / "generation_config.json").write_text('{"temperature": 1.0}')
    (path / "pytorch_model.bin").write_bytes(b"stale")
    return path


def rewrite(source: Path, out: Path, **options: Any) -> Path:
    """Rewrite a checkpoint: the first block in two copies, the second in original order; page strides leave padding."""
    model = describe_ffn(Checkpoint.open(source))
    placement = random_placement(
        model, copies=("layers.0",) if "bundled" in options.get("formats", ["bundled"]) else ()
    )
    kept = ModelPlacement({"layers.0": placement.blocks["layers.0"]})
    execute(plan_rewrite(model, kept, out, **{"stride": "page", **options}))
    return out


def describe(data: bytes) -> dict[str, Any]:
    """Return what a manifest says of a file."""
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def forge(out: Path, **changes: Any) -> None:
    """Make the manifest agree with whatever lies in an output; it is silent on what the source has otherwise."""
    document = json.loads((out / MANIFEST_FILE).read_text()) | changes
    files = {name: describe(data) for name, data in contents(out).items() if name != MANIFEST_FILE}
    original = document["source"]["files"]
    shards = {name: original[name] for name in document["source"]["shards"]}
    copied = {name: entry for name, entry in original.items() if files.get(name) == entry}
    document["source"] = {**document["source"], "files": shards | copied}
    document["files"] = files
    del document["manifest_sha256"]
    document["manifest_sha256"] = hashlib.sha256(format_manifest(document).encode()).hexdigest()
    assert malformed_key(document) is None
    (out / MANIFEST_FILE).write_text(format_manifest(document))


def change_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON object."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def zero(path: Path, tensor: str) -> None:
    """Zero a tensor in place."""
    extent = TensorFile.open(path).tensors[tensor]
    put(path, extent.offset_bytes, bytes(extent.length_bytes))


def put(path: Path, offset_bytes: int, data: bytes) -> None:
    """Overwrite some bytes of a file."""
    whole = bytearray(path.read_bytes())
    whole[offset_bytes : offset_bytes + len(data)] = data
    path.write_bytes(whole)


def remove_shards(out: Path) -> None:
    """Remove the drop-in format."""
    for name in (FIRST, SECOND, INDEX):
        (out / name).unlink()


def replace_by_link(path: Path, target: Path) -> None:
    """Put a link in the place of a file or directory, which moves to `target`."""
    shutil.move(path, target)
    path.symlink_to(target)


def swap_rows(path: Path, tensor: str) -> None:
    """Swap the first two rows of a tensor in place."""
    extent = TensorFile.open(path).tensors[tensor]
    n_bytes, whole = extent.length_bytes // extent.shape[0], path.read_bytes()
    first, second = (whole[extent.offset_bytes + i * n_bytes :][:n_bytes] for i in range(2))
    assert first != second
    put(path, extent.offset_bytes, second + first)


def change_header(path: Path, old: bytes, new: bytes) -> None:
    """Replace text in a header by text of the same length."""
    assert len(old) == len(new)
    put(path, path.read_bytes().index(old), new)


def pad_header_otherwise(path: Path) -> None:
    """End a header with a newline in place of a space: the same JSON in other bytes."""
    start = TensorFile.open(path).data_start_bytes
    assert path.read_bytes()[start - 1 : start] == b" "
    put(path, start - 1, b"\n")


def space_header(path: Path) -> None:
    """Write a header with spaces between its words: the same JSON in other bytes."""
    data, start = path.read_bytes(), TensorFile.open(path).data_start_bytes
    text = json.dumps(json.loads(data[8:start])).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[start:])


def add_tensor(path: Path) -> None:
    """Write a shard with one tensor more."""
    save_file(load_file(path) | {"model.extra": np.zeros(2, "<f4")}, path, metadata={"format": "pt"})


def place_second_block(out: Path) -> None:
    """Give the block that stayed in original order another in the placement."""
    placement = read_placement(out / PLACEMENT_FILE)
    blocks = {**placement.blocks, "layers.1": NeuronPlacement(np.arange(25, dtype=np.int32)[::-1].copy())}
    write_placement(out / PLACEMENT_FILE, ModelPlacement(blocks, placement.metadata))
    document = json.loads((out / MANIFEST_FILE).read_text())
    document["blocks"]["layers.1"]["placed"] = True
    for part, action in (("gate", "rows"), ("up", "rows"), ("down", "columns")):
        document["tensors"][f"model.layers.1.mlp.{part}_proj.weight"] = action
    document["bundled"]["layers.1"]["order"] = list(range(25))[::-1]
    forge(out, tensors=document["tensors"], blocks=document["blocks"], bundled=document["bundled"])


def stride_padding(out: Path) -> None:
    """Hide something behind a bundle, in its page."""
    extent = TensorFile.open(out / BUNDLED_FILE).tensors["layers.1.bundles"]
    put(out / BUNDLED_FILE, extent.offset_bytes + extent.length_bytes - 1, b"x")


def listen(path: Path) -> None:
    """Put a socket somewhere."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def outside(out: Path) -> Path:
    """Return a path beside an output."""
    return out.with_name("elsewhere")


TAMPERINGS: dict[str, tuple[Harm, dict[str, Any], str]] = {
    "auto_map added": (
        lambda out: change_json(out / "config.json", auto_map={"AutoModel": "modeling_x.X"}), {},
        "config.json: found it missing, or other bytes",
    ),
    "code added": (lambda out: (out / "modeling_x.py").write_text("pass"), {}, r"modeling_x.py: found a file that was"),
    "code added below": (lambda out: (out / "notes/x.py").write_text("pass"), {}, "notes/x.py: found a file"),
    "hidden code added": (lambda out: (out / ".x.py").write_text("pass"), {}, r"\.x\.py: found a file"),
    "code in a cache": (lambda out: make(out / ".cache/huggingface/x.py"), {}, r"x\.py: found a file"),
    "hooks of git": (lambda out: make(out / ".git/hooks/post-checkout"), {}, "post-checkout: found a file"),
    "what was left out": (lambda out: (out / "pytorch_model.bin").write_bytes(b"x"), {}, "pytorch_model.bin: found a"),
    "tokenizer replaced": (lambda out: (out / "tokenizer.json").write_text("{}"), {}, "tokenizer.json: found it miss"),
    "tokenizer missing": (lambda out: (out / "tokenizer.json").unlink(), {}, "tokenizer.json: found no such file"),
    "licence removed": (lambda out: (out / "LICENSE").unlink(), {}, "LICENSE: found no such file"),
    "a directory removed": (lambda out: shutil.rmtree(out / "notes"), {}, "notes/card.md: found no such file"),
    "generation config changed": (
        lambda out: change_json(out / "generation_config.json", bad_words_ids=[[1]]), {}, "generation_config.json: fou",
    ),
    "zeroed shard, not mentioned": (lambda out: zero(out / FIRST, UP), {"formats": ["bundled"]}, "json: formats"),
    "zeroed shard": (lambda out: zero(out / FIRST, UP), {}, "up_proj.weight: found other weights"),
    "zeroed bundles, not mentioned": (
        lambda out: zero(out / BUNDLED_FILE, "layers.0.bundles"), {"formats": ["drop-in"], "bundled": None},
        "json: formats",
    ),
    "zeroed second copy": (
        lambda out: zero(out / BUNDLED_FILE, "layers.0.bundles_2"), {}, r"layers.0 \(second copy\).* other weights"
    ),
    "rows swapped in the second copy": (
        lambda out: swap_rows(out / BUNDLED_FILE, "layers.0.bundles_2"), {}, r"layers.0 \(second copy\)"
    ),
    "rows swapped in a shard": (lambda out: swap_rows(out / FIRST, UP), {}, "up_proj.weight: found other weights"),
    "no weights": (
        lambda out: (remove_shards(out), (out / BUNDLED_FILE).unlink()), {"formats": ["drop-in"], "bundled": None},
        "out: found no weights",
    ),
    "half of a format": (
        lambda out: (out / SECOND).unlink(), {"formats": ["bundled"]}, f"{SECOND}: found no such file",
    ),
    "no index": (lambda out: (out / INDEX).unlink(), {}, "index.json: found no such file"),
    "an index alone": (
        lambda out: [(out / name).unlink() for name in (FIRST, SECOND)], {"formats": ["bundled"]}, "found no such file"
    ),
    "index changed": (lambda out: change_json(out / INDEX, metadata={"total_size": 1}), {}, "index.json: found it m"),
    "a linked directory": (lambda out: replace_by_link(out / "notes", outside(out)), {}, "notes: found a link"),
    "a linked directory of ours": (
        lambda out: replace_by_link(out / OWN_DIRECTORY, outside(out)), {}, "ripple_place: found a link"
    ),
    "another linked directory": (lambda out: (out / "more").symlink_to("/etc"), {}, "more: found a link"),
    "a link to outside": (
        lambda out: replace_by_link(out / "tokenizer.json", outside(out)), {}, "tokenizer.json: found a link"
    ),
    "a linked shard": (lambda out: replace_by_link(out / FIRST, outside(out)), {}, f"{FIRST}: found a link"),
    "a linked manifest": (lambda out: replace_by_link(out / MANIFEST_FILE, outside(out)), {}, "json: found a link"),
    "a link to inside": (
        lambda out: ((out / "LICENSE").unlink(), (out / "LICENSE").symlink_to("config.json")), {}, "LICENSE: found a l"
    ),
    "a link to nowhere": (lambda out: (out / "vocab.json").symlink_to("nowhere"), {}, "vocab.json: found a link"),
    "a hidden link": (lambda out: (out / ".DS_Store").symlink_to("config.json"), {}, r"\.DS_Store: found a link"),
    "a FIFO": (lambda out: os.mkfifo(out / "pipe"), {}, "pipe: found a FIFO"),
    "a hidden FIFO": (lambda out: os.mkfifo(out / ".pipe"), {}, r"\.pipe: found a FIFO"),
    "a FIFO as config": (
        lambda out: ((out / "config.json").unlink(), os.mkfifo(out / "config.json")), {}, "config.json: found a FIFO"
    ),
    "a socket": (lambda out: listen(out / "socket"), {}, "socket: found a socket"),
    "an empty directory": (lambda out: (out / "empty").mkdir(), {}, "empty: found a directory"),
    "a shard more": (
        lambda out: shutil.copy(out / FIRST, out / "model-00003-of-00002.safetensors"), {}, "00003-of-00002.*found a fi"
    ),
    "a file more of ours": (
        lambda out: shutil.copy(out / PLACEMENT_FILE, out / OWN_DIRECTORY / "p.safetensors"), {}, "p.safetensors: foun"
    ),
    "a journal": (
        lambda out: (out / OWN_DIRECTORY / "journal.jsonl").write_text("{}\n"), {}, "journal.jsonl: found a file"
    ),
    "dtype changed": (lambda out: change_header(out / FIRST, b'"F16"', b'"I16"'), {}, f"{FIRST}: found another header"),
    "header spaced otherwise": (lambda out: space_header(out / FIRST), {}, f"{FIRST}: found another header"),
    "bundled header padded otherwise": (
        lambda out: pad_header_otherwise(out / BUNDLED_FILE), {}, "bundled.safetensors: found another header"
    ),
    "placement in other bytes": (
        lambda out: space_header(out / PLACEMENT_FILE), {}, "placement.safetensors: found other bytes"
    ),
    "a tensor more": (lambda out: add_tensor(out / FIRST), {}, f"{FIRST}: found another header"),
    "bytes behind a shard": (lambda out: (out / FIRST).write_bytes((out / FIRST).read_bytes() + b"x"), {}, FIRST),
    "resident tensor of a shard changed": (lambda out: swap_rows(out / FIRST, Q), {}, "q_proj.weight: found other byt"),
    "resident tensor changed": (lambda out: swap_rows(out / BUNDLED_FILE, Q), {}, "q_proj.weight: found other bytes"),
    "something behind a bundle": (stride_padding, {}, "layers.1: found padding that holds something"),
    "another family": (lambda out: None, {"family": "opt"}, "json: family"),
    "another type": (lambda out: None, {"model_type": "opt"}, "json: model_type"),
    "another stride": (lambda out: None, {"stride": "packed"}, r"json: blocks|another header"),
    "a carrier that is none": (
        lambda out: make(out / OWN_DIRECTORY / "x.py"),
        {"carriers": {f"{OWN_DIRECTORY}/x.py": {"kind": "counts", "source_sha256": describe(b"x")["sha256"]}}},
        r"x\.py: found a file",
    ),
}  # fmt: skip
"""The tampering, how the manifest is forged to match, and what `verify` reports."""


def make(path: Path) -> None:
    """Write a file in a directory of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampering_behind_a_forged_manifest(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The manifest is a claim: what must be there follows from the source, and what is there is compared with it."""
    harm, claims, found = TAMPERINGS[name]
    out = rewrite(source, tmp_path / "out")
    forge(out)
    verify(source, out)  # Forging alone changes nothing.
    monkeypatch.chdir(tmp_path)  # A socket's path must be short.
    harm(out)
    forge(out, **claims)
    with pytest.raises(VerificationError, match=found) as caught:
        verify(source, out)
    assert str(caught.value).isprintable()


def test_another_order_for_a_block_that_stayed(source: Path, tmp_path: Path) -> None:
    """Placement, manifest and index agree with each other, and not with the weights."""
    out = rewrite(source, tmp_path / "out", formats=["drop-in", "bundled"])
    place_second_block(out)
    with pytest.raises(VerificationError, match=r"layers.1.*found other weights|found another header"):
        verify(source, out)


def test_something_in_the_padding_between_blocks(source: Path, tmp_path: Path) -> None:
    """It is zero, and there is no room for anything else."""
    out = rewrite(source, tmp_path / "out", stride="packed")
    extents = TensorFile.open(out / BUNDLED_FILE).tensors
    names = [name for name in extents if ".padding" in name]
    assert names == ["layers.0.padding", "layers.0.padding_2", "layers.1.padding"]
    whole = (out / BUNDLED_FILE).read_bytes()
    for name in names:
        put(out / BUNDLED_FILE, extents[name].offset_bytes + extents[name].length_bytes - 1, b"x")
        forge(out)
        with pytest.raises(VerificationError, match=f"{name}: found padding that holds something; expected zeros"):
            verify(source, out)
        (out / BUNDLED_FILE).write_bytes(whole)


@pytest.mark.parametrize("formats", [["drop-in"], ["bundled"]])
def test_one_format(source: Path, tmp_path: Path, formats: list[str]) -> None:
    """Either is enough; the other may be removed from an output of both, if the manifest says so."""
    out = rewrite(source, tmp_path / "out", formats=formats)
    report = verify(source, out)
    assert ("resident tensors equal the source's" in report.checks) == (formats == ["bundled"])
    assert ("untouched tensors equal the source's" in report.checks) == (formats == ["drop-in"])
    (out / "config.json").write_text("{}")
    forge(out)
    with pytest.raises(VerificationError, match=r"config\.json: found it missing"):
        verify(source, out)


def test_someone_who_trusts_nobody(source: Path, tmp_path: Path) -> None:
    """With a checkpoint from elsewhere, of the same bytes, whatever file managers and the hub's client put in OUT."""
    out = rewrite(source, tmp_path / "out")
    clean = tmp_path / "clean"
    shutil.copytree(source, clean)
    (clean / "pytorch_model.bin").unlink()
    make(clean / ".git/HEAD")
    make(clean / ".DS_Store")
    moved = tmp_path / "downloaded"
    shutil.copytree(out, moved)
    for name in (".DS_Store", ".gitattributes", ".cache/huggingface/download/config.json.metadata"):
        make(moved / name)
    os.link(moved / "LICENSE", tmp_path / "hard link")
    report = verify(clean, moved)
    assert report.checks["side files equal the source's"] == 6
    (clean / "README.md").write_text("new")
    with pytest.raises(VerificationError, match=r"README.md: found no such file; expected it, since the checkpoint"):
        verify(clean, moved)


def carried(tmp_path: Path) -> dict[str, Any]:
    """Write an adapter, predictors and an importance matrix for `carrier_source`."""
    rng = np.random.default_rng(0)
    (tmp_path / "predictor").mkdir()
    for layer in range(2):
        weights = {"fc1.weight": rng.random((3, 8), "f4"), "fc2.weight": rng.random((24, 3), "f4")}
        write_torch_file(tmp_path / f"predictor/model_{layer}.pt", weights)
    (tmp_path / "m.dat").write_bytes(dat({"blk.0.ffn_down.weight": rng.random(24, "f4")}))
    adapter = write_adapter(tmp_path / "adapter", lora())
    return {"adapter": adapter, "carriers": [tmp_path / "predictor", tmp_path / "m.dat"]}


@pytest.fixture
def carrier_source(tmp_path: Path) -> Path:
    """Return a Llama of two layers, 24 neurons, hidden 8."""
    return write_checkpoint(tmp_path / "base", llama_tensors(), llama_config())


def rewrite_with(source: Path, out: Path, originals: dict[str, Any]) -> Path:
    """Rewrite a checkpoint, and files that go along."""
    model = describe_ffn(Checkpoint.open(source))
    execute(plan_rewrite(model, random_placement(model), out, **originals))
    return out


PREDICTOR = f"{OWN_DIRECTORY}/carriers/predictor/model_1.pt"
ADAPTER = f"{OWN_DIRECTORY}/adapter"


def claim(out: Path, name: str, **entry: Any) -> None:
    """Let the manifest say something else of a file that was permuted along."""
    carriers = json.loads((out / MANIFEST_FILE).read_text())["carriers"]
    forge(out, carriers=carriers | {name: {"kind": "adapter", **carriers.get(name, {}), **entry}})


def test_originals_of_what_went_along(carrier_source: Path, tmp_path: Path) -> None:
    """With them a forged adapter is found; without, the report says that it is no proof."""
    originals = carried(tmp_path)
    out = rewrite_with(carrier_source, tmp_path / "out", originals)
    proved = "files permuted along equal their sources after the inverse permutation"
    assert verify(carrier_source, out, **originals).checks[proved] == 6
    assert not any("equal their sources" in check for check in verify(carrier_source, out).checks)
    (out / ADAPTER / "README.md").write_text("forged")
    claim(out, f"{ADAPTER}/README.md", source_sha256=describe(b"forged")["sha256"])
    assert any("no proof" in check for check in verify(carrier_source, out).checks)
    with pytest.raises(VerificationError, match=r"README.md: found other contents"):
        verify(carrier_source, out, **originals)


def test_originals_must_be_complete(carrier_source: Path, tmp_path: Path) -> None:
    """A file without an original is not passed over, nor an original without a file."""
    originals = carried(tmp_path)
    out = rewrite_with(carrier_source, tmp_path / "out", originals)
    with pytest.raises(VerificationError, match=r"carriers/.*: found a file without an original"):
        verify(carrier_source, out, adapter=originals["adapter"])
    plain = rewrite_with(carrier_source, tmp_path / "plain", {})
    with pytest.raises(VerificationError, match=r"adapter/.*: found no such file"):
        verify(carrier_source, plain, adapter=originals["adapter"])


@pytest.mark.parametrize(
    ("name", "entry"),
    [(f"{ADAPTER}/evil.bin", {"source_sha256": describe(b"x")["sha256"]}),
     (PREDICTOR, {"kind": "counts"}), (PREDICTOR, {"kind": "adapter"}), (PREDICTOR, {"kind": "imatrix"}),
     (f"{OWN_DIRECTORY}/carriers/evil.py", {"kind": "counts", "source_sha256": describe(b"x")["sha256"]})],
)  # fmt: skip
def test_carriers_of_another_kind(carrier_source: Path, tmp_path: Path, name: str, entry: dict[str, Any]) -> None:
    """What could not have been permuted along is refused with a sentence."""
    out = rewrite_with(carrier_source, tmp_path / "out", carried(tmp_path))
    if not (out / name).exists():
        make(out / name)
    claim(out, name, **entry)
    with pytest.raises(VerificationError, match=name.rsplit("/", 1)[-1].replace(".", r"\.")):
        verify(carrier_source, out)


def test_a_checksum_within_a_carrier(carrier_source: Path, tmp_path: Path) -> None:
    """It is put right when neurons are put back: the file must also come of what was put back."""
    out = rewrite_with(carrier_source, tmp_path / "out", carried(tmp_path))
    data = (out / PREDICTOR).read_bytes()
    put(out / PREDICTOR, data.rindex(b"PK\x01\x02") + 16, b"\0\0\0\0")
    forge(out)
    with pytest.raises(VerificationError, match=r"model_1.pt: found"):
        verify(carrier_source, out)


def test_restoring_waits_for_nothing(source: Path, tmp_path: Path) -> None:
    """A FIFO is not opened; links, as in the hub's cache, are."""
    out = rewrite(source, tmp_path / "out")
    replace_by_link(out / "LICENSE", outside(out))
    restore(out, tmp_path / "again")
    assert not (tmp_path / "again/LICENSE").is_symlink()
    (out / "config.json").unlink()
    os.mkfifo(out / "config.json")
    with pytest.raises(VerificationError, match=r"config.json: found a FIFO"):
        restore(out, tmp_path / "once-more")
