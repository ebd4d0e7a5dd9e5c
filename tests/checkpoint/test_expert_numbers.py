"""Experts numbered by their place on storage: every tensor is the source's through the permutation, routers too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint import pack
from ripple_place.checkpoint.model.experts import describe_experts, open_experts
from ripple_place.checkpoint.model.family import Family
from ripple_place.checkpoint.model.routers import grouped_order, groups_apart
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import BUNDLED_FILE
from ripple_place.checkpoint.output.expert_numbers import BY_SLOT, NUMBERING
from ripple_place.checkpoint.output.expert_plan import plan_pack
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.pack import execute_pack
from ripple_place.checkpoint.proof import experts as proof
from ripple_place.checkpoint.proof.experts import verify_experts
from ripple_place.checkpoint.restore import restore
from ripple_place.errors import CheckpointError, PlacementError, UnsupportedError, UsageError, VerificationError
from ripple_place.placement import ModelPlacement, NeuronPlacement
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

    from ripple_place.checkpoint.output.expert_plan import PackPlan

    Make = Callable[[Path], Path]

RNG = np.random.default_rng(7)
ROUTER = {"router.weight": RNG.integers(0, 2**16, (N_EXPERTS, 16), dtype=np.uint16)}


def with_tensors(source: Path, more: dict[str, np.ndarray]) -> Path:
    """Add tensors to a checkpoint of one file."""
    file = source / "model.safetensors"
    save_file(load_file(file) | more, file)
    return source


def dbrx_with_router(path: Path) -> Path:
    """Write a DBRX with its router."""
    return with_tensors(dbrx(path), {"transformer.blocks.0.ffn.router.layer.weight": ROUTER["router.weight"]})


def llama4_with_router(path: Path) -> Path:
    """Write a Llama 4 with its router, and a tensor of every expert whose axis of experts is its second."""
    smooth = RNG.integers(0, 2**16, (16, N_EXPERTS, 2), dtype=np.uint16)
    router = {"model.layers.0.feed_forward.router.weight": ROUTER["router.weight"]}
    return with_tensors(llama4(path, down_proj_smooth=smooth), router)


MIXTURES: dict[str, Make] = {
    "qwen3_moe": qwen3_moe, "deepseek_v3": deepseek_v3, "gpt_oss": gpt_oss, "dbrx": dbrx_with_router,
    "llama4": llama4_with_router,
}  # fmt: skip


@pytest.fixture(params=MIXTURES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a mixture of each family in turn."""
    return MIXTURES[request.param](tmp_path / request.param)


@pytest.fixture
def deepseek(tmp_path: Path) -> Path:
    """Return a DeepSeek-V3."""
    return deepseek_v3(tmp_path / "deepseek")


def renumbering(placement: ModelPlacement) -> ModelPlacement:
    """Return a placement whose experts get the numbers of their slots."""
    return replace(placement, metadata={**placement.metadata, NUMBERING: BY_SLOT})


def planned(source: Path, out: Path, seed: int = 0, **options: Any) -> PackPlan:
    """Return the plan of an output with the experts of each layer in random order, and numbered so."""
    model = open_experts(source)
    return plan_pack(model, renumbering(expert_placement(model, seed)), out, **options)


def renumbered(source: Path, out: Path, seed: int = 0, **options: Any) -> Path:
    """Write such an output."""
    execute_pack(planned(source, out, seed, **options))
    return out


def permuted(arrays: dict[str, np.ndarray], orders: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a checkpoint with renumbered experts, from their names and shapes alone."""
    found = {}
    for name, array in arrays.items():
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        order = orders.get(f"layers.{numbers[0]}") if numbers else None
        head, _, rest = name.partition(".experts.")
        if order is None or "shared_expert" in name:
            found[name] = array
        elif rest.partition(".")[0].isdigit():
            slot, _, tail = rest.partition(".")
            found[name] = arrays[f"{head}.experts.{order[int(slot)]}.{tail}"]
        elif name.endswith("_smooth"):
            found[name] = array[:, order]
        elif rest or ".gate." in name or ".router." in name:
            found[name] = array.reshape(N_EXPERTS, -1)[order].reshape(array.shape)
        else:
            found[name] = array
    return found


def orders_in(out: Path, source: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Return ``order[slot]`` of each layer, as `renumbered` has it."""
    return {name: block.order for name, block in expert_placement(open_experts(source), seed).blocks.items()}


def test_every_tensor_through_the_permutation(source: Path, tmp_path: Path) -> None:
    """The stock reader finds each expert, and its rows of the router, under its new number; all else is as it was."""
    out = renumbered(source, tmp_path / "out")
    before, after = stored_arrays(source), stored_arrays(out)
    expected = permuted(before, orders_in(out, source))
    assert after.keys() == before.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(after[name], array, strict=True)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert any("experts" in name for name in moved)
    assert any(".gate." in name or ".router." in name for name in moved)
    document = read_manifest(out).document
    assert document["numbering"] == "slots"
    actions = document["tensors"]
    assert moved <= {name for name, action in actions.items() if action == "experts"}
    assert {name for name, action in actions.items() if action == "copied"} <= before.keys() - moved
    for shard in source.glob("*.safetensors"):
        with safe_open(shard, "numpy") as one, safe_open(out / shard.name, "numpy") as other:
            assert set(one.keys()) == set(other.keys())


def test_the_pack_agrees_with_the_shards(source: Path, tmp_path: Path) -> None:
    """Expert i of the pack is expert i of the shards beside it, and lies in slot i; so do the router's rows."""
    out = renumbered(source, tmp_path / "out")
    for name in open_experts(source).blocks:
        place = read_manifest(out).document["bundled"][name]
        assert place["order"] == list(range(N_EXPERTS))
        beside, packed = expected_parts(out, name), read_pack(out, name)
        for mine, theirs in zip(packed, beside, strict=True):
            assert mine.items() >= {key: value for key, value in theirs.items() if "_smooth" not in key}.items()
    stored, arrays = load_file(out / BUNDLED_FILE), stored_arrays(out)
    for name in stored.keys() & arrays.keys():
        np.testing.assert_array_equal(stored[name], arrays[name], strict=True)


@pytest.mark.parametrize("formats", [["drop-in"], ["bundled"], ["drop-in", "bundled"]], ids="+".join)
def test_verified_in_each_format(source: Path, tmp_path: Path, formats: list[str]) -> None:
    """What was compared is counted; each format can stand alone."""
    out = renumbered(source, tmp_path / "out", formats=formats)
    report = verify_experts(source, out)
    assert ("renumbered experts equal the source's, in the shards" in report.checks) == ("drop-in" in formats)
    assert (out / BUNDLED_FILE).exists() == ("bundled" in formats)
    assert 0 < report.n_permuted < report.n_permuted + report.n_untouched
    assert read_manifest(out).document["formats"] == formats


def test_restored(source: Path, tmp_path: Path) -> None:
    """The original comes back byte for byte from what is there."""
    out = renumbered(source, tmp_path / "out", formats=["drop-in"])
    restore(out, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)


def test_some_layers(tmp_path: Path) -> None:
    """A layer without an order keeps its numbers."""
    source, out = qwen3_moe(tmp_path / "m"), tmp_path / "out"
    model = open_experts(source)
    blocks = {"layers.1": NeuronPlacement(np.array([5, 4, 3, 2, 1, 0]))}
    placement = ModelPlacement(blocks, {"unit": "expert", NUMBERING: BY_SLOT})
    execute_pack(plan_pack(model, placement, out))
    before, after = stored_arrays(source), stored_arrays(out)
    for name, array in before.items():
        assert np.array_equal(array, after[name]) == ("layers.1.mlp" not in name), name
    assert verify_experts(source, out).n_permuted == 3 * N_EXPERTS + 1


def test_one_flipped_bit(source: Path, tmp_path: Path) -> None:
    """Wherever it is in a shard: the hash finds it, and the bytes do where the hash is forged."""
    out = renumbered(source, tmp_path / "out", formats=["drop-in"])
    rng = np.random.default_rng(0)
    for shard in sorted(out.glob("*.safetensors")):
        data = shard.read_bytes()
        for place in [9, len(data) - 1, *rng.integers(len(data), size=12).tolist()]:
            damaged = bytearray(data)
            damaged[place] ^= 1 << int(rng.integers(8))
            shard.write_bytes(damaged)
            with pytest.raises(VerificationError, match="SHA-256"):
                verify_experts(source, out)
            with patch.object(proof, "check_recorded", lambda *_: None), pytest.raises(VerificationError):
                verify_experts(source, out)
        shard.write_bytes(data)
    verify_experts(source, out)


@pytest.mark.parametrize("tensor", ["gate.weight", "gate.e_score_correction_bias", "experts.2.up_proj.weight"])
def test_a_tensor_left_behind(deepseek: Path, tmp_path: Path, tensor: str) -> None:
    """A router's weight, its bias, or an expert's tensor as in the source, and hashes that agree: found."""
    out = renumbered(deepseek, tmp_path / "out", formats=["drop-in"])
    extent = Checkpoint.open(deepseek).extent(f"model.layers.1.mlp.{tensor}")
    original, written = (folder / "model.safetensors" for folder in (deepseek, out))
    data, part = bytearray(written.read_bytes()), slice(extent.offset_bytes, extent.offset_bytes + extent.length_bytes)
    assert data[part] != original.read_bytes()[part]
    data[part] = original.read_bytes()[part]
    written.write_bytes(data)
    adjust_manifest(out)
    with pytest.raises(VerificationError, match=r"other bytes under number"):
        verify_experts(deepseek, out)


def test_routers_in_the_pack_alone(deepseek: Path, tmp_path: Path) -> None:
    """The same of the router in a pack without shards."""
    out = renumbered(deepseek, tmp_path / "out", formats=["bundled"])
    path, data = out / BUNDLED_FILE, bytearray((out / BUNDLED_FILE).read_bytes())
    name = "model.layers.1.mlp.gate.weight"
    rows, source = load_file(path)[name].tobytes(), stored_arrays(deepseek)[name].tobytes()
    assert rows != source
    begin = data.index(rows)
    data[begin : begin + len(rows)] = source
    path.write_bytes(data)
    adjust_manifest(out)
    with pytest.raises(VerificationError, match=r"gate\.weight, expert"):
        verify_experts(deepseek, out)


@pytest.mark.parametrize(("key", "value"), [("numbering", None), ("tensors", "copied")])
def test_a_manifest_that_hides_it(deepseek: Path, tmp_path: Path, key: str, value: str | None) -> None:
    """The placement says that experts are renumbered, and the manifest does not: refused."""
    out = renumbered(deepseek, tmp_path / "out")
    document = dict(read_manifest(out).document)
    if value is None:
        del document[key]
        with patch("tests.builders.read_manifest", lambda _: replace(read_manifest(out), document=document)):
            adjust_manifest(out)
    else:
        adjust_manifest(out, **{key: dict.fromkeys(document["tensors"], value)})
    with pytest.raises(VerificationError, match=f"manifest.json: {key}"):
        verify_experts(deepseek, out)


def test_the_source_is_refused_as_another_model(deepseek: Path, tmp_path: Path) -> None:
    """An output does not pass for one whose experts kept their numbers, nor for one of another order."""
    out, other = renumbered(deepseek, tmp_path / "out"), renumbered(deepseek, tmp_path / "other", seed=1)
    (out / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    adjust_manifest(out)
    with pytest.raises(VerificationError, match="under number"):
        verify_experts(deepseek, out)


@pytest.mark.parametrize("call", ["write_expert_bundle", "write_renumbered_shard", "compare_experts"])
def test_resumed(tmp_path: Path, call: str) -> None:
    """A run that fails at any step goes on to the same bytes; but not from one that did not renumber."""
    source = qwen3_moe(tmp_path / "m")
    expected = contents(renumbered(source, tmp_path / "expected"))
    out = tmp_path / "out"
    with (
        patch.object(pack, call, FailingCall(getattr(pack, call), 1, KeyboardInterrupt())),
        pytest.raises(KeyboardInterrupt),
    ):
        renumbered(source, out)
    execute_pack(planned(source, out), resume=True)
    assert contents(out) == expected
    other = tmp_path / "other"
    model = open_experts(source)
    with (
        patch.object(pack, "seal_pack", FailingCall(pack.seal_pack, 1, KeyboardInterrupt())),
        pytest.raises(KeyboardInterrupt),
    ):
        execute_pack(plan_pack(model, expert_placement(model), other))
    with pytest.raises(UsageError, match="another order of neurons, or record"):
        execute_pack(planned(source, other), resume=True)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (dbrx, "no router that is known"),
        (llama4, "no router that is known"),
        (lambda path: with_tensors(deepseek_v3(path), {"model.layers.1.mlp.gate.tid2eid": np.zeros((32, 2))}),
         r"gate\.tid2eid, which may count experts"),
        (lambda path: with_tensors(deepseek_v3(path), {"model.layers.1.mlp.usage": np.zeros(N_EXPERTS)}),
         r"mlp\.usage, which may count experts"),
        (lambda path: with_tensors(deepseek_v3(path), {"model.layers.1.mlp.router.bias": np.zeros(N_EXPERTS)}),
         r"mlp\.router\.bias, which may count experts"),
        (gguf_mixture, "a GGUF file"),
    ],
)  # fmt: skip
def test_what_cannot_be_renumbered(make: Make, tmp_path: Path, match: str) -> None:
    """Without a router that is known, with tensors that may count experts, or in GGUF: refused, nothing written."""
    source = make(tmp_path / "m.gguf")
    with pytest.raises(UnsupportedError, match=match):
        renumbered(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # The pack alone, in that order, works.
    model = open_experts(source)
    execute_pack(plan_pack(model, expert_placement(model), tmp_path / "out"))


def test_a_router_of_another_size(tmp_path: Path) -> None:
    """A router of fewer experts than there are is none of theirs."""
    source = deepseek_v3(tmp_path / "m")
    short = np.zeros((N_EXPERTS - 1, 16), np.uint16)
    with_tensors(source, {"model.layers.1.mlp.gate.weight": short})
    with pytest.raises(UnsupportedError, match="no router that is known"):
        renumbered(source, tmp_path / "out")


def test_a_hidden_state_as_long_as_there_are_experts(tmp_path: Path) -> None:
    """Norms and attention of that length are no routers: names tell, not shapes."""
    source = deepseek_v3(tmp_path / "m")
    norms = {f"model.layers.1.{name}.weight": RNG.standard_normal(N_EXPERTS) for name in
             ("input_layernorm", "self_attn.q_a_layernorm", "mlp.shared_experts.gate_proj_extra")}  # fmt: skip
    with_tensors(source, norms)
    out = renumbered(source, tmp_path / "out")
    after = stored_arrays(out)
    for name, norm in norms.items():
        np.testing.assert_array_equal(after[name], norm)


def grouped(source: Path, n_groups: int) -> Path:
    """Say in a config that the router chooses among groups first."""
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"n_group": n_groups, "topk_group": 1}))
    return source


@pytest.mark.parametrize(("order", "fits"), [([3, 2, 5, 4, 1, 0], True), ([0, 2, 1, 3, 4, 5], False)])
def test_groups(deepseek: Path, tmp_path: Path, order: list[int], fits: bool) -> None:
    """Groups move as wholes, and experts within them; an order that mixes groups is refused."""
    model = open_experts(grouped(deepseek, 3))
    placement = ModelPlacement({"layers.1": NeuronPlacement(np.array(order))}, {"unit": "expert", NUMBERING: BY_SLOT})
    if fits:
        execute_pack(plan_pack(model, placement, tmp_path / "out"))
        verify_experts(deepseek, tmp_path / "out")
    else:
        with pytest.raises(PlacementError, match="takes groups of experts apart, with 3 groups"):
            plan_pack(model, placement, tmp_path / "out")


def test_groups_that_do_not_divide(deepseek: Path, tmp_path: Path) -> None:
    """Six experts in four groups: the config is wrong."""
    with pytest.raises(UnsupportedError, match="6 experts in 4 groups"):
        renumbered(grouped(deepseek, 4), tmp_path / "out")


@pytest.mark.parametrize("seed", range(20))
def test_the_nearest_order_that_keeps_groups(seed: int) -> None:
    """Groups are kept, experts of one stay in their order, and an order that keeps them is not changed."""
    rng = np.random.default_rng(seed)
    n_groups, size = int(rng.integers(1, 6)), int(rng.integers(1, 6))
    order = rng.permutation(n_groups * size).astype(np.int32)
    found = grouped_order(order, n_groups)
    assert sorted(found) == sorted(order)
    assert not groups_apart(found, n_groups)
    for group in range(n_groups):
        within = [[expert for expert in of if expert // size == group] for of in (order, found)]
        assert within[0] == within[1]
    np.testing.assert_array_equal(grouped_order(found, n_groups), found)


@pytest.mark.parametrize(
    "router",
    [
        '{ tensor = "layers.0.gate.weight", axes = ["expert", "hidden"] }',
        '{ tensor = "layers.{layer}.*", axes = ["expert"] }',
        '{ tensor = "layers.{layer}.experts.{expert}.gate", axes = ["expert"] }',
        '{ tensor = "layers.{layer}.gate.weight", axes = ["hidden"] }',
        '{ tensor = "layers.{layer}.gate.weight", axes = ["expert", "expert"] }',
        '{ tensor = "layers.{layer}.gate.weight", axes = ["expert", "neuron"] }',
        '{ tensor = "layers.{layer}.gate.weight" }',
    ],
)
def test_family_files_with_a_wrong_router(router: str) -> None:
    """A router without a layer, with an expert's number or stars in its name, or with other axes."""
    text = (Path(pack.__file__).parent / "families" / "smallthinker.toml").read_text()
    with pytest.raises(CheckpointError, match=r"routers\[0\]"):
        Family.parse("mine", f"routers = [{router}]\n{text}")


def test_a_family_file_names_the_router(tmp_path: Path) -> None:
    """A family of one's own makes a model movable whose router has another name."""
    source = with_tensors(llama4(tmp_path / "m"), {"model.layers.0.feed_forward.chooser": ROUTER["router.weight"]})
    text = (Path(pack.__file__).parent / "families" / "llama4.toml").read_text()
    family = Family.parse("mine", text.replace("feed_forward.router.weight", "feed_forward.chooser"))
    model = describe_experts(Checkpoint.open(source), family)
    execute_pack(plan_pack(model, renumbering(expert_placement(model)), tmp_path / "out"))
    moved = stored_arrays(tmp_path / "out")["model.layers.0.feed_forward.chooser"]
    order = expert_placement(model).blocks["layers.0"].order
    np.testing.assert_array_equal(moved, ROUTER["router.weight"][order])
