"""Verification: a sound output passes, and every way of harming one is found."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verification_bytes, verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import CheckpointError, UsageError, VerificationError
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement, write_placement
from ripple_place.tensorfile import TensorFile
from tests.builders import adjust_manifest, contents, random_placement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OWN = "ripple_place"
WEIGHTS, BUNDLED = "model.safetensors", f"{OWN}/bundled.safetensors"
DECODER = "model.decoder."
MANIFEST = f"{OWN}/manifest.json"
PLACEMENT = f"{OWN}/placement.safetensors"


@pytest.fixture
def out(pico_opt: Path, tmp_path: Path) -> Path:
    """Return an output made from `pico_opt`."""
    model = describe_ffn(Checkpoint.open(pico_opt))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "out"))
    return tmp_path / "out"


def swap(path: Path, tensor: str, first: int, second: int) -> None:
    """Swap two rows of a tensor in place."""
    extent = TensorFile.open(path).tensors[tensor]
    row = extent.length_bytes // extent.shape[0]
    data = bytearray(path.read_bytes())
    one, other = (slice(extent.offset_bytes + i * row, extent.offset_bytes + (i + 1) * row) for i in (first, second))
    data[one], data[other] = data[other], data[one]
    path.write_bytes(data)


def test_a_sound_output(pico_opt: Path, out: Path, tmp_path: Path) -> None:
    """It passes, also after it was copied elsewhere; hidden files of file managers do not matter."""
    moved = tmp_path / "moved"
    shutil.copytree(out, moved)
    (moved / ".DS_Store").write_text("")
    done: list[int] = []
    report = verify(pico_opt, moved, done.append)
    assert (report.n_permuted, report.n_untouched) == (6, 11)
    assert sum(done) == verification_bytes(read_manifest(moved))
    assert all(report.checks.values())


def test_a_flipped_byte_anywhere(pico_opt: Path, out: Path) -> None:
    """Whatever the file, whatever the place: headers, weights, padding, config, placement, manifest."""
    rng = np.random.default_rng(5)
    for name, data in contents(out).items():
        for position in {0, 8, len(data) - 1, *rng.integers(0, len(data), 4).tolist()} - set(range(len(data), 99)):
            harmed = bytearray(data)
            harmed[position] ^= 1 << int(rng.integers(0, 8))
            (out / name).write_bytes(harmed)
            with pytest.raises(VerificationError, match=name.rsplit("/", 1)[-1]):
                verify(pico_opt, out)
        (out / name).write_bytes(data)
    verify(pico_opt, out)


def test_two_copies(pico_opt: Path, tmp_path: Path) -> None:
    """Both are proven: a flipped byte or swapped bundles in the second are found, hashes adjusted or not."""
    model = describe_ffn(Checkpoint.open(pico_opt))
    out = tmp_path / "out"
    report = execute(plan_rewrite(model, random_placement(model, copies=("layers.0", "layers.1")), out))
    assert report is not None
    assert report.checks["bundled components equal the source's, read at the index's offsets"] == 8
    done: list[int] = []
    verify(pico_opt, out, done.append)
    assert sum(done) == verification_bytes(read_manifest(out))
    whole = (out / BUNDLED).read_bytes()
    extent = TensorFile.open(out / BUNDLED).tensors["layers.1.bundles_2"]
    harmed = bytearray(whole)
    harmed[extent.offset_bytes + extent.length_bytes // 2] ^= 1
    (out / BUNDLED).write_bytes(harmed)
    with pytest.raises(VerificationError, match=r"bundled.safetensors: found SHA-256"):
        verify(pico_opt, out)
    adjust_manifest(out)
    with pytest.raises(VerificationError, match=r"layers.1 \(second copy\), .*fc\d.weight: found other"):
        verify(pico_opt, out)
    (out / BUNDLED).write_bytes(whole)
    placement = read_placement(out / PLACEMENT)
    turned = {
        name: NeuronPlacement(block.order, order_2=block.order_2[::-1]) for name, block in placement.blocks.items()
    }
    write_placement(out / PLACEMENT, ModelPlacement(turned, placement.metadata))
    adjust_manifest(out)
    with pytest.raises(VerificationError, match=r"manifest.json: bundled"):
        verify(pico_opt, out)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda out: swap(out / WEIGHTS, DECODER + "layers.1.fc1.weight", 3, 4), r"fc1.weight: found other"),
        (lambda out: swap(out / WEIGHTS, DECODER + "layers.1.fc1.bias", 3, 4), r"fc1.bias: found other"),
        (lambda out: swap(out / WEIGHTS, DECODER + "embed_tokens.weight", 3, 4), r"embed_tokens.*other bytes"),
        (lambda out: swap(out / BUNDLED, "layers.0.bundles", 3, 4), r"layers.0, .*fc1.weight"),
        (lambda out: swap(out / BUNDLED, DECODER + "layers.1.fc1.bias", 0, 1), r"fc1.bias"),
        (lambda out: swap(out / BUNDLED, DECODER + "layers.1.fc2.bias", 0, 1), r"other bytes"),
        (lambda out: (out / "config.json").write_text("{}"), r"config.json: found it missing, or other bytes"),
    ],
)
def test_harm_behind_adjusted_hashes(pico_opt: Path, out: Path, harm: Callable[[Path], Any], message: str) -> None:
    """Weights are compared with the source, not only hashed: a forged manifest does not help."""
    harm(out)
    adjust_manifest(out)
    with pytest.raises(VerificationError, match=message):
        verify(pico_opt, out)


def test_a_placement_that_disagrees(pico_opt: Path, out: Path) -> None:
    """Another order than that of the weights, with manifest and bundled index adjusted as far as one can."""
    blocks = dict(read_placement(out / PLACEMENT).blocks)
    blocks["layers.1"] = NeuronPlacement(np.roll(blocks["layers.1"].order, 1))
    write_placement(out / PLACEMENT, ModelPlacement(blocks))
    with pytest.raises(VerificationError, match="SHA-256"):
        verify(pico_opt, out)
    bundled = {name: dict(entry) for name, entry in read_manifest(out).document["bundled"].items()}
    adjust_manifest(out)
    with pytest.raises(VerificationError, match=r"manifest.json: bundled"):
        verify(pico_opt, out)
    bundled["layers.1"]["order"] = blocks["layers.1"].order.tolist()
    adjust_manifest(out, bundled=bundled)
    with pytest.raises(VerificationError, match="other weights for neuron"):
        verify(pico_opt, out)


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", PLACEMENT, BUNDLED])
def test_a_missing_file(pico_opt: Path, out: Path, name: str) -> None:
    """Each recorded file must be there."""
    (out / name).unlink()
    with pytest.raises(VerificationError, match="no such file"):
        verify(pico_opt, out)


@pytest.mark.parametrize("name", ["model-00002.safetensors", "adapter_config.json", f"{OWN}/more.safetensors"])
def test_an_extra_file(pico_opt: Path, out: Path, name: str) -> None:
    """A loader might take it for part of the model."""
    (out / name).write_bytes(b"{}")
    with pytest.raises(VerificationError, match="not written with the rest"):
        verify(pico_opt, out)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_changed_source(pico_opt: Path, out: Path, name: str) -> None:
    """The message points at the source, not at the output."""
    data = bytearray((pico_opt / name).read_bytes())
    data[-1] ^= 1
    (pico_opt / name).write_bytes(data)
    with pytest.raises(VerificationError, match=rf"pico-opt/{name}.*from which the output was made"):
        verify(pico_opt, out)
    (pico_opt / name).unlink()
    with pytest.raises(VerificationError, match="no such file"):
        verify(pico_opt, out)


def test_what_is_no_output(pico_opt: Path, out: Path, tmp_path: Path) -> None:
    """Wrong paths are the user's, not the output's fault."""
    for path, found in ((tmp_path / "nowhere", "no directory"), (pico_opt, "without ripple_place/manifest.json")):
        with pytest.raises(UsageError, match=found):
            verify(pico_opt, path)
    with pytest.raises(UsageError, match="expected the original checkpoint"):
        verify(tmp_path / "nowhere", out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-9], "manifest.json: found"),
        (lambda text: "[]\n", "unknown or missing keys"),
        (lambda text: text.replace("manifest/1", "manifest/9"), "format 'ripple-place.manifest/9'"),
        (lambda text: text + " ", "its own hash does not cover"),
        (lambda text: text.replace('"n_neurons":24', '"n_neurons":25', 1), "its own hash does not cover"),
        (lambda text: text.replace('"stride"', '"strides"', 1), "unknown or missing keys"),
    ],
)
def test_a_damaged_manifest(out: Path, change: Callable[[str], str], message: str) -> None:
    """Whoever reads a manifest learns that it is damaged, with or without the source at hand."""
    (out / MANIFEST).write_text(change((out / MANIFEST).read_text()))
    with pytest.raises(CheckpointError, match=message):
        read_manifest(out)


def test_manifest_for_readers(out: Path) -> None:
    """What a simulator takes from an output."""
    manifest = read_manifest(out)
    block = manifest.blocks["layers.1"]
    assert (block.n_neurons, block.bundle_bytes, block.stride_bytes, block.placed) == (24, 32, 32, True)
    assert manifest.placement_path == out / PLACEMENT
    assert manifest.bundled_path == out / BUNDLED
    assert json.loads((out / MANIFEST).read_text()) == manifest.document
