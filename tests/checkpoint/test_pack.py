"""Packs of experts: every byte where the index says, whatever the family; damage is found, and kills are survived."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
from safetensors.numpy import load_file

from ripple_place.checkpoint import pack
from ripple_place.checkpoint.fileio import CHUNK_BYTES
from ripple_place.checkpoint.model.experts import open_experts
from ripple_place.checkpoint.names import BUNDLED_FILE, MANIFEST_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output import expert_bundle
from ripple_place.checkpoint.output.expert_plan import plan_pack
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.pack import execute_pack, needed_pack_bytes
from ripple_place.checkpoint.proof import expert_numbers
from ripple_place.checkpoint.proof import experts as proof
from ripple_place.checkpoint.proof.experts import verify_experts
from ripple_place.checkpoint.restore import restore
from ripple_place.errors import CheckpointError, PlacementError, UnsupportedError, UsageError, VerificationError
from ripple_place.placement import ModelPlacement, NeuronPlacement, write_placement
from tests.builders import adjust_manifest, contents
from tests.expert_builders import (
    N_EXPERTS,
    dbrx,
    deepseek_v3,
    expected_parts,
    expert_placement,
    gguf_mixture,
    gpt_oss,
    llama4,
    qwen3_moe,
    read_pack,
    stored_arrays,
)
from tests.failing_call import FailingCall

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[[Path], Path]

MIXTURES: dict[str, Make] = {
    "qwen3_moe": qwen3_moe, "deepseek_v3": deepseek_v3, "gpt_oss": gpt_oss, "dbrx": dbrx, "llama4": llama4,
    "mixture.gguf": gguf_mixture,
}  # fmt: skip


@pytest.fixture(params=MIXTURES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a mixture of each family in turn."""
    return MIXTURES[request.param](tmp_path / request.param)


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """Return a Qwen3-MoE in three shards."""
    return qwen3_moe(tmp_path / "qwen")


def packed(source: Path, out: Path, seed: int = 0, **options: Any) -> Path:
    """Pack a mixture with the experts of each layer in random order."""
    model = open_experts(source)
    execute_pack(plan_pack(model, expert_placement(model, seed), out, **options))
    return out


def test_every_byte_of_every_expert(source: Path, tmp_path: Path) -> None:
    """An independent reader finds each expert's slices of all its tensors at the offsets of the index."""
    out = packed(source, tmp_path / "out")
    for block in open_experts(source).blocks:
        assert read_pack(out, block) == expected_parts(source, block)
    assert verify_experts(source, out).checks["experts equal the source's, read at the index's offsets"] > 0


def test_the_rest_in_the_stock_reader(source: Path, tmp_path: Path) -> None:
    """Whatever is of no expert lies under its own name, unless it stays in a GGUF file; experts are rows of bytes."""
    out = packed(source, tmp_path / "out")
    stored, model = load_file(out / BUNDLED_FILE), open_experts(source)
    for name, block in model.blocks.items():
        assert stored.pop(f"{name}.bundles").shape == (N_EXPERTS, block.stride_bytes)
    arrays = stored_arrays(source)
    of_experts = {name for name in arrays if ".experts." in name or "_exps" in name}
    assert stored.keys() == (set() if source.suffix == ".gguf" else arrays.keys() - of_experts)
    for name, tensor in stored.items():
        np.testing.assert_array_equal(tensor, arrays[name], strict=True)


def test_what_lies_in_an_output(source: Path, tmp_path: Path) -> None:
    """The checkpoint as it was, copied, and what is ours; of a GGUF file what is ours alone, and its hash."""
    out, is_gguf = packed(source, tmp_path / "out"), source.suffix == ".gguf"
    ours = {BUNDLED_FILE, PLACEMENT_FILE, MANIFEST_FILE}
    found = contents(out)
    assert ours <= found.keys()
    assert {name: data for name, data in found.items() if name not in ours} == ({} if is_gguf else contents(source))
    document = read_manifest(out).document
    assert document["unit"] == "expert"
    assert document["formats"] == (["bundled"] if is_gguf else ["drop-in", "bundled"])
    assert set(document["tensors"].values()) == {"copied"}
    assert document["bundled"] == json.loads(load_metadata(out)["index"])
    for block in document["blocks"].values():
        assert block["n_neurons"] == N_EXPERTS
        assert block["bundle_bytes"] <= block["stride_bytes"] < block["bundle_bytes"] + 4096


def load_metadata(out: Path) -> dict[str, str]:
    """Return the metadata of a pack."""
    from safetensors import safe_open

    with safe_open(out / BUNDLED_FILE, "numpy") as file:
        return dict(file.metadata())


def test_parts_in_order(qwen: Path, tmp_path: Path) -> None:
    """Gate, up, down, whatever their order in the source, each with what belongs to it behind its weights."""
    roles = {
        name: [part.role for part in next(iter(open_experts(make(tmp_path / f"of-{name}")).blocks.values())).parts]
        for name, make in MIXTURES.items()
    }
    assert roles == {
        "qwen3_moe": ["gate", "up", "down"],
        "deepseek_v3": [
            "gate", "gate.weight_scale_inv", "up", "up.weight_scale_inv", "down", "down.weight_scale_inv"
        ],
        "gpt_oss": ["gate_up.blocks", "gate_up.bias", "gate_up.scales", "down.blocks", "down.bias", "down.scales"],
        "dbrx": ["gate", "up", "down"],
        "llama4": ["gate_up", "down"],
        "mixture.gguf": ["gate", "up", "up.bias", "down"],
    }  # fmt: skip
    # gate 768 bytes, up 768, down 768: multiples of 64 by themselves; then to the next page.
    block = open_experts(qwen).blocks["layers.0"]
    assert (block.part_offsets, block.bundle_bytes, block.stride_bytes) == ((0, 768, 1536), 2304, 4096)


def test_parts_start_on_lines(tmp_path: Path) -> None:
    """Weights of 384 bytes and scales of 4: each part begins on a multiple of 64."""
    block = open_experts(deepseek_v3(tmp_path / "m")).blocks["layers.1"]
    assert block.part_offsets == (0, 384, 448, 832, 896, 1280)
    assert block.bundle_bytes == 1284


def test_bundled_alone(qwen: Path, tmp_path: Path) -> None:
    """The copies of the shards may be left out; config and tokenizer stay."""
    out = packed(qwen, tmp_path / "out", formats=("bundled",))
    assert not list(out.glob("*.safetensors*"))
    assert (out / "config.json").read_bytes() == (qwen / "config.json").read_bytes()
    verify_experts(qwen, out)
    with pytest.raises(UnsupportedError, match=r"the bundled format alone.*Restore from an output of --format drop-in"):
        restore(out, tmp_path / "back")


def test_restored(source: Path, tmp_path: Path) -> None:
    """The files beside the pack are the original; a GGUF file was never moved, and the error says so."""
    out = packed(source, tmp_path / "out")
    if source.suffix == ".gguf":
        with pytest.raises(UnsupportedError, match="Use the GGUF file itself"):
            restore(out, tmp_path / "back")
        return
    restore(out, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)


@pytest.mark.parametrize("make", [qwen3_moe, gpt_oss, gguf_mixture])
def test_one_flipped_bit(make: Make, tmp_path: Path) -> None:
    """In any expert, in padding, or in the header: the hash finds it, and so do the bytes where the hash is forged."""
    source = make(tmp_path / "m.gguf")
    out, rng = packed(source, tmp_path / "out"), np.random.default_rng(0)
    path = out / BUNDLED_FILE
    data, document = path.read_bytes(), read_manifest(out).document
    places = [9, len(data) - 1]
    for name, block in document["blocks"].items():
        for slot in range(N_EXPERTS):
            places.append(
                block["offset_bytes"] + slot * block["stride_bytes"] + int(rng.integers(block["bundle_bytes"]))
            )
        last = document["bundled"][name]
        places.append(last["offset_bytes"] + last["stride_bytes"] - 1 if block["bundle_bytes"] % 4096 else 9)
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(VerificationError, match="SHA-256"):
            verify_experts(source, out)
        with patch.object(proof, "check_recorded", lambda *_: None), pytest.raises(VerificationError):
            verify_experts(source, out)
    path.write_bytes(data)
    verify_experts(source, out)


def test_a_swapped_pair(qwen: Path, tmp_path: Path) -> None:
    """Two experts that changed places, and a manifest made to agree with the file: the index tells another story."""
    out = packed(qwen, tmp_path / "out")
    place = read_manifest(out).document["bundled"]["layers.1"]
    data = bytearray((out / BUNDLED_FILE).read_bytes())
    begin, stride = place["offset_bytes"], place["stride_bytes"]
    first, second = data[begin : begin + stride], data[begin + stride : begin + 2 * stride]
    data[begin : begin + 2 * stride] = second + first
    (out / BUNDLED_FILE).write_bytes(data)
    with patch.object(proof, "check_recorded", lambda *_: None), pytest.raises(VerificationError, match="expert"):
        verify_experts(qwen, out)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("unit", "column", "manifest.json: unit"),
        ("family", "llama", "manifest.json: family"),
        ("stride", "packed", "manifest.json: stride"),
        ("formats", ["bundled"], "manifest.json: formats"),
    ],
)
def test_a_manifest_that_says_something_else(
    qwen: Path, tmp_path: Path, key: str, value: object, match: str
) -> None:  # fmt: skip
    """What a manifest says must follow from the source, though its hash holds."""
    out = packed(qwen, tmp_path / "out")
    adjust_manifest(out, **{key: value})
    with pytest.raises(VerificationError, match=match):
        verify_experts(qwen, out)


def test_added_missing_and_changed_files(qwen: Path, tmp_path: Path) -> None:
    """Nothing may come or go beside a pack, and the source must be the one it was made from."""
    out = packed(qwen, tmp_path / "out")
    (out / "modeling_x.py").write_text("pass")
    with pytest.raises(VerificationError, match="modeling_x"):
        verify_experts(qwen, out)
    (out / "modeling_x.py").unlink()
    (out / "tokenizer.json").rename(tmp_path / "kept")
    with pytest.raises(VerificationError, match=r"tokenizer\.json"):
        verify_experts(qwen, out)
    (tmp_path / "kept").rename(out / "tokenizer.json")
    verify_experts(qwen, out)
    (qwen / "config.json").write_text((qwen / "config.json").read_text() + " ")
    with pytest.raises(VerificationError, match="Give the checkpoint from which the output was made, unchanged"):
        verify_experts(qwen, out)


def test_a_placement_of_neurons(qwen: Path, tmp_path: Path) -> None:
    """A placement of another unit is none of a pack, though it has blocks of the same names and sizes."""
    out = packed(qwen, tmp_path / "out")
    model = open_experts(qwen)
    placement = expert_placement(model)
    write_placement(out / PLACEMENT_FILE, ModelPlacement(placement.blocks, {"ordering": "random"}))
    with patch.object(proof, "check_recorded", lambda *_: None), pytest.raises(VerificationError, match="of neurons"):
        verify_experts(qwen, out)


def test_a_placement_of_another_model(qwen: Path, tmp_path: Path) -> None:
    """Refused before anything is written."""
    blocks = {"layers.1": NeuronPlacement(np.arange(5))}
    with pytest.raises(PlacementError, match=r"layers\.1: found 5 experts; expected 6"):
        plan_pack(open_experts(qwen), ModelPlacement(blocks, {"unit": "expert"}), tmp_path / "out")


def test_formats_without_a_pack(qwen: Path, tmp_path: Path) -> None:
    """A copy of the checkpoint alone is no pack."""
    model = open_experts(qwen)
    with pytest.raises(UsageError, match="which moves no expert"):
        plan_pack(model, expert_placement(model), tmp_path / "out", formats=("drop-in",))


@pytest.mark.parametrize("make", [qwen3_moe, gguf_mixture])
@pytest.mark.parametrize("call", ["write", "seal"])
def test_resumed(make: Make, tmp_path: Path, call: str) -> None:
    """What a run that was interrupted has finished is kept, and the same bytes come of it."""
    source = make(tmp_path / "m.gguf")
    packed(source, tmp_path / "expected")
    stop = FailingCall(lambda *_, **__: None, 1, KeyboardInterrupt())
    name = {"write": "copy_file" if source.is_dir() else "seal_pack", "seal": "seal_pack"}[call]
    with patch.object(pack, name, stop), pytest.raises(KeyboardInterrupt):
        packed(source, tmp_path / "out")
    assert (tmp_path / "out.partial" / BUNDLED_FILE).is_file()
    model = open_experts(source)
    again = FailingCall(expert_bundle.write_expert_bundle, 1, AssertionError("written again"))
    with patch.object(pack, "write_expert_bundle", again):
        execute_pack(plan_pack(model, expert_placement(model), tmp_path / "out"), resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


def test_another_order_is_not_continued(qwen: Path, tmp_path: Path) -> None:
    """An interrupted run with other orders is no beginning of this one."""
    stop = FailingCall(lambda *_, **__: None, 1, KeyboardInterrupt())
    with patch.object(pack, "seal_pack", stop), pytest.raises(KeyboardInterrupt):
        packed(qwen, tmp_path / "out")
    model = open_experts(qwen)
    with pytest.raises(UsageError, match="another order"):
        execute_pack(plan_pack(model, expert_placement(model, seed=1), tmp_path / "out"), resume=True)


def test_a_source_that_shrinks(qwen: Path, tmp_path: Path) -> None:
    """A shard that was cut since its header was read is an error, and leaves nothing."""
    model = open_experts(qwen)
    plan = plan_pack(model, expert_placement(model), tmp_path / "out")
    shard = qwen / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="the file's end"):
        execute_pack(plan)
    assert not list(tmp_path.glob("out*"))


def test_replaced_only_by_force(qwen: Path, tmp_path: Path) -> None:
    """An output is no place for another one without --force."""
    out = packed(qwen, tmp_path / "out")
    with pytest.raises(UsageError, match="--force"):
        packed(qwen, out, seed=1)
    before = contents(out)
    packed(qwen, out, seed=1, force=True)
    assert contents(out)[BUNDLED_FILE] != before[BUNDLED_FILE]
    verify_experts(qwen, out)


def test_progress_and_space(source: Path, tmp_path: Path) -> None:
    """Progress ends where the plan says, and the space that was asked for was enough."""
    model = open_experts(source)
    plan = plan_pack(model, expert_placement(model), tmp_path / "out")
    steps: list[int] = []
    execute_pack(plan, progress=steps.append)
    assert sum(steps) == plan.total_bytes
    assert sum(map(len, contents(tmp_path / "out").values())) <= needed_pack_bytes(plan)


def test_a_moved_output(qwen: Path, tmp_path: Path) -> None:
    """Nothing in an output depends on where it lies."""
    out = packed(qwen, tmp_path / "out")
    shutil.copytree(out, tmp_path / "elsewhere" / "copy")
    shutil.rmtree(out)
    verify_experts(qwen, tmp_path / "elsewhere" / "copy")


def test_gathered(tmp_path: Path) -> None:
    """An expert axis that does not come first: every expert's values are collected, and a note says so."""
    rng = np.random.default_rng(0)
    smooth = rng.standard_normal((40, N_EXPERTS, 3)).astype(np.float32)
    source = llama4(tmp_path / "m", down_proj_smooth=smooth, down_proj_input_scale=np.ones(1, np.float32))
    model = open_experts(source)
    assert "down_proj_smooth have an expert's weights apart: they are gathered" in model.notes[0]
    assert "down_proj_input_scale are of no one expert" in model.notes[1]
    for chunk_bytes in (64, 8 << 20):
        out = tmp_path / f"out-{chunk_bytes}"
        with (
            patch.object(expert_bundle, "CHUNK_BYTES", chunk_bytes),
            patch.object(expert_numbers, "CHUNK_BYTES", chunk_bytes),
        ):
            packed(source, out)
        name = "model.layers.0.feed_forward.experts.down_proj_smooth"
        found = [expert[name] for expert in read_pack(out, "layers.0")]
        assert found == [np.ascontiguousarray(smooth[:, expert]).tobytes() for expert in range(N_EXPERTS)]
    data = bytearray((out / BUNDLED_FILE).read_bytes())
    place = data.index(smooth[:, 0].tobytes())
    data[place + 12] ^= 1
    (out / BUNDLED_FILE).write_bytes(data)
    with patch.object(proof, "check_recorded", lambda *_: None), pytest.raises(VerificationError, match="smooth"):
        verify_experts(source, out)


def test_memory_does_not_grow_with_layers(tmp_path: Path) -> None:
    """Bytes go through chunks: what is allocated does not depend on how large experts and layers are."""
    import tracemalloc

    peaks = []
    for width in (256, 4096):
        source = qwen3_moe(tmp_path / f"of-{width}", 1, width=width, hidden=256)
        model = open_experts(source)
        plan = plan_pack(model, expert_placement(model), tmp_path / f"out-{width}")
        tracemalloc.start()
        execute_pack(plan)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    layer_bytes = 3 * N_EXPERTS * 2 * 4096 * 256
    assert peaks[1] < 4 * CHUNK_BYTES < layer_bytes, peaks


def test_the_reader_in_the_documentation(tmp_path: Path) -> None:
    """The function that docs/formats.md shows returns an expert's parts."""
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(next(block for block in blocks if "def read_expert" in block), names)
    source = gpt_oss(tmp_path / "m")
    out = packed(source, tmp_path / "out")
    found = names["read_expert"](out / BUNDLED_FILE, "layers.1", 3)
    assert list(found) == [part.role for part in open_experts(source).blocks["layers.1"].parts]
    assert sorted(found.values()) == sorted(expected_parts(source, "layers.1")[3].values())
