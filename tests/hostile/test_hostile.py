"""Files that lie: each is read or refused with one sentence, in bounded time and memory."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.manifest import format_manifest, read_manifest
from ripple_place.checkpoint.output.manifest_form import malformed_key
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.output.sidefiles import list_side_files
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import CheckpointError, RipplePlaceError, TraceFormatError, UsageError
from ripple_place.tensorfile import TensorFile, build_header
from ripple_place.trace.files import read_trace
from tests.builders import (
    adjust_manifest,
    contents,
    llama_config,
    llama_tensors,
    opt_config,
    opt_tensors,
    random_placement,
    write_checkpoint,
)
from tests.hostile.runs import Targets

ROOT = Path(__file__).parents[2]


def test_mutated_files() -> None:
    """Two thousand files, changed at random, each kind by its own rules; many more in `.ci/run`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.runs", "--mutations", "40", "--seed", "1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused = [int(line.split()[-8]) for line in done.stdout.splitlines()]
    assert len(refused) == 87
    assert sorted(refused)[1] >= 10  # Of an adapter's config, most keys may be anything.


def test_more_shards_than_open_files() -> None:
    """Six hundred shards, of which two hundred may be open; ten thousand in `.ci/run`."""
    subprocess.run([sys.executable, "-m", "tests.hostile.shards", "--shards", "600"], cwd=ROOT, check=True)


@cache
def targets(root: Path) -> Targets:
    """Return the sound files, made once."""
    return Targets(root)


names = st.sampled_from(["layers.0.active", "layers.0.order", "a", "", "..", "\ud800", "__metadata__"])
sizes = st.one_of(st.integers(-2, 9), st.sampled_from([2**31, 2**62, 2**63, 2**64, 10**40]), st.none(), st.floats())
entries = st.one_of(
    st.fixed_dictionaries({
        "dtype": st.sampled_from(["U8", "I32", "I64", "F4", "BF16", "F99", ""]),
        "shape": st.lists(sizes, max_size=4),
        "data_offsets": st.lists(sizes, min_size=1, max_size=3),
    }),
    st.dictionaries(names, sizes, max_size=2), sizes, st.text(max_size=5),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(["trace", "profile", "placement", "weights", "shard", "bundled"]),
    header=st.dictionaries(names, entries, max_size=4),
    metadata=st.one_of(
        sizes, st.dictionaries(st.sampled_from(["format", "blocks", "n_tokens"]), st.text(max_size=9)),
        st.just({"format": "ripple-place.trace/1", "blocks": '{"layers.0": 4}', "n_tokens": "9" * 400}),
        st.just({"format": "ripple-place.profile/1", "blocks": '{"layers.0": 2147483647}'}),
        st.just({"format": "ripple-place.placement/1"}),
    ),
    data=st.binary(max_size=40),
)  # fmt: skip
def test_invented_headers(
    tmp_path_factory: pytest.TempPathFactory, kind: str, header: dict[str, Any], metadata: Any, data: bytes
) -> None:
    """Headers that no writer wrote, rather than mutations of sound ones."""
    files = targets(tmp_path_factory.getbasetemp() / "hostile")
    text = json.dumps({"__metadata__": metadata, **header}).encode()
    try:
        files.read(kind, len(text).to_bytes(8, "little") + text + data)
    finally:
        files.kinds[kind][0].write_bytes(files.sound[kind])


def write(path: Path, header: bytes, data: bytes = b"") -> Path:
    """Write a container with a header as given."""
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def test_a_product_of_a_million_sizes(tmp_path: Path) -> None:
    """A shape of a million large sizes is refused before they are multiplied, which would take hours."""
    shape = ",".join([str(2**62)] * 1_000_000)
    path = write(tmp_path / "a", f'{{"a":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,0]}}}}'.encode())
    with pytest.raises(ValueError, match=r"a shape of 1000000 axes with 2\*\*200 items or more"):
        TensorFile.open(path)


def test_a_message_is_a_line(tmp_path: Path) -> None:
    """Names come from the file: what would move the cursor is escaped, what is endless is cut."""
    name = json.dumps("\x1b[2J\n\u202e" + "x" * 100_000)
    path = write(tmp_path / "a", f'{{{name}:{{"dtype":"U8","shape":[1],"data_offsets":[0,2]}}}}'.encode(), b"00")
    with pytest.raises(ValueError, match=r"tensor \\x1b\[2J\\n\\u202exxx.* \.\.\. x+: found 2 bytes") as caught:
        TensorFile.open(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize("n_bytes", [10**8, 2**63, 2**64 - 1])
def test_a_lying_length_allocates_nothing(tmp_path: Path, n_bytes: int) -> None:
    """The header is as long as the file at most."""
    (tmp_path / "a").write_bytes(n_bytes.to_bytes(8, "little") + b"{}")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="a header of"):
            TensorFile.open(tmp_path / "a")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_links_in_circles(pico_llama: Path, tmp_path: Path) -> None:
    """For each file that is looked for, a link to itself is no such file, and no crash."""
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(UsageError, match="expected a checkpoint directory"):
        Checkpoint.open(loop)
    model = describe_ffn(Checkpoint.open(pico_llama))
    with pytest.raises(UsageError, match="a link that leads nowhere"):
        plan_rewrite(model, random_placement(model), loop, force=True)
    with pytest.raises(UsageError, match="found no directory"):
        read_manifest(loop)
    for name in ("config.json", "model-00001-of-00003.safetensors", "tokenizer.json"):
        path = pico_llama / name
        data = path.read_bytes()
        path.unlink()
        path.symlink_to(path)
        with pytest.raises(CheckpointError, match=r"no file|no such file|a link to .*, which is not there"):
            list_side_files(Checkpoint.open(pico_llama))
        path.unlink()
        path.write_bytes(data)
    (pico_llama / "around").symlink_to(pico_llama)
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    assert "around" in read_manifest(tmp_path / "out").document["source"]["left_out"]


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "a/../b", "", ".", "x" * 300, "a\0b", "\ud800"]
)
def test_shards_elsewhere(pico_llama: Path, name: str) -> None:
    """An index must not lead out of its directory, nor to what no file can be called."""
    index = pico_llama / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["weight_map"]["lm_head.weight"] = name
    index.write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=r"expected (a plain file name|the shard that)") as caught:
        Checkpoint.open(pico_llama)
    assert str(caught.value).isprintable()


def test_a_config_that_promises_layers_without_end(tmp_path: Path) -> None:
    """They are not counted one by one."""
    source = write_checkpoint(tmp_path / "m", llama_tensors(), llama_config() | {"num_hidden_layers": 2**62})
    with pytest.raises(CheckpointError, match=r"no FFN in layers 2-\d+, .*; expected one in each of 46116860"):
        describe_ffn(Checkpoint.open(source))


@pytest.mark.parametrize("family", ["opt", "llama"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(tmp_path: Path, family: str, value: float) -> None:
    """Weights are bytes: NaN moves like any other, and equals itself."""
    tensors, config = (opt_tensors(), opt_config()) if family == "opt" else (llama_tensors(), llama_config())
    for tensor in tensors.values():
        tensor[...] = value
    source = write_checkpoint(tmp_path / "m", tensors, config)
    model = describe_ffn(Checkpoint.open(source))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    verify(source, tmp_path / "out")


def test_tensors_without_bytes(tmp_path: Path) -> None:
    """Where they are no weights they are copied like the rest; where they are, they are refused."""
    extra = {"model.empty": np.zeros((0, 8), "<f2"), "model.also_empty": np.zeros((3, 0), "<f4")}
    source = write_checkpoint(tmp_path / "m", llama_tensors() | extra, llama_config())
    model = describe_ffn(Checkpoint.open(source))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    verify(source, tmp_path / "out")
    tensors = llama_tensors()
    tensors["model.layers.1.mlp.up_proj.weight"] = np.zeros((0, 8), "<f2")
    source = write_checkpoint(tmp_path / "n", tensors, llama_config())
    with pytest.raises(CheckpointError, match="not empty"):
        describe_ffn(Checkpoint.open(source))


def set_in(document: dict[str, Any], path: str, value: Any) -> None:
    """Set a value deep in a document."""
    *parents, key = path.split("/")
    for parent in parents:
        document = document[parent]
    document[key] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("formats", []), ("formats", ["bundled", "drop-in"]), ("formats", "both"), ("stride", "wide"), ("family", None),
        ("source", {}), ("source/files", {"../x": {"size_bytes": 1, "sha256": "0" * 64}}),
        ("source/files", {"x": {"size_bytes": -1, "sha256": "0" * 64}}), ("source/shards", ["/etc/passwd"]),
        ("source/files", {"x": {"size_bytes": 1, "sha256": "0"}}), ("source/shards", ["y"]), ("source/left_out", []),
        ("tensors", {"a": "removed"}), ("blocks", []), ("blocks", {"layers.01": {}}), ("blocks/layers.0", {"a": 1}),
        ("blocks/layers.0/n_neurons", 0), ("blocks/layers.0/n_neurons", True), ("blocks/layers.0/bundle_bytes", 1.0),
        ("bundled", None), ("bundled/layers.0/order", [-1]), ("bundled/layers.0/components", {}), ("checks", [1]),
        ("gates", "inside"), ("blocks/layers.0/gates", {"offset_bytes": 0}), ("bundled/layers.0/gates", {}),
        ("files", {"a\0": {"size_bytes": 1, "sha256": "0" * 64}}), ("files", 3), ("model_type", 2**70),
    ],
)  # fmt: skip
def test_manifests_of_another_form(pico_opt: Path, tmp_path: Path, path: str, value: Any) -> None:
    """A hash that holds says nothing of intent: each value is checked before it names a file or sizes an array."""
    model = describe_ffn(Checkpoint.open(pico_opt))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    document = json.loads((tmp_path / "out/ripple_place/manifest.json").read_text())
    assert malformed_key(document) is None
    set_in(document, path, value)
    if path == "files":
        (tmp_path / "out/ripple_place/manifest.json").write_text(format_manifest(rehash(document)))
    else:
        adjust_manifest(tmp_path / "out", **{path.split("/")[0]: document[path.split("/")[0]]})
    with pytest.raises(CheckpointError, match=f"found {path.split('/')[0]} of another form"):
        read_manifest(tmp_path / "out")


def rehash(document: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with the hash that its contents have."""
    covered = {key: value for key, value in document.items() if key != "manifest_sha256"}
    return covered | {"manifest_sha256": hashlib.sha256(format_manifest(covered).encode()).hexdigest()}


def flipped(data: bytes, position: int, bit: int) -> bytes:
    """Return bytes of which one bit is another."""
    changed = bytearray(data)
    changed[position] ^= 1 << bit
    return bytes(changed)


def test_a_flipped_bit_anywhere(pico_llama: Path, tmp_path: Path) -> None:
    """In every file of an output, at its first and last byte and between, `verify` sees it."""
    out = tmp_path / "out"
    model = describe_ffn(Checkpoint.open(pico_llama))
    execute(plan_rewrite(model, random_placement(model), out))
    rng = np.random.default_rng(0)
    files = contents(out)
    assert len(files) == 11
    for name, data in files.items():
        for position in {0, len(data) - 1, *rng.integers(len(data), size=3).tolist()}:
            (out / name).write_bytes(flipped(data, position, int(rng.integers(8))))
            with pytest.raises(RipplePlaceError):
                verify(pico_llama, out)
        (out / name).write_bytes(data)
    verify(pico_llama, out)


def test_headers_deeper_than_the_stack(tmp_path: Path) -> None:
    """Recursion ends in a sentence, wherever JSON is read."""
    header = build_header([], {"format": "ripple-place.trace/1", "blocks": "[" * 200_000})
    (tmp_path / "trace").write_bytes(header)
    with pytest.raises(TraceFormatError, match="recursion"):
        read_trace(tmp_path / "trace")
    write(tmp_path / "deep", b'{"a":' * 200_000)
    with pytest.raises(ValueError, match="recursion"):
        TensorFile.open(tmp_path / "deep")


def test_a_source_that_may_only_be_read(pico_llama: Path, tmp_path: Path) -> None:
    """Nothing is written, locked or touched there, whatever its name."""
    source = tmp_path / "Ünï cödé 'quotes' 模型"
    pico_llama.rename(source)
    for path in (*source.rglob("*"), source):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_mode) for path in (source, *source.rglob("*"))}
    model = describe_ffn(Checkpoint.open(source))
    out = tmp_path / "Aus gabe 出力"
    execute(plan_rewrite(model, random_placement(model), out))
    verify(source, out)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_mode) for path in (source, *source.rglob("*"))} == before
    assert os.access(out / "config.json", os.W_OK)
    for path in (source, *source.rglob("*")):
        path.chmod(0o755)


def test_names_that_are_no_text(pico_llama: Path, tmp_path: Path) -> None:
    """File names are bytes to the system: one that is no UTF-8 is copied, recorded and checked like others."""
    (pico_llama / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    model = describe_ffn(Checkpoint.open(pico_llama))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    verify(pico_llama, tmp_path / "out")
    assert (tmp_path / "out" / os.fsdecode(b"caf\xe9.txt")).read_text() == "x"
