"""Which files are the model: with an index that is right, wrong or missing, and under any name."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.convert import convert
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.restore import restore
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import CheckpointError, RipplePlaceError, UnsupportedError
from ripple_place.placing.params import PlacingParams
from ripple_place.workflows.reorder import apply_placement, reorder
from tests.builders import contents, random_placement
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.checkpoint.model.ffn import FfnModel

INDEX = "model.safetensors.index.json"
UP = "model.layers.1.mlp.up_proj.weight"


def describe(path: Path) -> FfnModel:
    """Open a checkpoint and find its FFNs."""
    return describe_ffn(Checkpoint.open(path))


def edit(path: Path, **changes: str | None) -> None:
    """Have the index of a checkpoint place tensors elsewhere, or not name them at all."""
    index = json.loads((path / INDEX).read_text())
    index["weight_map"] |= changes
    index["weight_map"] = {name: shard for name, shard in index["weight_map"].items() if shard is not None}
    (path / INDEX).write_text(json.dumps(index))


def round_trip(path: Path) -> dict[str, bytes]:
    """Reorder, verify and restore a checkpoint; return the files of the output."""
    out, again = path.parent / "out", path.parent / "again"
    model = describe(path)
    execute(plan_rewrite(model, random_placement(model), out))
    verify(path, out)
    restore(out, again)
    restored, source = contents(again), contents(path)
    assert restored.items() <= source.items()
    assert restored.keys() >= set(model.checkpoint.shards)
    return contents(out)


def test_an_index_that_names_a_tensor_too_many(pico_llama: Path) -> None:
    """A published repository names `mtp.fc.weight`, which no shard has: loaders leave it out, and so do we."""
    edit(pico_llama, **{"mtp.fc.weight": "model-00003-of-00003.safetensors"})
    assert [note.partition(INDEX)[2] for note in describe(pico_llama).notes] == [
        " names 1 tensors that no shard has, such as mtp.fc.weight: loaders leave them out"
    ]
    assert INDEX in round_trip(pico_llama)


def test_an_index_that_names_a_tensor_too_few(pico_llama: Path) -> None:
    """Loaders read whole shards."""
    edit(pico_llama, **{"model.norm.weight": None})
    (note,) = describe(pico_llama).notes
    assert "does not name 1 tensors of its shards, such as model.norm.weight" in note
    round_trip(pico_llama)


def test_an_index_that_places_a_tensor_elsewhere(pico_llama: Path) -> None:
    """Loaders read whole shards; those that go by the index are said to fail."""
    edit(pico_llama, **{"model.norm.weight": "model-00002-of-00003.safetensors"})
    (note,) = describe(pico_llama).notes
    assert "places 1 tensors in other shards" in note
    round_trip(pico_llama)


@pytest.mark.parametrize("total_size", [1, -5, "many", None])
def test_an_index_with_another_total(pico_llama: Path, total_size: Any) -> None:
    """Many published ones are wrong: with tied weights counted twice, or of another dtype. Nobody needs it."""
    index = json.loads((pico_llama / INDEX).read_text())
    index["metadata"] = {"total_size": total_size}
    (pico_llama / INDEX).write_text(json.dumps(index))
    assert describe(pico_llama).notes == ()


def test_an_ffn_tensor_that_no_shard_has(pico_llama: Path) -> None:
    """A bias that a loader would make up: without the index the shards have whole FFNs, and removing it helps."""
    edit(pico_llama, **{"model.layers.1.mlp.up_proj.bias": "model-00002-of-00003.safetensors"})
    with pytest.raises(CheckpointError, match=rf"up_proj.bias: found it named in model-00002.*Remove {INDEX} if it is"):
        describe(pico_llama)
    (pico_llama / INDEX).unlink()
    assert list(describe(pico_llama).blocks) == ["layers.0", "layers.1"]


def test_a_component_that_no_shard_has(pico_llama: Path) -> None:
    """Shard and index are of two revisions: both are downloaded again."""
    shard = pico_llama / "model-00002-of-00003.safetensors"
    whole = shard.read_bytes()
    save_file({name: tensor for name, tensor in load_file(shard).items() if name != UP}, shard)
    message = f"no tensor {UP} in {shard.name}, where the index has it.*hf download ORG/NAME {shard.name} {INDEX} "
    with pytest.raises(CheckpointError, match=message):
        describe(pico_llama)
    shard.write_bytes(whole)
    assert describe(pico_llama).blocks


def test_an_index_of_another_model(pico_llama: Path) -> None:
    """None of its tensors is there: the shards' own headers say what there is."""
    names = [file.name for file in pico_llama.glob("*.safetensors")]
    (pico_llama / INDEX).write_text(json.dumps({"weight_map": {f"transformer.h.{n}": n for n in names}}))
    with pytest.raises(CheckpointError, match=r"none of the tensors in its shards, but others such as .*Remove it"):
        Checkpoint.open(pico_llama)
    (pico_llama / INDEX).unlink()
    assert describe(pico_llama).blocks


def test_an_index_of_another_build(pico_llama: Path) -> None:
    """It names five shards, and three others are there: the index is removed."""
    names = {f"t{n}": f"model-{n:05d}-of-00005.safetensors" for n in range(1, 6)}
    (pico_llama / INDEX).write_text(json.dumps({"weight_map": names}))
    message = (
        r"model-00001-of-00005.safetensors: found no such file, nor 4 others of 5 shards; model-00001-of-00003.*, "
        rf"which the index does not name.*Remove {INDEX} if those are the model"
    )
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(pico_llama)
    (pico_llama / INDEX).unlink()
    assert describe(pico_llama).blocks


@pytest.mark.parametrize("n_missing", [1, 2])
def test_shards_that_are_missing(pico_llama: Path, n_missing: int) -> None:
    """The command names all of them."""
    names = [f"model-0000{n}-of-00003.safetensors" for n in range(1, n_missing + 1)]
    for name in names:
        (pico_llama / name).unlink()
    others = ", nor 1 others of 3 shards" if n_missing > 1 else ""
    message = rf"found no such file{others}; .*hf download ORG/NAME {' '.join(names)} --local-dir {pico_llama}"
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(pico_llama)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": []}', "{}"])
def test_a_malformed_index(pico_llama: Path, content: str) -> None:
    """It can be done without."""
    (pico_llama / INDEX).write_text(content)
    with pytest.raises(CheckpointError, match=r"Remove it.*the shards' own headers"):
        Checkpoint.open(pico_llama)
    (pico_llama / INDEX).unlink()
    assert describe(pico_llama).blocks


def test_no_index(pico_llama: Path) -> None:
    """The headers of a whole set of shards say it all; what lies beside it is not read as well."""
    (pico_llama / INDEX).unlink()
    for name in ("consolidated.safetensors", "adapter_model.safetensors", "vae.safetensors"):
        save_file({"model.norm.weight": np.zeros(8, np.float16)}, pico_llama / name)
    (note,) = describe(pico_llama).notes
    assert f"has no {INDEX}: its 3 files model-00001-of-00003.safetensors to model-00003-" in note
    written = round_trip(pico_llama)
    assert sum(name.endswith("of-00003.safetensors") for name in written) == 3
    assert INDEX not in written


def test_no_index_and_a_missing_shard(pico_llama: Path) -> None:
    """Names tell how many there should be."""
    (pico_llama / INDEX).unlink()
    (pico_llama / "model-00002-of-00003.safetensors").unlink()
    message = (
        r"model-00002-of-00003.safetensors: found no such file; there are 2 of 3 shards.*hf download ORG/NAME model-"
    )
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(pico_llama)


def test_shards_that_are_numbered_from_zero(pico_llama: Path) -> None:
    """Some tools count that way."""
    (pico_llama / INDEX).unlink()
    for n in range(1, 4):
        (pico_llama / f"model-0000{n}-of-00003.safetensors").rename(
            pico_llama / f"model-0000{n - 1}-of-00003.safetensors"
        )
    assert len(Checkpoint.open(pico_llama).shards) == 3


def test_no_index_and_two_sets(pico_llama: Path) -> None:
    """A second build in the same directory: one of them is moved away."""
    (pico_llama / INDEX).unlink()
    for n in (1, 2):
        save_file({f"x{n}": np.zeros(1, np.float16)}, pico_llama / f"model-0000{n}-of-00002.safetensors")
    with pytest.raises(
        CheckpointError, match=r"2 sets of shards, such as model-00001-of-00002.*Move the shards of all"
    ):
        Checkpoint.open(pico_llama)
    for n in (1, 2):
        (pico_llama / f"model-0000{n}-of-00002.safetensors").unlink()
    assert describe(pico_llama).blocks


def test_no_index_and_a_tensor_twice(pico_opt: Path) -> None:
    """Two precisions of one model: which of them is meant, the user knows."""
    (pico_opt / "model.safetensors").rename(pico_opt / "model.fp16.safetensors")
    shutil.copy(pico_opt / "model.fp16.safetensors", pico_opt / "model.fp32.safetensors")
    with pytest.raises(
        CheckpointError, match=r"found it in model.fp16.safetensors and in model.fp32.*[Mm]ove the file"
    ):
        Checkpoint.open(pico_opt)
    (pico_opt / "model.fp32.safetensors").unlink()
    assert describe(pico_opt).blocks


def test_files_without_numbers(pico_llama: Path) -> None:
    """Older tools of MLX wrote weights.00.safetensors and so on."""
    (pico_llama / INDEX).unlink()
    for n in range(1, 4):
        (pico_llama / f"model-0000{n}-of-00003.safetensors").rename(pico_llama / f"weights.0{n}.safetensors")
    assert len(describe(pico_llama).checkpoint.shards) == 3


@pytest.mark.parametrize(
    "name",
    ["gptq_model-4bit-128g.safetensors", "diffusion_pytorch_model.safetensors", "consolidated.safetensors",
     "model.fp16.safetensors", "pytorch_model.safetensors"],
)  # fmt: skip
def test_a_single_file_under_another_name(pico_opt: Path, name: str) -> None:
    """The output has it under the same name, for the loader that asks for it."""
    (pico_opt / "model.safetensors").rename(pico_opt / name)
    (note,) = describe(pico_opt).notes
    assert f"has no model.safetensors: {name}, its only safetensors file" in note
    assert name in round_trip(pico_opt)


def test_the_report_has_the_notes(pico_opt: Path, profile_path: Path, tmp_path: Path) -> None:
    """The reports of `reorder` and `apply_placement` say how the weights were found."""
    (pico_opt / "model.safetensors").rename(pico_opt / "mine.safetensors")
    report = reorder(pico_opt, profile_path, tmp_path / "a", PlacingParams(ordering="frequency"))
    placement = tmp_path / "a" / "ripple_place" / "placement.safetensors"
    for warnings in (report.warnings, apply_placement(pico_opt, placement, tmp_path / "b").warnings):
        assert sum("mine.safetensors, its only safetensors file" in warning for warning in warnings) == 1


@pytest.mark.parametrize("index", ["model.safetensors.index.fp16.json", "gptq_model-4bit-128g.safetensors.index.json"])
def test_an_index_under_another_name(pico_llama: Path, index: str) -> None:
    """A variant's index, and AutoGPTQ's: it is part of the output."""
    (pico_llama / INDEX).rename(pico_llama / index)
    assert Checkpoint.open(pico_llama).index_name == index
    assert index in round_trip(pico_llama)


@pytest.mark.parametrize("is_index", [True, False])
def test_a_config_that_names_the_weights(pico_llama: Path, is_index: bool) -> None:
    """As in transformers, it wins over the usual names."""
    config = json.loads((pico_llama / "config.json").read_text())
    tensors = {name: t for file in pico_llama.glob("*.safetensors") for name, t in load_file(file).items()}
    save_file(tensors, pico_llama / "mine.safetensors")
    named = "mine.safetensors"
    if is_index:
        named = "mine.safetensors.index.json"
        (pico_llama / named).write_text(json.dumps({"weight_map": dict.fromkeys(tensors, "mine.safetensors")}))
    (pico_llama / "config.json").write_text(json.dumps(config | {"transformers_weights": named}))
    assert list(Checkpoint.open(pico_llama).shards) == ["mine.safetensors"]
    round_trip(pico_llama)
    (pico_llama / "config.json").write_text(json.dumps(config | {"transformers_weights": "../mine.safetensors"}))
    with pytest.raises(CheckpointError, match="a plain file name inside the checkpoint"):
        Checkpoint.open(pico_llama)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["pytorch_model.bin"], r"weights in pytorch_model.bin only.*import convert"),
        (["pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin"], r"import convert"),
        (
            ["consolidated.00.pth", "consolidated.01.pth"],
            r"consolidated.00.pth, consolidated.01.pth only.*save_pretrained",
        ),
        (["model.pt", "training_args.bin"], r"weights in model.pt only.*save_pretrained"),
        (
            ["a.Q4_0.gguf", "b.gguf", "c.gguf", "d.gguf"],
            r"in a.Q4_0.gguf, b.gguf, c.gguf and 1 more.*gguf_file='a.Q4_0",
        ),
        (["weights.npz"], r"download the safetensors files of the model from which weights.npz was made"),
        (["model.onnx", "model.onnx_data"], r"from which model.onnx was made"),
        (["tf_model.h5"], r"transformers 4 \(from_tf=True"),
        (["flax_model.msgpack"], r"from_flax=True"),
        (
            ["training_args.bin", "README.md"],
            r"no weights, only README.md, config.json, training_args.bin.*hf download",
        ),
    ],
)
@pytest.mark.parametrize("has_config", [True, False])
def test_other_formats_alone(tmp_path: Path, names: list[str], message: str, has_config: bool) -> None:
    """What is there is listed, and each format has a remedy of its own."""
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    if has_config:
        (tmp_path / "config.json").write_text("{}")
    elif "no weights" in message:
        message = r"config.json: found no such file.*hf download ORG/NAME config.json"
    with pytest.raises(RipplePlaceError, match=f"(?i){message}"):
        Checkpoint.open(tmp_path)


def test_converting_helps(pico_opt: Path, tmp_path: Path) -> None:
    """The remedy for torch files, done."""
    tensors = load_file(pico_opt / "model.safetensors")
    write_torch_file(pico_opt / "pytorch_model.bin", tensors)
    (pico_opt / "model.safetensors").unlink()
    with pytest.raises(UnsupportedError, match=f"convert\\('{pico_opt}', '{pico_opt}-safetensors'\\)"):
        Checkpoint.open(pico_opt)
    convert(pico_opt, f"{pico_opt}-safetensors")
    assert describe(tmp_path / f"{pico_opt.name}-safetensors").blocks


def test_a_download_that_has_not_ended(pico_opt: Path) -> None:
    """The hub's client has the config first, and the weights in a directory of its own."""
    parts = pico_opt / ".cache" / "huggingface" / "download"
    parts.mkdir(parents=True)
    (pico_opt / "model.safetensors").rename(parts / "a1b2.9f.incomplete")
    with pytest.raises(CheckpointError, match=r"downloads that have not ended \(1 files\).*run the download again: hf"):
        Checkpoint.open(pico_opt)


def test_weights_in_a_directory_below(pico_opt: Path) -> None:
    """A pipeline's folder, or one precision a folder."""
    shutil.copytree(pico_opt, pico_opt / "fp16")
    (pico_opt / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=f"no weights, but checkpoints below.*Give one of {pico_opt / 'fp16'}"):
        Checkpoint.open(pico_opt)


def test_the_publisher_s_own_format(tmp_path: Path) -> None:
    """Mistral's repositories have both; this one was downloaded in part."""
    (tmp_path / "params.json").write_text("{}")
    save_file({"layers.0.feed_forward.w1.weight": np.zeros((4, 2), "f2")}, tmp_path / "consolidated.safetensors")
    with pytest.raises(UnsupportedError, match=r"but params.json.*config.json and the files model\*.safetensors"):
        Checkpoint.open(tmp_path)
