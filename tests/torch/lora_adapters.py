"""LoRA adapters for tiny models, as peft writes them, and what they do, written out by hooks."""

from __future__ import annotations

import json
import math
import re

import torch
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

FFN = r"(gate_proj|up_proj|down_proj|fc1|fc2|c_fc|mlp\.c_proj|gate_up_proj)"
ATTENTION = r"(q_proj|out_proj|c_attn|qkv_proj)"
RANK, ALPHA = 3, 6


def write_lora(path, model, modules=f"({FFN}|{ATTENTION})", *, rank=RANK, alpha=ALPHA, seed=0, zero=False, **config):
    """Write an adapter of all linear layers whose names end with a pattern; return its path.

    `rank` may be a function of the module's name; `config` are further keys.
    """
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear | Conv1D) and re.search(f"{modules}$", name):
            n_out, n_in = module.weight.T.shape if isinstance(module, Conv1D) else module.weight.shape
            own = rank(name) if callable(rank) else rank
            a, b = torch.randn(own, n_in, generator=generator), torch.randn(n_out, own, generator=generator)
            tensors[f"base_model.model.{name}.lora_A.weight"] = 0.2 * a
            tensors[f"base_model.model.{name}.lora_B.weight"] = 0.0 * b if zero else 0.2 * b
    assert tensors, modules
    first = rank if isinstance(rank, int) else RANK
    write_adapter(path, tensors, {"r": first, "lora_alpha": alpha, **config})
    return path


def write_adapter(path, tensors, config):
    """Write the two files of an adapter."""
    path.mkdir(exist_ok=True)
    own = {"peft_type": "LORA", "bias": "none", "base_model_name_or_path": "model"}
    (path / "adapter_config.json").write_text(json.dumps(own | config))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "adapter_model.safetensors")


def products_of(path):
    """Return A and B of an adapter by module."""
    tensors, products = load_file(path / "adapter_model.safetensors"), {}
    for name, tensor in tensors.items():
        module, _, side = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        products.setdefault(module, {})[side] = tensor
    return {module: (sides["lora_A"], sides["lora_B"]) for module, sides in products.items()}


def plain_scale(module, rank):
    """Return the scale of adapters that say nothing special."""
    return ALPHA / rank


def root_scale(module, rank):
    """Return the scale of rsLoRA."""
    return ALPHA / math.sqrt(rank)


def adapt_by_hooks(model, path, scale=plain_scale, masked=lambda name, x: x):
    """Let the modules of a model compute W x + s B (A x) in two products; `masked` changes x before both."""
    for name, (a, b) in products_of(path).items():
        module = model.get_submodule(name)
        a, b = (matrix.to(module.weight.dtype) for matrix in (a, b))
        module.register_forward_pre_hook(lambda module, inputs, name=name: masked(name, inputs[0]))
        scaled = scale(name, len(a)) * b
        module.register_forward_hook(lambda module, inputs, output, a=a, b=scaled: output + (inputs[0] @ a.T) @ b.T)
    return model
