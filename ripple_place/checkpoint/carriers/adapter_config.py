"""The config of a LoRA adapter: which of its keys leave alone what the adapter's tensors mean, and which do not.

Every key is decided here. A key that is not listed may say that rows, names or base weights mean something else, so it
must not be set.

References
----------
huggingface/peft 0.21, tuners/lora/config.py and config.py (keys), tuners/lora/layer.py (initialisation),
tuners/lora/variants.py (BD-LoRA, QA-LoRA, KaSA, Arrow, VeLoRA, MonteCLoRA).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.carriers.carrier import unsupported_error
from ripple_place.errors import CheckpointError
from ripple_place.hub import download_command
from ripple_place.jsontext import read_json_object

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG_FILE = "adapter_config.json"
MERGE = "merge the adapter into its base model (peft: merge_and_unload) and name the merged checkpoint"

_HARMLESS = frozenset({
    # Where it comes from, and how it was trained.
    "auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "peft_type", "peft_version",
    "revision", "runtime_config", "task_type",
    # Which modules it is for, and how strong and wide it is in each: the tensors in the file say which there are.
    "alpha_pattern", "ensure_weight_tying", "exclude_modules", "layers_pattern", "layers_to_transform", "lora_alpha",
    "modules_to_save", "r", "rank_pattern", "target_modules", "use_rslora",
    # What is beside A and B has rows by neuron and is permuted (`lora_B.bias`, DoRA's magnitudes, biases of the base).
    "bias", "lora_bias", "use_dora",
    # How the base stores its matrix. A is [r, in] and B is [out, r] either way.
    "fan_in_fan_out",
    # Rows of embeddings, and tokens from which the adapter is switched on.
    "alora_invocation_tokens", "trainable_token_indices",
    # Settings of what another key switches on: `init_lora_weights`, `megatron_config` and `use_qalora`.
    "corda_config", "eva_config", "loftq_config", "lora_ga_config", "megatron_core", "qalora_group_size",
    # Of peft before 0.3: whether the weights were merged for evaluation.
    "merge_weights",
})  # fmt: skip
_MEANING = {
    "target_parameters": "LoRA on parameters, such as fused experts",
    "layer_replication": "numbers of layers after replication, not those of the base model",
    "use_bdlora": "block-diagonal matrices, between whose blocks no row may move",
    "use_qalora": "inputs of A pooled in groups of neighbours",
    "kasa_config": "a base model whose smallest singular values are cut off when it is loaded",
    "arrow_config": "a router that mixes other adapters",
    "velora_config": "inputs compressed in groups of neighbours",
    "monteclora_config": "weights drawn at random around those in the file",
    "megatron_config": "the matrices of one rank of a parallel model",
    "enable_lora": "LoRA on parts of a merged projection, as peft before 0.3 had it",
}
"""Keys that change what a tensor's name or rows mean, with what they say when they are set."""
PROMPTS = ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CPT")
"""Adapters that add tokens, or keys and values of attention, and cannot be merged."""
_PLAIN_INITIALISATIONS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
"""What `init_lora_weights` may be: these set A and B only, and the file overwrites both. PiSSA, OLoRA, CorDA, LoftQ and
LoRA-GA also subtract a product from the base model whenever the adapter is loaded. QR (OLoRA), quantisation blocks
(LoftQ) and random numbers do not follow a permutation; singular vectors follow it up to rounding."""


def check_adapter_config(directory: Path) -> None:
    """Raise unless an adapter is a LoRA whose tensors mean what their names say.

    Raises
    ------
    CheckpointError
        If its config is malformed.
    UnsupportedError
        If it is no LoRA, or a key that changes the meaning of its tensors, or an unknown one, is set.
    OSError
        If the config cannot be read.
    """
    path = directory / CONFIG_FILE
    config = read_adapter_config(directory)
    if config["peft_type"] in PROMPTS:
        remedy = "leave --adapter out: this one has nothing by neuron, and fits the reordered model as it is"
        raise unsupported_error(directory, config["peft_type"], "LoRA on linear layers", remedy)
    if config["peft_type"] != "LORA":
        raise unsupported_error(directory, config["peft_type"], "LoRA", MERGE)
    for key, value in config.items():
        if key in _HARMLESS or _is_unset(value):
            continue
        if key == "init_lora_weights":
            # 1 equals True, and is none of what peft knows.
            if any(value is plain or (isinstance(value, str) and value == plain) for plain in _PLAIN_INITIALISATIONS):
                continue
            found = f"{key} {value!r}, which changes the base model when the adapter is loaded"
            raise unsupported_error(path, found, "an initialisation of A and B alone", MERGE)
        found = f"{key}: {_MEANING[key]}" if key in _MEANING else f"{key} set, a key that no rule covers"
        raise unsupported_error(path, found, "LoRA on linear layers", MERGE)


def read_adapter_config(directory: Path) -> Mapping[str, Any]:
    """Return a config that names its kind of adapter.

    Raises
    ------
    CheckpointError
        If it is malformed.
    OSError
        If it cannot be read.
    """
    path = directory / CONFIG_FILE
    again = download_command(path.parent, [path.name], force=True)
    config = read_json_object(path, CheckpointError, remedy=f"copy it again, or download it: {again}")
    if not isinstance(config.get("peft_type"), str):
        raise CheckpointError(
            path, found=f"peft_type {config.get('peft_type')!r}", expected="a config that peft saved",
            remedy="save the adapter with peft, which writes one",
        )  # fmt: skip
    return config


def _is_unset(value: Any) -> bool:
    """Tell whether a value switches nothing on. 0 may be the number of a layer."""
    return value is None or value is False or (isinstance(value, (dict, list, str)) and not value)
