"""Configs of any model type that transformers knows, made small: every key that a config has in common with `SIZES`."""

from __future__ import annotations

import dataclasses
from typing import Any

import transformers as hf

SIZES = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 8, "max_position_embeddings": 64, "sliding_window": 16,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    # Encoders with decoders.
    "d_model": 32, "d_ff": 80, "d_kv": 8, "num_layers": 2, "num_heads": 4, "encoder_layers": 2, "decoder_layers": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 80, "decoder_ffn_dim": 72,
    "max_source_positions": 64, "max_target_positions": 64, "num_mel_bins": 8,
    # Experts.
    "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40, "shared_intermediate_size": 40,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "top_k_experts": 2, "n_shared_experts": 2, "num_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 1,
    "topk_group": 1,
    # Attention through narrow states, and what selects from it.
    "kv_lora_rank": 8, "q_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "index_n_heads": 2, "index_head_dim": 16, "index_topk": 8,
    # Layers without attention.
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "linear_num_heads": 4, "linear_head_dim": 8,
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_expand": 2,
    "mamba_num_heads": 8, "mamba_head_dim": 8, "n_mamba_heads": 8, "mamba_d_ssm": 64, "ssm_state_size": 8,
    "n_groups": 1, "chunk_size": 8,
    # Embeddings of each layer.
    "vocab_size_per_layer_input": 96, "hidden_size_per_layer_input": 8,
}  # fmt: skip
TOWER_SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "head_dim": 8,
    "num_key_value_heads": 4, "image_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 32, "num_heads": 4,
    "out_hidden_size": 32, "num_position_embeddings": 16, "num_layers": 1,
}  # fmt: skip


def tiny_config(model_type: str, **own: Any) -> hf.PretrainedConfig:
    """Return a small config of a model type; keys given, also those of a part such as ``text_config``, come first."""
    config_class = hf.CONFIG_MAPPING[model_type]
    return config_class(**_keys(config_class, SIZES, own))


def _keys(config_class: type, sizes: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(config_class)}
    keys = {key: value for key, value in sizes.items() if key in known}
    for name in config_class.sub_configs or {}:
        given = own.get(name, {})
        part = hf.CONFIG_MAPPING[given["model_type"]] if "model_type" in given else type(getattr(config_class(), name))
        if part is not type(None):
            of_part = _keys(part, SIZES if name == "text_config" else TOWER_SIZES, given)
            keys[name] = of_part | {"model_type": part.model_type}
    return keys | {key: value for key, value in own.items() if key not in keys or not isinstance(value, dict)}
