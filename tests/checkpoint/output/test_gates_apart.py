"""Outputs whose gates lie apart: what lies where, that it is proved and given back, and what is refused."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import BUNDLED_FILE, MANIFEST_FILE
from ripple_place.checkpoint.output.bundle import plan_bundle
from ripple_place.checkpoint.output.manifest import format_manifest, read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite, resolve_orders
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.restore import restore
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import UnsupportedError, UsageError, VerificationError
from ripple_place.tensorfile import TensorFile
from tests.builders import adjust_manifest, contents, llama_config, llama_tensors, random_placement, write_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.placement import ModelPlacement


def rewrite(source: Path, out: Path, **options: Any) -> ModelPlacement:
    """Rewrite a checkpoint at random, its gates apart; return the placement."""
    model = describe_ffn(Checkpoint.open(source))
    placement = random_placement(model)
    execute(plan_rewrite(model, placement, out, gates="apart", **options))
    return placement


def weights_of(source: Path) -> dict[str, np.ndarray]:
    """Return all tensors of a checkpoint by the stock reader."""
    return {name: tensor for shard in source.glob("*.safetensors") for name, tensor in load_file(shard).items()}


def vector(weights: dict[str, np.ndarray], name: str, role: str, neuron: int) -> bytes:
    """Return the bytes of a neuron's row of gate or up, or column of down."""
    return (weights[name][:, neuron] if role == "down" else weights[name][neuron]).tobytes()


def assert_apart(out: Path, weights: dict[str, np.ndarray], placement: ModelPlacement) -> None:
    """Find each part of each neuron where the index says, with nothing but the file's bytes and numpy."""
    data = (out / BUNDLED_FILE).read_bytes()
    file = TensorFile.open(out / BUNDLED_FILE)
    assert file.metadata["format"] == "ripple-place.bundled/3"
    index = json.loads(file.metadata["index"])
    assert index == read_manifest(out).document["bundled"]
    for name, block in index.items():
        assert block["order"] == placement.blocks[name].order.tolist()
        assert [part["role"] for part in block["gates"]["components"]] == ["gate"]
        assert [part["role"] for part in block["components"]] == ["up", "down"]
        for region in (block["gates"], block):
            assert region["offset_bytes"] % 4096 == 0
            for slot, neuron in enumerate(block["order"]):
                for part in region["components"]:
                    first = region["offset_bytes"] + slot * region["stride_bytes"] + part["offset_bytes"]
                    expected = vector(weights, part["tensor"], part["role"], neuron)
                    assert data[first : first + part["length_bytes"]] == expected


@pytest.mark.parametrize("stride", ["packed", "page"])
def test_read_by_index(pico_llama: Path, tmp_path: Path, stride: str) -> None:
    """Gates one behind the other, whatever the stride of the rest; the stock reader sees them by neuron."""
    placement = rewrite(pico_llama, tmp_path / "out", stride=stride)
    weights = weights_of(pico_llama)
    assert_apart(tmp_path / "out", weights, placement)
    stored = load_file(tmp_path / "out" / BUNDLED_FILE)
    order = placement.blocks["layers.1"].order
    np.testing.assert_array_equal(
        stored["layers.1.gates"], weights["model.layers.1.mlp.gate_proj.weight"][order], strict=True
    )
    if stride == "packed":
        assert stored["layers.1.bundles"].shape == (24, 2, 8)
        np.testing.assert_array_equal(
            stored["layers.1.bundles"][:, 0], weights["model.layers.1.mlp.up_proj.weight"][order]
        )
    else:
        assert stored["layers.1.bundles"].shape == (24, 4096)
    names = [name for name in TensorFile.open(tmp_path / "out" / BUNDLED_FILE).tensors if name.startswith("layers.0")]
    padding = ["layers.0.padding"] if stride == "packed" else []
    assert names == ["layers.0.gates", "layers.0.padding_gates", "layers.0.bundles", *padding]
    assert not stored["layers.0.padding_gates"].any()


def test_what_the_manifest_says(pico_llama: Path, tmp_path: Path) -> None:
    """Where gates lie and where the rest does, and that they do; nothing of it where they do not."""
    rewrite(pico_llama, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    index = manifest.document["bundled"]["layers.1"]
    block = manifest.blocks["layers.1"]
    assert manifest.document["gates"] == "apart"
    assert block.gates == {"offset_bytes": index["gates"]["offset_bytes"], "stride_bytes": 16}
    assert (block.bundle_bytes, block.stride_bytes) == (48, 32)
    assert block.offset_bytes == index["offset_bytes"] == block.gates["offset_bytes"] + 4096
    model = describe_ffn(Checkpoint.open(pico_llama))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "inside"))
    inside = read_manifest(tmp_path / "inside")
    assert "gates" not in inside.document
    assert inside.blocks["layers.1"].gates is None


def test_all_but_the_bundled_file_is_as_ever(pico_llama: Path, tmp_path: Path) -> None:
    """Shards, side files and placement do not know of it."""
    rewrite(pico_llama, tmp_path / "apart")
    model = describe_ffn(Checkpoint.open(pico_llama))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "inside"))
    apart, inside = contents(tmp_path / "apart"), contents(tmp_path / "inside")
    assert apart.keys() == inside.keys()
    assert {name for name in apart if apart[name] != inside[name]} == {BUNDLED_FILE, MANIFEST_FILE}


@pytest.mark.parametrize("formats", [("drop-in", "bundled"), ("bundled",)])
@pytest.mark.parametrize("stride", ["packed", "page"])
def test_proved_and_given_back(pico_llama: Path, tmp_path: Path, stride: str, formats: tuple[str, ...]) -> None:
    """Components, padding, and what FFNs compute from the bundled file alone; the original comes back from shards."""
    rewrite(pico_llama, tmp_path / "out", stride=stride, formats=formats)
    checks = verify(pico_llama, tmp_path / "out").checks
    assert checks["bundled components equal the source's, read at the index's offsets"] == 6
    assert checks["FFN blocks compute the same on random input, in float64"] == 2
    if "drop-in" in formats:
        restore(tmp_path / "out", tmp_path / "back")
        assert contents(tmp_path / "back") == contents(pico_llama)


def test_one_flipped_bit_is_found(pico_llama: Path, tmp_path: Path) -> None:
    """In gates, in the rest, in the padding of either and behind a bundle, also if the manifest agrees with it."""
    out = tmp_path / "out"
    rewrite(pico_llama, out, stride="page")
    path, sound = out / BUNDLED_FILE, (out / BUNDLED_FILE).read_bytes()
    tensors = TensorFile.open(path).tensors
    rng = np.random.default_rng(0)
    for name in ("layers.0.gates", "layers.1.padding_gates", "layers.1.bundles"):
        extent = tensors[name]
        for place in rng.integers(extent.length_bytes, size=4).tolist():
            changed = bytearray(sound)
            changed[extent.offset_bytes + place] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed)
            with pytest.raises(VerificationError, match="SHA-256"):
                verify(pico_llama, out)
            adjust_manifest(out)
            with pytest.raises(VerificationError, match=r"other weights for neuron|padding that holds something"):
                verify(pico_llama, out)
    path.write_bytes(sound)
    adjust_manifest(out)
    verify(pico_llama, out)


def test_swapped_gates_are_found(pico_llama: Path, tmp_path: Path) -> None:
    """Two gates in each other's slot: every neuron's own is asked for."""
    out = tmp_path / "out"
    rewrite(pico_llama, out)
    data = bytearray((out / BUNDLED_FILE).read_bytes())
    begin = TensorFile.open(out / BUNDLED_FILE).tensors["layers.0.gates"].offset_bytes
    data[begin : begin + 16], data[begin + 16 : begin + 32] = data[begin + 16 : begin + 32], data[begin : begin + 16]
    (out / BUNDLED_FILE).write_bytes(data)
    adjust_manifest(out)
    with pytest.raises(
        VerificationError, match=r"layers.0 \(gates\), model.layers.0.mlp.gate_proj.weight: found other"
    ):
        verify(pico_llama, out)


def test_a_manifest_that_claims_otherwise(pico_llama: Path, tmp_path: Path) -> None:
    """That gates lie inside where they lie apart, and the other way round; or in another place."""
    rewrite(pico_llama, tmp_path / "apart")
    document = json.loads((tmp_path / "apart" / MANIFEST_FILE).read_text())
    moved = {
        name: {**block, "gates": {"offset_bytes": 0, "stride_bytes": 16}} for name, block in document["blocks"].items()
    }
    adjust_manifest(tmp_path / "apart", blocks=moved)
    with pytest.raises(VerificationError, match="json: blocks"):
        verify(pico_llama, tmp_path / "apart")
    model = describe_ffn(Checkpoint.open(pico_llama))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "inside", formats=("drop-in",)))
    text = json.loads((tmp_path / "inside" / MANIFEST_FILE).read_text())
    claimed = {}
    for key, value in text.items():
        claimed |= {"gates": "apart"} if key == "checks" else {}
        claimed[key] = value
    (tmp_path / "inside" / MANIFEST_FILE).write_text(format_manifest(rehashed(claimed)))
    with pytest.raises(VerificationError, match="json: gates"):
        verify(pico_llama, tmp_path / "inside")


def rehashed(document: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest with the hash that its contents have."""
    covered = {key: value for key, value in document.items() if key != "manifest_sha256"}
    return covered | {"manifest_sha256": hashlib.sha256(format_manifest(covered).encode()).hexdigest()}


def test_gates_of_another_dtype(tmp_path: Path) -> None:
    """Gates of four bytes a weight beside ups and downs of two: each region has its own dtype."""
    tensors = llama_tensors()
    for layer in range(2):
        name = f"model.layers.{layer}.mlp.gate_proj.weight"
        tensors[name] = tensors[name].astype(np.float32)
    source = write_checkpoint(tmp_path / "m", tensors, llama_config())
    placement = rewrite(source, tmp_path / "out")
    assert_apart(tmp_path / "out", tensors, placement)
    stored = load_file(tmp_path / "out" / BUNDLED_FILE)
    assert stored["layers.0.gates"].dtype == np.float32
    assert stored["layers.0.bundles"].dtype == np.float16
    verify(source, tmp_path / "out")


def test_fused_gate_and_up(tmp_path: Path) -> None:
    """Where one tensor has gates and ups (Phi-3), they part all the same."""
    tensors = llama_tensors()
    for layer in range(2):
        module = f"model.layers.{layer}.mlp."
        parts = [tensors.pop(f"{module}{role}_proj.weight") for role in ("gate", "up")]
        tensors[f"{module}gate_up_proj.weight"] = np.concatenate(parts)
    source = write_checkpoint(tmp_path / "m", tensors, llama_config() | {"model_type": "phi3"})
    placement = rewrite(source, tmp_path / "out")
    order = placement.blocks["layers.0"].order
    stored = load_file(tmp_path / "out" / BUNDLED_FILE)
    np.testing.assert_array_equal(
        stored["layers.0.gates"], tensors["model.layers.0.mlp.gate_up_proj.weight"][:24][order]
    )
    verify(source, tmp_path / "out")


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 300), st.integers(1, 600), st.sampled_from(["packed", "page"]))
def test_regions_follow_each_other_on_pages(
    tmp_path_factory: pytest.TempPathFactory, n_neurons: int, hidden: int, stride: str
) -> None:
    """Of any size: regions do not overlap, begin on pages, and no page is left between them."""
    source = tmp_path_factory.mktemp("m") / "m"
    tensors = llama_tensors(n_neurons=n_neurons, hidden=hidden, n_layers=1, vocab=1)
    model = describe_ffn(
        Checkpoint.open(write_checkpoint(source, tensors, llama_config(n_neurons=n_neurons, n_layers=1)))
    )
    placement = random_placement(model)
    layout = plan_bundle(model, resolve_orders(model, placement), stride, {}, "apart")
    block = layout.index["layers.0"]
    gates_end = block["gates"]["offset_bytes"] + n_neurons * 2 * hidden
    assert block["gates"]["offset_bytes"] == layout.header_bytes
    assert block["offset_bytes"] == gates_end + -gates_end % 4096
    expected = 4 * hidden if stride == "packed" else 4 * hidden + -4 * hidden % 4096
    assert (block["gates"]["stride_bytes"], block["stride_bytes"]) == (2 * hidden, expected)


def test_what_cannot_lie_apart(pico_opt: Path, pico_llama: Path, tmp_path: Path) -> None:
    """No gates, columns, two copies, no bundled file, and a place that is none."""
    opt, llama = (describe_ffn(Checkpoint.open(path)) for path in (pico_opt, pico_llama))
    columns = llama.of_unit("column")
    twice = random_placement(llama, copies=("layers.0",))
    for model, placement, found in (
        (opt, random_placement(opt), "FFNs without a gate"), (columns, random_placement(columns), "columns"),
        (llama, twice, "two copies"),
    ):  # fmt: skip
        with pytest.raises(UnsupportedError, match=found):
            plan_rewrite(model, placement, tmp_path / "out", gates="apart")
    with pytest.raises(UsageError, match="no bundled file"):
        plan_rewrite(llama, random_placement(llama), tmp_path / "out", gates="apart", formats=("drop-in",))
    with pytest.raises(UsageError, match="inside or apart"):
        plan_rewrite(llama, random_placement(llama), tmp_path / "out", gates="outside")
