"""Tiny models of every architecture family, built by transformers itself from a config."""

from __future__ import annotations

import inspect

import torch
import transformers as hf

from tests.torch.tiny import tiny_config

HIDDEN, WIDTH = 32, 80
SMALL = {
    "vocab_size": 96, "hidden_size": HIDDEN, "num_attention_heads": 4, "num_hidden_layers": 3,
    "max_position_embeddings": 64,
}  # fmt: skip
GATED = SMALL | {"intermediate_size": WIDTH, "num_key_value_heads": 2}
HEADS = GATED | {"head_dim": 8}
GPT = {"vocab_size": 96, "n_embd": HIDDEN, "n_layer": 3, "n_head": 4, "n_positions": 64}
EXPERTS = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2}
DEEPSEEK = SMALL | {
    "intermediate_size": WIDTH, "num_key_value_heads": 4, "moe_intermediate_size": 24, "n_routed_experts": 4,
    "n_shared_experts": 2, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8, "n_group": 1, "topk_group": 1,
}  # fmt: skip
T5 = {"vocab_size": 96, "d_model": HIDDEN, "d_kv": 8, "d_ff": WIDTH, "num_layers": 2, "num_heads": 4}

DENSE = {
    "opt": lambda: hf.OPTConfig(**SMALL, ffn_dim=WIDTH, word_embed_proj_dim=HIDDEN),
    "opt-vocabulary-is-n": lambda: hf.OPTConfig(**SMALL | {"vocab_size": 80}, ffn_dim=80, word_embed_proj_dim=HIDDEN),
    "opt-hidden-is-n": lambda: hf.OPTConfig(**SMALL, ffn_dim=HIDDEN, word_embed_proj_dim=HIDDEN),
    "opt-no-bias": lambda: hf.OPTConfig(**SMALL, ffn_dim=WIDTH, word_embed_proj_dim=HIDDEN, enable_bias=False),
    "gpt2": lambda: hf.GPT2Config(**GPT),
    "gpt2-hidden-is-n": lambda: hf.GPT2Config(**GPT, n_inner=HIDDEN),
    "gpt_bigcode": lambda: hf.GPTBigCodeConfig(**GPT),
    "gpt_bigcode-hidden-is-n": lambda: hf.GPTBigCodeConfig(**GPT, n_inner=HIDDEN),
    "gpt_neo": lambda: hf.GPTNeoConfig(
        vocab_size=96, hidden_size=HIDDEN, num_layers=2, num_heads=4, max_position_embeddings=64,
        attention_types=[[["global", "local"], 1]], intermediate_size=WIDTH,
    ),
    "starcoder2": lambda: hf.Starcoder2Config(**GATED),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**SMALL, intermediate_size=WIDTH),
    "falcon": lambda: hf.FalconConfig(**SMALL),
    "falcon-bias": lambda: hf.FalconConfig(**SMALL, bias=True, ffn_hidden_size=48),
    "bloom": lambda: hf.BloomConfig(vocab_size=96, hidden_size=HIDDEN, n_layer=3, n_head=4),
    "gptj": lambda: hf.GPTJConfig(**GPT, rotary_dim=8),
    "codegen": lambda: hf.CodeGenConfig(**GPT, rotary_dim=8),
    "mpt": lambda: hf.MptConfig(vocab_size=96, d_model=HIDDEN, n_layers=3, n_heads=4, max_seq_len=64),
    "llama": lambda: hf.LlamaConfig(**HEADS),
    "llama-hidden-is-n": lambda: hf.LlamaConfig(**HEADS | {"intermediate_size": HIDDEN}),
    "llama-vocabulary-is-2n": lambda: hf.LlamaConfig(**HEADS | {"vocab_size": 160}),
    "llama-mlp-bias": lambda: hf.LlamaConfig(**HEADS, mlp_bias=True, tie_word_embeddings=True),
    "mistral": lambda: hf.MistralConfig(**HEADS),
    "qwen2": lambda: hf.Qwen2Config(**GATED),
    "qwen3": lambda: hf.Qwen3Config(**HEADS),
    "gemma": lambda: hf.GemmaConfig(**HEADS),
    "gemma2": lambda: hf.Gemma2Config(**HEADS),
    "gemma3": lambda: hf.Gemma3TextConfig(**HEADS),
    "gemma3n": lambda: hf.Gemma3nTextConfig(
        **{key: value for key, value in HEADS.items() if key != "intermediate_size"} | {"num_hidden_layers": 2},
        intermediate_size=[80, 48], num_kv_shared_layers=0, vocab_size_per_layer_input=96,
        hidden_size_per_layer_input=8, layer_types=["full_attention"] * 2, activation_sparsity_pattern=[0.0, 0.0],
    ),
    "granite": lambda: hf.GraniteConfig(**GATED),
    "cohere": lambda: hf.CohereConfig(**GATED),
    "cohere2": lambda: hf.Cohere2Config(**GATED),
    "olmo2": lambda: hf.Olmo2Config(**GATED),
    "stablelm": lambda: hf.StableLmConfig(**GATED),
    "bitnet": lambda: hf.BitNetConfig(**GATED),
    "nemotron": lambda: hf.NemotronConfig(**HEADS),
    "phi": lambda: hf.PhiConfig(**SMALL, intermediate_size=WIDTH),
    "phi3": lambda: hf.Phi3Config(**GATED, pad_token_id=0),
    "phi3-hidden-is-2n": lambda: hf.Phi3Config(**GATED | {"intermediate_size": HIDDEN // 2}, pad_token_id=0),
    "glm4": lambda: hf.Glm4Config(**HEADS, pad_token_id=0),
    "t5": lambda: hf.T5Config(**T5),
    "t5-gated": lambda: hf.T5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "albert": lambda: hf.AlbertConfig(
        vocab_size=96, embedding_size=16, hidden_size=HIDDEN, num_hidden_layers=4, num_hidden_groups=2,
        num_attention_heads=4, intermediate_size=WIDTH,
    ),
    "bert": lambda: hf.BertConfig(**SMALL, intermediate_size=WIDTH, is_decoder=True),
}  # fmt: skip
EXPERT_MODELS = {
    "mixtral": lambda: hf.MixtralConfig(**GATED, num_local_experts=4),
    "phimoe": lambda: hf.PhimoeConfig(**GATED, num_local_experts=4),
    "minimax": lambda: hf.MiniMaxConfig(**HEADS, num_local_experts=4),
    "qwen2_moe": lambda: hf.Qwen2MoeConfig(
        **GATED, moe_intermediate_size=24, shared_expert_intermediate_size=40, num_experts=4, num_experts_per_tok=2,
        mlp_only_layers=[1],
    ),
    "qwen3_moe": lambda: hf.Qwen3MoeConfig(**HEADS, **EXPERTS),
    "olmoe": lambda: hf.OlmoeConfig(**GATED, num_experts=4, num_experts_per_tok=2),
    "deepseek_v2": lambda: hf.DeepseekV2Config(**DEEPSEEK),
    "deepseek_v3": lambda: hf.DeepseekV3Config(**DEEPSEEK),
    "glm4_moe": lambda: hf.Glm4MoeConfig(
        **HEADS, moe_intermediate_size=24, n_routed_experts=4, num_experts_per_tok=2, first_k_dense_replace=1,
        n_group=1, topk_group=1,
    ),
    "ernie4_5_moe": lambda: hf.Ernie4_5_MoeConfig(
        **GATED, moe_num_experts=4, moe_intermediate_size=24, moe_k=2
    ),
    "granitemoe": lambda: hf.GraniteMoeConfig(**GATED, num_local_experts=4, num_experts_per_tok=2),
    "granitemoeshared": lambda: hf.GraniteMoeSharedConfig(
        **GATED, num_local_experts=4, num_experts_per_tok=2, shared_intermediate_size=40
    ),
    "jetmoe": lambda: hf.JetMoeConfig(
        vocab_size=96, hidden_size=HIDDEN, num_hidden_layers=2, intermediate_size=WIDTH, num_key_value_heads=2,
        kv_channels=8, num_local_experts=4, num_experts_per_tok=2,
    ),
    "llama4": lambda: hf.Llama4TextConfig(
        **HEADS, intermediate_size_mlp=48, num_local_experts=4, num_experts_per_tok=1, interleave_moe_layer_step=2,
        pad_token_id=0,
    ),
    "gpt_oss": lambda: hf.GptOssConfig(**HEADS, num_local_experts=4, num_experts_per_tok=2),
    "dbrx": lambda: hf.DbrxConfig(
        d_model=HIDDEN, n_heads=4, n_layers=2, max_seq_len=64, vocab_size=96,
        ffn_config={"ffn_hidden_size": WIDTH, "moe_num_experts": 4, "moe_top_k": 2},
        attn_config={"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 1e4},
    ),
}  # fmt: skip
ONE_FULL = {"layer_types": ["linear_attention", "full_attention"]}
SECTIONS = {"rope_type": "default", "rope_theta": 1e4}
QWEN4 = ONE_FULL | {
    "hc_lowrank": 8, "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 8,
    "indexer_compress_ratio": 4, "heads_per_ngram": 2, "ngram_vocab_size_base": 50, "split_ngram_parts": 2,
}  # fmt: skip
NEMOTRON = {
    "num_hidden_layers": 4, "layers_block_type": ["mlp", "full_attention", "moe", "linear_attention"],
    "moe_shared_expert_intermediate_size": 40,
}  # fmt: skip
TOWER = {"image_size": 32, "patch_size": 8}
WIDE = {
    "use_double_wide_mlp": True, "num_kv_shared_layers": 1, "num_hidden_layers": 3,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
}  # fmt: skip
NARROW = {"num_key_value_heads": 4}
TINY: dict[str, dict] = {
    # Llama's names.
    "qwen3_vl": {},
    "qwen3_5": {"text_config": ONE_FULL},
    "qwen3_5_text": ONE_FULL,
    "cohere2_vision": {"alignment_intermediate_size": 64},
    "mllama": {"text_config": {"cross_attention_layers": [1]}},
    "deepseek_vl": {},
    "idefics3": {},
    "smolvlm": {},
    "exaone4_5": {},
    "granite_swa": {},
    "hyperclovax": {},
    "cwm": {},
    "internlm3": {},
    "vaultgemma": {},
    "youtu": NARROW,
    "minicpm3": NARROW,
    "diffllama": {},
    "iquestcoder": {},
    "doge": {},
    "doge-experts": {"is_moe": True, "num_experts": 16},
    "muse_glimmer": {"projector_hidden_size": 64},
    # Others.
    "granitemoe_swa": {},
    "phi4_multimodal": {"audio_config": {"num_blocks": 1, "ext_pw_out_channel": 32, "nemo_conv_channels": 32}},
    "glm4v": {"text_config": {"rope_parameters": SECTIONS | {"mrope_section": [1, 1, 2]}}},
    "longt5": {"encoder_attention_type": "transient-global"},
    "jais2": {},
    "apertus": {},
    "nanochat": {},
    "gemma4": {},
    "gemma4-wide": {"text_config": WIDE},
    "gemma4-experts": {"text_config": {"enable_moe_block": True}},
    "gemma4_text": {"enable_moe_block": True, "num_experts": 3},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon_h1": {},
    "bamba": {"attn_layer_indices": [1]},
    "bart": {},
    "bart-decoder": {"is_encoder_decoder": False, "is_decoder": True},
    "mbart": {},
    "marian": {"activation_function": "relu", "decoder_start_token_id": 0},
    "pegasus": {},
    "m2m_100": {},
    "whisper": {"decoder_start_token_id": 1},
    "modernbert": {"mlp_bias": True},
    "clip": {},
    "clip_text_model": {},
    "clip_vision_model": TOWER,
    "siglip": {},
    "siglip_vision_model": TOWER,
    "rwkv": {},
    "zamba2": {
        "num_hidden_layers": 3,
        "layers_block_type": ["hybrid", "linear_attention", "hybrid"],
        "adapter_rank": 4,
    },
    "zamba2-two-blocks": {
        "num_hidden_layers": 3,
        "layers_block_type": ["hybrid"] * 3,
        "adapter_rank": 4,
        "num_mem_blocks": 2,
    },
}
"""Model types whose tensors have the same names on disk as in transformers."""
TINY_TWO_FORMS: dict[str, dict] = {
    "qwen2_vl": {"text_config": {"rope_parameters": SECTIONS | {"mrope_section": [1, 1, 2]}}},
    "qwen2_5_vl": {"text_config": {"rope_parameters": SECTIONS | {"mrope_section": [1, 1, 2]}}},
    "internvl": {},
    "internvl-of-experts": {"text_config": {"model_type": "qwen3_moe"}},
    "llava_next": {},
    "llava_onevision": {},
    "aya_vision": {},
    "olmo_hybrid": ONE_FULL,
    "qwen3_next": ONE_FULL,
    "qwen3_5_moe": {"text_config": ONE_FULL},
    "qwen3_5_moe_text": ONE_FULL,
    "glm4_moe_lite": NARROW,
    "glm4v_moe": {"text_config": {"rope_parameters": SECTIONS | {"mrope_section": [1, 1, 0]}}},
    "glm_moe_dsa": NARROW,
    "deepseek_v32": NARROW,
    "qwen4_exp": {"text_config": QWEN4},
    "qwen4_exp_text": QWEN4 | {"ple_layer_ids": [1]},
    "mimo_v2_flash": {},
    "solar_open": {},
    "bailing_hybrid": ONE_FULL | NARROW,
    "exaone_moe": {},
    "flex_olmo": {},
    "sarvam_moe": {},
    "cohere2_moe": {},
    "mellum": {},
    "afmoe": {},
    "axk1": NARROW,
    "kolibri1": {},
    "hunyuan_v1_moe": {},
    "hy_v3": {},
    "minimax_m2": {},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lfm3": {"layer_types": ["conv", "full_attention"]},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1, "expert_layer_period": 2},
    "nemotron_h": NEMOTRON,
    "nemotron_h-latent": NEMOTRON | {"moe_latent_size": 16},
    "deepseek_v4": {},
    "kimi_k25": {"text_config": NARROW},
    "kimi_linear": NARROW | ONE_FULL,
    "mistral_large4": {"text_config": NARROW},
    "vit": TOWER,
}
"""Model types that transformers renames or fuses when it loads them, so that they have two forms on disk."""
CONFIGS = DENSE | EXPERT_MODELS
CONFIGS |= {
    name: lambda name=name, own=own: tiny_config(name.partition("-")[0], **own)
    for name, own in (TINY | TINY_TWO_FORMS).items()
}


def auto_class(config: hf.PretrainedConfig) -> type:
    """Return the class that builds and loads a model with this config, the one that has all of it."""
    for auto in (
        hf.AutoModelForImageTextToText, hf.AutoModelForCausalLM, hf.AutoModelForSeq2SeqLM, hf.AutoModelForMaskedLM,
        hf.AutoModelForSpeechSeq2Seq, hf.AutoModelForZeroShotImageClassification, hf.AutoModelForImageClassification,
        hf.AutoModel,
    ):  # fmt: skip
        is_fit = auto is not hf.AutoModelForCausalLM or not (config.is_encoder_decoder or config.model_type == "albert")
        if is_fit and type(config) in auto._model_mapping:
            return auto
    raise KeyError(config.model_type)


def save_random(config: hf.PretrainedConfig, path, *, dtype=torch.float32, **options) -> None:
    """Save a model with random weights the way transformers does."""
    model = auto_class(config).from_config(config).to(dtype)
    with torch.no_grad():
        # Fresh biases and norms are zeros and ones, which no permutation changes; fused experts may be empty memory.
        for name, parameter in model.named_parameters():
            noise = 0.05 * torch.randn_like(parameter)
            parameter.copy_(noise if "experts" in name else parameter + noise)
        # Biases by which experts are chosen, and the like.
        stored = model.state_dict()
        for name, buffer in model.named_buffers():
            if name in stored and buffer.is_floating_point():
                buffer.add_(0.05 * torch.randn_like(buffer))
    model.save_pretrained(path, max_shard_size="30KB", **options)


def logits(path, config: hf.PretrainedConfig) -> torch.Tensor:
    """Return the float64 logits of a checkpoint on fixed tokens."""
    # Grouped matrix products have no float64.
    options = {"experts_implementation": "eager"} if config.model_type not in ("jetmoe", "dbrx") else {}
    model = auto_class(config).from_pretrained(path, dtype=torch.float64, **options).eval()
    tokens = torch.arange(48).reshape(2, 24) * 7 % 80
    inputs = {"input_ids": tokens}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = tokens
    if config.model_type == "whisper":
        inputs["input_features"] = torch.linspace(-1, 1, 2 * 8 * 128, dtype=torch.float64).reshape(2, 8, 128)
    if config.model_type in ("clip", "siglip", "vit") or config.model_type.endswith("_vision_model"):
        inputs["pixel_values"] = torch.linspace(-1, 1, 2 * 3 * 32 * 32, dtype=torch.float64).reshape(2, 3, 32, 32)
    taken = inspect.signature(model.forward).parameters
    with torch.no_grad():
        output = model(**{name: value for name, value in inputs.items() if name in taken})
    for name in ("logits", "logits_per_image", "last_hidden_state"):
        if name in output:
            return output[name]
    raise KeyError(config.model_type)
