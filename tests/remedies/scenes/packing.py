"""Packs of experts: what cannot be packed, options that are of neurons, and outputs that are not the source's."""

from __future__ import annotations

import importlib.util
import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint import pack
from ripple_place.checkpoint.names import BUNDLED_FILE
from ripple_place.errors import CheckpointError
from ripple_place.placement import ModelPlacement, NeuronPlacement, write_placement
from ripple_place.tensorfile import TensorFile
from ripple_place.workflows.pack import PackParams
from tests.builders import adjust_manifest
from tests.expert_builders import N_EXPERTS, deepseek_v3, gguf_mixture, llama4, qwen3_moe
from tests.failing_call import FailingCall
from tests.remedies.bench import model_at, profile_at
from tests.remedies.cases import case, instead, run
from tests.trace_builders import random_activity, write_stock_trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.remedies.cases import Attempts

_GGUF, _CLI, _WORKFLOW = "checkpoint/model/gguf_experts.py", "cli/pack.py", "workflows/pack.py"
_PROOF = "checkpoint/proof/experts.py"
EXPERT = ("--unit", "expert")


def packed(model: Path, out: Path, *options: object) -> None:
    """Pack a mixture; of an output that is there, the next one."""
    run("reorder", model, *EXPERT, "--out", out, "--force", *options)


def routes_at(path: Path) -> Path:
    """Write the profile of routes of a mixture of two layers."""
    rng = np.random.default_rng(0)
    rows = {f"layers.{layer}": random_activity(rng, 64, N_EXPERTS, 0.4) for layer in range(2)}
    trace = write_stock_trace(path.with_name(f"{path.name}.trace"), rows, activity="routed", unit="expert")
    run("profile", trace, "--out", path, "--no-verdict")
    return path


def experts_placed_at(path: Path, unit: str = "expert") -> Path:
    """Write a placement of experts, or of as many other units."""
    blocks = {"layers.0": NeuronPlacement(np.arange(N_EXPERTS)[::-1])}
    write_placement(path, ModelPlacement(blocks, {"unit": unit}))
    return path


@case("checkpoint/model/expert_tensors.py:layout_error")
def experts_that_differ(folder: Path) -> Attempts:
    """An expert with a tensor too few: another download has it."""
    model = qwen3_moe(folder / "model", sharded=False)
    tensors = load_file(model / "model.safetensors")
    whole = dict(tensors)
    del tensors["model.layers.1.mlp.experts.2.up_proj.weight"]
    save_file(tensors, model / "model.safetensors")
    yield lambda: packed(model, folder / "out")
    save_file(whole, model / "model.safetensors")
    yield lambda: packed(model, folder / "out")


@case(f"{_GGUF}:no_experts_error")
def a_dense_model(folder: Path) -> Attempts:
    """A model without experts: its neurons."""
    model, learned = model_at(folder / "model"), profile_at(folder / "profile")
    yield lambda: packed(model, folder / "out", "--profile", learned)
    yield lambda: run("reorder", model, "--profile", learned, "--out", folder / "out")


@case(f"{_GGUF}:describe_gguf", "correct the path")
def no_such_gguf(folder: Path) -> Attempts:
    """A GGUF file that is not there: the one that is."""
    model = gguf_mixture(folder / "model.gguf")
    yield lambda: packed(folder / "mode.gguf", folder / "out")
    yield lambda: packed(model, folder / "out")


@case(f"{_GGUF}:describe_gguf", "no gguf package")
def without_the_gguf_package(folder: Path) -> Attempts:
    """A GGUF file, and nothing to read it with: the package is installed."""
    model, find = gguf_mixture(folder / "model.gguf"), importlib.util.find_spec
    with patch.object(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name)):
        yield lambda: packed(model, folder / "out")
    yield lambda: packed(model, folder / "out")


@case(f"{_GGUF}:_files_of_split")
def half_a_split(folder: Path) -> Attempts:
    """One file of two: the other is downloaded."""
    first, second = (folder / f"m-0000{number}-of-00002.gguf" for number in (1, 2))
    gguf_mixture(first, n_layers=1)
    yield lambda: packed(first, folder / "out")
    second.write_bytes(first.read_bytes().replace(b"blk.0.", b"blk.1."))
    yield lambda: packed(first, folder / "out")


@case(f"{_GGUF}:_read_header")
def half_a_gguf(folder: Path) -> Attempts:
    """A file that ends within its tensors: copied again."""
    model = gguf_mixture(folder / "model.gguf")
    whole = model.read_bytes()
    model.write_bytes(whole[:-1000])
    yield lambda: packed(model, folder / "out")
    model.write_bytes(whole)
    yield lambda: packed(model, folder / "out")


@case("checkpoint/output/expert_plan.py:plan_pack")
def a_copy_alone(folder: Path) -> Attempts:
    """The drop-in format alone: both, or the bundled one."""
    model = qwen3_moe(folder / "model")
    yield lambda: packed(model, folder / "out", "--format", "drop-in")
    yield lambda: packed(model, folder / "out")
    yield lambda: packed(model, folder / "out", "--format", "bundled")


@case("checkpoint/restore.py:restore", "use the GGUF file itself")
def a_gguf_restored(folder: Path) -> Attempts:
    """A pack that a GGUF file shall be restored from: that is still there."""
    model = gguf_mixture(folder / "model.gguf")
    packed(model, folder / "out")
    yield lambda: run("verify", folder / "out", "--restore", folder / "back")
    yield lambda: run("verify", model, folder / "out")


@case(f"{_CLI}:run_pack")
def nothing_to_pack(folder: Path) -> Attempts:
    """No checkpoint: one."""
    model = qwen3_moe(folder / "model")
    yield lambda: run("reorder", *EXPERT, "--out", folder / "out")
    yield lambda: packed(model, folder / "out")


@case(f"{_CLI}:_check_options")
def an_option_of_neurons(folder: Path) -> Attempts:
    """Gates apart, and experts: one of the two."""
    model = qwen3_moe(folder / "model")
    yield lambda: packed(model, folder / "out", "--gates", "apart")
    yield lambda: packed(model, folder / "out")


instead(
    f"{_WORKFLOW}:PackParams.__post_init__", "", "an ordering of neurons: one of experts",
    partial(PackParams, ordering="flash-time"), partial(PackParams, ordering="frequency"),
)  # fmt: skip


@case(f"{_WORKFLOW}:_placement_of", "leave --placement out")
def two_orders(folder: Path) -> Attempts:
    """A placement and an ordering: one of the two."""
    model, placement, routes = (
        qwen3_moe(folder / "m"), experts_placed_at(folder / "placement"), routes_at(folder / "routes")
    )  # fmt: skip
    ordering = ("--ordering", "frequency")
    yield lambda: packed(model, folder / "out", "--placement", placement, "--profile", routes, *ordering)
    yield lambda: packed(model, folder / "out", "--profile", routes, *ordering)
    yield lambda: packed(model, folder / "out", "--placement", placement)


@case(f"{_WORKFLOW}:_placement_of", "a placement file")
def no_placement(folder: Path) -> Attempts:
    """A placement that is not there: the one that is."""
    model, placement = qwen3_moe(folder / "m"), experts_placed_at(folder / "placement")
    yield lambda: packed(model, folder / "out", "--placement", folder / "place")
    yield lambda: packed(model, folder / "out", "--placement", placement)


@case(f"{_WORKFLOW}:_placement_of", "no profile to order by")
def nothing_to_order_by(folder: Path) -> Attempts:
    """An ordering without a profile: with one, or without the ordering."""
    model, routes = qwen3_moe(folder / "m"), routes_at(folder / "routes")
    yield lambda: packed(model, folder / "out", "--ordering", "greedy")
    yield lambda: packed(model, folder / "out", "--ordering", "greedy", "--profile", routes)
    yield lambda: packed(model, folder / "out")


@case(f"{_WORKFLOW}:_placement_of", "run `ripple-place profile` first")
def no_profile(folder: Path) -> Attempts:
    """A profile that is not there: made."""
    model = qwen3_moe(folder / "m")
    yield lambda: packed(model, folder / "out", "--profile", folder / "routes")
    routes_at(folder / "routes")
    yield lambda: packed(model, folder / "out", "--profile", folder / "routes")


@case(f"{_WORKFLOW}:_check_unit")
def a_profile_of_neurons(folder: Path) -> Attempts:
    """A profile of neurons: one of experts, or the neurons."""
    model, learned = qwen3_moe(folder / "m"), profile_at(folder / "profile")
    yield lambda: packed(model, folder / "out", "--profile", learned)
    routes = routes_at(folder / "routes")
    yield lambda: packed(model, folder / "out", "--profile", routes)
    dense = model_at(folder / "dense")
    yield lambda: run("reorder", dense, "--profile", learned, "--out", folder / "neurons")


PERMUTED = "--permute-experts"
_ROUTERS = "checkpoint/model/routers.py"


@case(f"{_WORKFLOW}:pack_experts")
def nothing_to_number_by(folder: Path) -> Attempts:
    """Experts to be renumbered, and no order: a profile or a placement, or without."""
    model, routes = qwen3_moe(folder / "m"), routes_at(folder / "routes")
    placement = experts_placed_at(folder / "placement")
    yield lambda: packed(model, folder / "out", PERMUTED)
    yield lambda: packed(model, folder / "out", PERMUTED, "--profile", routes)
    yield lambda: packed(model, folder / "out", PERMUTED, "--placement", placement)
    yield lambda: packed(model, folder / "out")


@case("cli/reorder.py:reorder", "--unit")
def renumbering_without_the_unit(folder: Path) -> Attempts:
    """Experts to be renumbered, and neurons to be moved: one of the two."""
    model, routes = qwen3_moe(folder / "m"), routes_at(folder / "routes")
    learned = profile_at(folder / "profile")
    yield lambda: run("reorder", model, PERMUTED, "--profile", routes, "--out", folder / "out")
    yield lambda: packed(model, folder / "out", PERMUTED, "--profile", routes)
    yield lambda: run("reorder", model_at(folder / "dense"), "--profile", learned, "--out", folder / "neurons")


@case(f"{_ROUTERS}:check_numbering", "permute the checkpoint", untried="converting needs another tool")
def a_gguf_to_renumber(folder: Path) -> Attempts:
    """A GGUF file, whose router would stay as it is: the pack alone."""
    model, placement = gguf_mixture(folder / "model.gguf"), experts_placed_at(folder / "placement")
    yield lambda: packed(model, folder / "out", "--placement", placement, PERMUTED)
    yield lambda: packed(model, folder / "out", "--placement", placement)


@case(f"{_ROUTERS}:check_numbering", "name the tensors under routers")
def an_unknown_router(folder: Path) -> Attempts:
    """A router that the family does not name: the pack alone, or a family file that names it."""
    router = np.zeros((N_EXPERTS, 16), np.uint16)
    model, placement = llama4(folder / "m"), experts_placed_at(folder / "placement")
    tensors = load_file(model / "model.safetensors")
    save_file(tensors | {"model.layers.0.feed_forward.chooser": router}, model / "model.safetensors")
    text = (Path(pack.__file__).parent / "families" / "llama4.toml").read_text()
    (folder / "mine.toml").write_text(text.replace("feed_forward.router.weight", "feed_forward.chooser"))
    order = ("--placement", placement)
    yield lambda: packed(model, folder / "out", *order, PERMUTED)
    yield lambda: packed(model, folder / "out", *order)
    yield lambda: packed(model, folder / "out", *order, PERMUTED, "--family", folder / "mine.toml")


def in_groups(model: Path, n_groups: int) -> Path:
    """Say in a config that the router chooses among groups first."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"n_group": n_groups}))
    return model


@case(f"{_ROUTERS}:check_numbering", "keeps groups together")
def groups_taken_apart(folder: Path) -> Attempts:
    """A placement that mixes groups of experts: an order by a profile, which does not, or the pack alone."""
    model, routes = in_groups(deepseek_v3(folder / "m"), 3), routes_at(folder / "routes")
    order = NeuronPlacement(np.array([0, 2, 1, 3, 4, 5]))
    write_placement(folder / "placement", ModelPlacement({"layers.1": order}, {"unit": "expert"}))
    yield lambda: packed(model, folder / "out", "--placement", folder / "placement", PERMUTED)
    yield lambda: packed(model, folder / "out", "--profile", routes, "--layers", "1", PERMUTED)
    yield lambda: packed(model, folder / "out", "--placement", folder / "placement")


@case(f"{_ROUTERS}:groups_of", untried="nothing is downloaded here")
def groups_that_do_not_divide(folder: Path) -> Attempts:
    """Six experts in four groups: the config as it was, or the pack alone."""
    model, routes = in_groups(deepseek_v3(folder / "m"), 4), routes_at(folder / "routes")
    yield lambda: packed(model, folder / "out", "--profile", routes, "--layers", "1", PERMUTED)
    yield lambda: packed(model, folder / "out", "--profile", routes, "--layers", "1")
    in_groups(model, 3)
    yield lambda: packed(model, folder / "out", "--profile", routes, "--layers", "1", PERMUTED)


@case("workflows/reorder.py:_check_no_experts")
def experts_without_the_unit(folder: Path) -> Attempts:
    """A profile of experts, and nothing said of the unit: it is."""
    model, routes = qwen3_moe(folder / "m"), routes_at(folder / "routes")
    yield lambda: run("reorder", model, "--profile", routes, "--out", folder / "out")
    yield lambda: packed(model, folder / "out", "--profile", routes)


@case(f"{_WORKFLOW}:_write")
def interrupted_while_packing(folder: Path) -> Attempts:
    """Ctrl-C while experts are written: the same command with --resume."""
    command = ("reorder", qwen3_moe(folder / "m"), *EXPERT, "--out", folder / "out")
    with patch.object(pack, "seal_pack", FailingCall(pack.seal_pack, 1, KeyboardInterrupt())):
        yield lambda: run(*command)
    yield lambda: run(*command, "--resume")


@case("workflows/verify.py:_prove")
def logits_of_a_pack(folder: Path) -> Attempts:
    """Logits of a pack, in which nothing was permuted: without."""
    model = qwen3_moe(folder / "m")
    packed(model, folder / "out")
    yield lambda: run("verify", model, folder / "out", "--logits")
    yield lambda: run("verify", model, folder / "out")


@case(f"{_PROOF}:verify_experts", "give the checkpoint from which")
def another_checkpoint(folder: Path) -> Attempts:
    """A checkpoint that has changed since: the one that it was."""
    model = qwen3_moe(folder / "m")
    packed(model, folder / "out")
    config = (model / "config.json").read_text()
    (model / "config.json").write_text(config + " ")
    yield lambda: run("verify", model, folder / "out")
    (model / "config.json").write_text(config)
    yield lambda: run("verify", model, folder / "out")


def spoiled_numbers(words: str, story: str, spoil: Callable[[Path], object]) -> None:
    """List a case of renumbered experts that are spoiled, with a manifest that agrees: written again."""

    @case("checkpoint/proof/expert_numbers.py:compare_renumbered", words, f"{story}: written again")
    def scene(folder: Path) -> Attempts:
        model, out, placement = deepseek_v3(folder / "m"), folder / "out", folder / "placement"
        write_placement(
            placement, ModelPlacement({"layers.1": NeuronPlacement(np.arange(N_EXPERTS)[::-1])}, {"unit": "expert"})
        )
        options = ("--placement", placement, PERMUTED, "--format", "drop-in")
        packed(model, out, *options)
        spoil(out)
        adjust_manifest(out)
        yield lambda: run("verify", model, out)
        shutil.rmtree(out)
        packed(model, out, *options)
        yield lambda: run("verify", model, out)


def change(tensor: str, out: Path) -> None:
    """Change a bit of a tensor."""
    path = out / "model.safetensors"
    extent = TensorFile.open(path, CheckpointError).tensors[tensor]
    data = bytearray(path.read_bytes())
    data[extent.offset_bytes] ^= 1
    path.write_bytes(data)


spoiled_numbers("under number", "a router whose rows are others", partial(change, "model.layers.1.mlp.gate.weight"))
spoiled_numbers("byte for byte", "embeddings that changed", partial(change, "model.embed_tokens.weight"))


def spoiled(words: str, story: str, spoil: Callable[[Path], object], *, adjust: bool = True) -> None:
    """List a case of a pack that is spoiled, with a manifest that agrees with it: it is made again."""

    @case(f"{_PROOF}:{words}", "do not use this output", f"{story}: packed again")
    def scene(folder: Path) -> Attempts:
        model, out = deepseek_v3(folder / "m"), folder / "out"
        packed(model, out)
        spoil(out)
        if adjust:
            adjust_manifest(out)
        yield lambda: run("verify", model, out)
        shutil.rmtree(out)
        packed(model, out)
        yield lambda: run("verify", model, out)


def flip(out: Path) -> None:
    """Change one bit of an expert."""
    data = bytearray((out / BUNDLED_FILE).read_bytes())
    data[-5000] ^= 1
    (out / BUNDLED_FILE).write_bytes(data)


spoiled("verify_experts", "a flipped bit", flip, adjust=False)
spoiled("_pack_error", "a flipped bit, in the manifest's hash too", flip)
spoiled("_check_manifest", "a manifest of another family", partial(adjust_manifest, family="llama"), adjust=False)
