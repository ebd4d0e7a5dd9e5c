"""Tiny models of many families, written by transformers, with a tokenizer and text."""

from __future__ import annotations

import json

import numpy as np
import torch
import transformers

N_WORDS = 96
SMALL = {
    "vocab_size": N_WORDS, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3,
    "max_position_embeddings": 64,
}  # fmt: skip
GATED = SMALL | {"intermediate_size": 76, "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "relu"}
WITHOUT_HEAD_DIM = {key: value for key, value in GATED.items() if key != "head_dim"}
T5 = {
    "vocab_size": N_WORDS, "d_model": 32, "d_kv": 8, "d_ff": 76, "num_layers": 2, "num_decoder_layers": 3,
    "num_heads": 4, "decoder_start_token_id": 0, "pad_token_id": 0,
}  # fmt: skip

CAUSAL = {
    "llama": lambda **more: transformers.LlamaConfig(**GATED | more),
    "mistral": lambda **more: transformers.MistralConfig(**GATED | {"sliding_window": 8} | more),
    "qwen2": lambda **more: transformers.Qwen2Config(
        **WITHOUT_HEAD_DIM
        | {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1, "tie_word_embeddings": True}
        | more
    ),
    "phi3": lambda **more: transformers.Phi3Config(**WITHOUT_HEAD_DIM | {"pad_token_id": 0} | more),
    "gemma": lambda **more: transformers.GemmaConfig(**GATED | {"hidden_activation": "relu"} | more),
    "opt": lambda **more: transformers.OPTConfig(**SMALL | {"ffn_dim": 76, "word_embed_proj_dim": 24} | more),
    "gpt2": lambda **more: transformers.GPT2Config(
        vocab_size=N_WORDS, n_embd=32, n_head=4, n_layer=3, n_positions=64, n_inner=76, activation_function="relu",
        **more,
    ),
    "mixtral": lambda **more: transformers.MixtralConfig(
        **GATED | {"num_local_experts": 4, "num_experts_per_tok": 2} | more
    ),
    "qwen2-moe": lambda **more: transformers.Qwen2MoeConfig(
        **WITHOUT_HEAD_DIM
        | {"moe_intermediate_size": 20, "shared_expert_intermediate_size": 28, "num_experts": 5,
           "num_experts_per_tok": 2, "mlp_only_layers": [1]}
        | more
    ),
}  # fmt: skip
"""ReLU in every FFN, so that some neurons are off; neurons in no whole number of bytes."""

ENCODER_DECODER = {
    "t5": lambda: transformers.T5Config(**T5, feed_forward_proj="relu"),
    "t5-gated": lambda: transformers.T5Config(**T5, feed_forward_proj="gated-relu"),
}


def write_tokenizer(path):
    """Write a tokenizer that knows the words w2, w3 and so on."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    words = {"<pad>": 0, "<s>": 1} | {f"w{i}": i for i in range(2, N_WORDS)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Whitespace()
    # A start token, which a capture must not put in front of the text.
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>")
    fast.save_pretrained(path)


def write_model(path, config, *, dtype=torch.float32, max_shard_size="1GB"):
    """Write a model with random weights, biases included, and its tokenizer; return its path."""
    auto = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    torch.manual_seed(0)
    model = auto.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.to(dtype).save_pretrained(path, max_shard_size=max_shard_size)
    write_tokenizer(path)
    return path


def write_text(path, n_words=500, seed=0):
    """Write a text of random words; return its token ids."""
    ids = np.random.default_rng(seed).integers(2, N_WORDS, n_words)
    path.write_text(" ".join(f"w{i}" for i in ids))
    return ids


def load(path, dtype=torch.float64):
    """Load a model as its users would."""
    config = json.loads((path / "config.json").read_text())
    auto = (
        transformers.AutoModelForSeq2SeqLM
        if config.get("is_encoder_decoder", False)
        else transformers.AutoModelForCausalLM
    )
    # Fused products of all experts at once know no float64.
    return auto.from_pretrained(path, dtype=dtype, experts_implementation="eager").eval()
