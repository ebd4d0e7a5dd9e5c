"""Files that are permuted along with a checkpoint, and packages that only some of its outputs need."""

from __future__ import annotations

import importlib.util
import shutil
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
from safetensors.numpy import save_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.gguf_export import check_exportable
from tests.builders import llama_config, llama_tensors, write_checkpoint
from tests.checkpoint.model.test_quantised import write_quantised
from tests.checkpoint.test_carriers import lora, write_adapter
from tests.hostile.runs import write_imatrix
from tests.remedies.bench import placement_at
from tests.remedies.cases import case, run
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts

_PEFT, _CONFIG = "checkpoint/carriers/adapter.py", "checkpoint/carriers/adapter_config.py"
_FOREIGN = "checkpoint/carriers/carrier.py:foreign_error"


def llama_at(path: Path) -> Path:
    """Write a Llama of two layers of 24 neurons."""
    return write_checkpoint(path, llama_tensors(), llama_config())


def reordered(folder: Path, *options: object, model: str = "model") -> None:
    """Apply a placement to a model, at a new place each time."""
    if not (folder / model).exists():
        llama_at(folder / model)
    placement = placement_at(folder / "placement")
    out = folder / f"out{sum(1 for _ in folder.iterdir())}"
    run("reorder", folder / model, "--placement", placement, "--out", out, *options)


def merged(where: str, words: str, story: str, tensors: dict[str, np.ndarray] | None = None, **config: object) -> None:
    """List a case of an adapter that cannot be permuted: it is merged into its base model."""

    @case(where, words, f"{story}: merged into its base model")
    def scene(folder: Path) -> Attempts:
        adapter = write_adapter(folder / "adapter", tensors or lora(), **config)
        yield lambda: reordered(folder, "--adapter", adapter)
        merged_model = llama_tensors(seed=1)  # What merging makes: a model of other weights, and no adapter.
        write_checkpoint(folder / "merged", merged_model, llama_config())
        yield lambda: reordered(folder, model="merged")


@case(f"{_PEFT}:check_is_adapter", "correct the path")
def no_adapter(folder: Path) -> Attempts:
    """A directory that is no adapter: the right one."""
    (folder / "in").mkdir()
    adapter = write_adapter(folder / "adapter", lora())
    yield lambda: reordered(folder, "--adapter", folder / "in")
    yield lambda: reordered(folder, "--adapter", adapter)


@case(f"{_PEFT}:open_adapter_weights", "save it again")
def adapter_in_torch(folder: Path) -> Attempts:
    """An adapter whose weights are a torch file: saved again, which peft does in safetensors."""
    adapter = write_adapter(folder / "adapter", lora())
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    yield lambda: reordered(folder, "--adapter", adapter)
    save_file(lora(), adapter / "adapter_model.safetensors")
    yield lambda: reordered(folder, "--adapter", adapter)


merged(
    f"{_PEFT}:_parts_of", "", "an adapter of a matrix in the FFN that no rule covers",
    {"base_model.model.model.layers.0.mlp.router_proj.lora_A.weight": np.ones((2, 8))},
)  # fmt: skip
merged(f"{_CONFIG}:check_adapter_config", "LoRA. merge", "an adapter of another kind", peft_type="LOHA")
merged(
    f"{_CONFIG}:check_adapter_config", "A and B alone", "an adapter that changes its base model",
    init_lora_weights="pissa",
)  # fmt: skip
merged(
    f"{_CONFIG}:check_adapter_config",
    "LoRA on linear layers. merge",
    "an adapter of fused experts",
    target_parameters=["x"],
)


@case(f"{_CONFIG}:check_adapter_config", "leave --adapter out")
def prompt_tuning(folder: Path) -> Attempts:
    """An adapter of tokens, which cannot be merged: the model is reordered without it."""
    adapter = write_adapter(folder / "adapter", {"prompt_embeddings": np.ones((4, 8))}, peft_type="PROMPT_TUNING")
    yield lambda: reordered(folder, "--adapter", adapter)
    yield lambda: reordered(folder)


@case(f"{_CONFIG}:read_adapter_config", "copy it again")
def damaged_adapter_config(folder: Path) -> Attempts:
    """An adapter's config that is cut short: it is copied again."""
    adapter = write_adapter(folder / "adapter", lora())
    whole = (adapter / "adapter_config.json").read_text()
    (adapter / "adapter_config.json").write_text(whole[:9])
    yield lambda: reordered(folder, "--adapter", adapter)
    (adapter / "adapter_config.json").write_text(whole)


@case(f"{_CONFIG}:read_adapter_config", "save the adapter with peft")
def adapter_config_without_a_type(folder: Path) -> Attempts:
    """An adapter's config without its kind: peft writes one."""
    adapter = write_adapter(folder / "adapter", lora(), peft_type=3)
    yield lambda: reordered(folder, "--adapter", adapter)
    yield lambda: reordered(folder, "--adapter", write_adapter(folder / "saved", lora()))


def foreign(story: str, make: object, option: str) -> None:
    """List a case of a file of another model: one of this model is given."""

    @case(_FOREIGN, "", f"{story}: of this model")
    def scene(folder: Path) -> Attempts:
        yield lambda: reordered(folder, option, make(folder / "other", 23))
        shutil.rmtree(folder / "other") if (folder / "other").is_dir() else (folder / "other").unlink()
        yield lambda: reordered(folder, option, make(folder / "other", 24))


def adapter_at(path: Path, n_neurons: int) -> Path:
    """Write an adapter."""
    return write_adapter(path, lora(n_neurons))


def imatrix_at(path: Path, n_neurons: int) -> Path:
    """Write an importance matrix."""
    write_imatrix(path, {f"blk.{layer}.ffn_down.weight": n_neurons for layer in range(2)})
    return path


def predictors_at(path: Path, n_neurons: int) -> Path:
    """Write the counts of a layer."""
    path.mkdir()
    write_torch_file(path / "activation_1.pt", np.arange(n_neurons))
    return path


foreign("an adapter of a model of other widths", adapter_at, "--adapter")
foreign("an importance matrix of a model of other widths", imatrix_at, "--carrier")
foreign("counts of a model of other widths", predictors_at, "--carrier")


@case("checkpoint/carriers/imatrix.py:describe_imatrix")
def no_importance_matrix(folder: Path) -> Attempts:
    """A text as an importance matrix: one that llama.cpp wrote."""
    (folder / "text").write_text("A text.")
    yield lambda: reordered(folder, "--carrier", folder / "text")
    yield lambda: reordered(folder, "--carrier", imatrix_at(folder / "imatrix", 24))


_PLAN = "checkpoint/carriers/plan.py:plan_carriers"


@case(_PLAN, "correct the path")
def adapter_as_carrier(folder: Path) -> Attempts:
    """An adapter given with --carrier: with --adapter, or the right directory."""
    adapter, counts = adapter_at(folder / "adapter", 24), predictors_at(folder / "counts", 24)
    yield lambda: reordered(folder, "--carrier", adapter)
    yield lambda: reordered(folder, "--carrier", counts)
    yield lambda: reordered(folder, "--adapter", adapter)


@case(_PLAN, "rename one")
def carriers_of_one_name(folder: Path) -> Attempts:
    """Two importance matrices of one name: one is renamed."""
    for name in "ab":
        (folder / name).mkdir()
        imatrix_at(folder / name / "imatrix.dat", 24)
    yield lambda: reordered(folder, "--carrier", folder / "a/imatrix.dat", "--carrier", folder / "b/imatrix.dat")
    (folder / "b/imatrix.dat").rename(folder / "b/second.dat")
    yield lambda: reordered(folder, "--carrier", folder / "a/imatrix.dat", "--carrier", folder / "b/second.dat")


@case("checkpoint/carriers/predictor.py:describe_layer_file")
def predictor_for_experts(folder: Path) -> Attempts:
    """A predictor for a layer with experts: left out."""
    tensors = {"model.layers.0.input_layernorm.weight": np.ones(8, "f4")}
    for expert in range(2):
        for name, shape in (("w1", (24, 8)), ("w3", (24, 8)), ("w2", (8, 24))):
            tensors[f"model.layers.0.block_sparse_moe.experts.{expert}.{name}.weight"] = np.ones(shape, "f4")
    config = {"model_type": "mixtral", "intermediate_size": 24, "num_hidden_layers": 1, "num_local_experts": 2}
    model = write_checkpoint(folder / "experts", tensors, config)
    placement = placement_at(folder / "p", names=("layers.0.experts.0",))
    (folder / "predictors").mkdir()
    write_torch_file(folder / "predictors/model_0.pt", {"fc2.weight": np.ones((24, 2), "f4")})
    options = ("reorder", model, "--placement", placement, "--out", folder / "out")
    yield lambda: run(*options, "--carrier", folder / "predictors")
    yield lambda: run(*options)


# GGUF.

_GGUF = "checkpoint/output/gguf_export.py:check_exportable"


@case(_GGUF, "no gguf package")
def without_gguf(folder: Path) -> Attempts:
    """The gguf package is not installed: it is."""
    find = importlib.util.find_spec
    with patch.object(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name)):
        yield lambda: reordered(folder, "--gguf", folder / "a.gguf")
    yield lambda: reordered(folder, "--gguf", folder / "a.gguf")


@case(_GGUF, "leave --gguf out")
def quantised_gguf(folder: Path) -> Attempts:
    """Quantised weights, as GGUF: without."""
    model = describe_ffn(Checkpoint.open(write_quantised(folder / "m", "int8 by output")))
    yield lambda: check_exportable(model)
    yield lambda: None
