"""LoRA adapters as additions to weights: the matrices A and B of each adapted module, and the factor of their product.

An adapted linear layer computes ``W x + scale * B (A x)``, which is ``(W + scale * B A) x``.

References
----------
huggingface/peft 0.21, tuners/lora/layer.py (`get_delta_weight`, scaling), tuners/lora/model.py (patterns of rank and
alpha), utils/other.py (`get_pattern_key`).
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.carriers.adapter import WEIGHTS_FILE, check_is_adapter, open_adapter_weights
from ripple_place.checkpoint.carriers.adapter_config import (
    CONFIG_FILE,
    MERGE,
    PROMPTS,
    check_adapter_config,
    read_adapter_config,
)
from ripple_place.checkpoint.carriers.carrier import unsupported_error
from ripple_place.errors import CheckpointError
from ripple_place.inputfile import open_stream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ripple_place.tensorfile import TensorExtent, TensorFile

_DIGITS = 12
"""Of a digest in metadata: enough to tell the adapters of one profile apart."""
_NAME = re.compile(r"(?:base_model\.model\.)?(?P<module>.+?)\.lora_(?P<side>[AB])(?:\.[^.]+)?\.weight")
_DTYPES = ("F64", "F32", "BF16", "F16")
_MORE_THAN_A_PRODUCT = {
    "use_dora": "DoRA, which also scales the columns of the sum",
    "lora_bias": "biases of B",
    "modules_to_save": "modules that replace those of the base model",
    "trainable_token_indices": "embeddings of some tokens",
    "ensure_weight_tying": "LoRA of an embedding through the output head that shares its weights",
}
"""Keys of the config that say that an adapter is more than products that are added to weights."""
_LARGEST = 1e9
"""Above any rank and alpha."""
_DEFAULT_RANK, _DEFAULT_ALPHA = 8, 8
"""What peft takes where the config says nothing."""


@dataclass(frozen=True)
class LoraProduct:
    """What an adapter adds to the weight of one module: ``scale * B A``.

    Attributes
    ----------
    module : str
        Its name in the model that was trained.
    a, b : TensorExtent
        Matrices of shapes [rank, in] and [out, rank].
    scale : float
    """

    module: str
    a: TensorExtent
    b: TensorExtent
    scale: float


@dataclass(frozen=True, eq=False)
class LoraAdapter:
    """A LoRA adapter, of whose weights only the header was read.

    Attributes
    ----------
    weights : TensorFile
    products : tuple of LoraProduct
        Together they use every tensor of `weights`.
    """

    weights: TensorFile
    products: tuple[LoraProduct, ...]


def read_lora(directory: Path) -> LoraAdapter:
    """Read an adapter that adds products to weights and does nothing else.

    Parameters
    ----------
    directory : Path
        As peft saved it.

    Raises
    ------
    UsageError
        If it is no adapter directory.
    UnsupportedError
        If it is no LoRA, or does more than add a product to the weights of modules.
    CheckpointError
        If it is malformed.
    OSError
        If it cannot be read.
    """
    check_is_adapter(directory)
    config = read_adapter_config(directory)
    if config["peft_type"] in PROMPTS or config.get("alora_invocation_tokens"):
        prompts = config["peft_type"] in PROMPTS
        raise unsupported_error(
            directory, config["peft_type"] if prompts else "LoRA that some tokens switch on (aLoRA)",
            "LoRA on linear layers", "record a trace with your own code (docs/formats.md): this one cannot be merged",
        )  # fmt: skip
    check_adapter_config(directory)
    found = [f"{key}: {what}" for key, what in _MORE_THAN_A_PRODUCT.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        found.append(f"bias {config['bias']!r}: biases that replace those of the base model")
    if found:
        raise unsupported_error(directory / CONFIG_FILE, found[0], "LoRA of weights alone", MERGE)
    weights = open_adapter_weights(directory)
    products = [_product(weights, config, module, pair) for module, pair in _pairs(weights).items()]
    return LoraAdapter(weights, tuple(products))


def adapter_files(directory: Path) -> tuple[Path, Path]:
    """Return the paths of the files that say what an adapter does."""
    return directory / CONFIG_FILE, directory / WEIGHTS_FILE


def digest_of_adapter(directory: Path) -> str:
    """Return the SHA-256 of an adapter's files.

    Raises
    ------
    OSError
        If one cannot be read.
    """
    digest = hashlib.sha256()
    for path in adapter_files(directory):
        with open_stream(path) as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _pairs(weights: TensorFile) -> dict[str, dict[str, TensorExtent]]:
    """Return the matrices ``A`` and ``B`` by module; raise if a tensor is neither."""
    pairs: dict[str, dict[str, TensorExtent]] = {}
    for extent in weights.tensors.values():
        where = f"{weights.path}: tensor {extent.name}"
        match = _NAME.fullmatch(extent.name)
        if match is None and "lora_" not in extent.name:
            # Of embeddings and of a head that is adapted, peft saves the base model's weights, too.
            remedy = "save it without those (peft: save_embedding_layers=False), or " + MERGE
            raise unsupported_error(where, "weights of the base model, or in their place", "LoRA of weights", remedy)
        if match is None:
            found = "a tensor that is neither lora_A nor lora_B of a linear layer"
            raise unsupported_error(where, found, "LoRA of weights alone", MERGE)
        if len(extent.shape) != 2 or extent.dtype not in _DTYPES:
            found = f"{extent.dtype} of shape {list(extent.shape)}"
            raise _malformed(where, found, f"a matrix of {', '.join(_DTYPES)}")
        pair = pairs.setdefault(match["module"], {})
        if match["side"] in pair:
            raise _malformed(where, "a second one of its module", "one")
        pair[match["side"]] = extent
    return pairs


def label_of_adapter(name: str, digest: str) -> str:
    """Return how metadata name an adapter.

    >>> label_of_adapter("my-lora", "0123456789abcdef")
    'my-lora@0123456789ab'
    """
    return f"{name}@{digest[:_DIGITS]}"


def _product(
    weights: TensorFile, config: Mapping[str, Any], module: str, sides: Mapping[str, TensorExtent]
) -> LoraProduct:
    """Return the product of one module; raise unless its matrices fit each other and the config."""
    where = f"{weights.path}: {module}"
    if len(sides) < 2:
        raise _malformed(where, f"lora_{min(sides)} alone", "lora_A and lora_B of each module")
    a, b = sides["A"], sides["B"]
    rank = _number(weights, config, "rank_pattern", "r", module, _DEFAULT_RANK)
    alpha = _number(weights, config, "alpha_pattern", "lora_alpha", module, _DEFAULT_ALPHA)
    if not a.shape[0] == b.shape[1] == rank or rank < 1:
        raise _malformed(where, f"A {list(a.shape)} and B {list(b.shape)}", f"rank {rank:g} in both, by {CONFIG_FILE}")
    return LoraProduct(module, a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _number(
    weights: TensorFile, config: Mapping[str, Any], pattern_key: str, key: str, module: str, default: int
) -> float:
    """Return the number of a module: of the first pattern that its name ends with, else of all modules."""
    patterns = config.get(pattern_key) or {}
    try:
        fitting = [value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)]
    except (AttributeError, TypeError, re.error) as cause:
        raise _malformed(
            f"{weights.path.with_name(CONFIG_FILE)}: {pattern_key}", str(cause), "numbers by patterns of names"
        ) from cause
    value = fitting[0] if fitting else config.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _LARGEST:
        where = f"{weights.path.with_name(CONFIG_FILE)}: {pattern_key if fitting else key}"
        raise _malformed(where, repr(value), f"a number below {_LARGEST:g}")
    return value


def _malformed(where: str, found: str, expected: str) -> CheckpointError:
    return CheckpointError(
        where, found=found, expected=expected, remedy=f"copy {CONFIG_FILE} and {WEIGHTS_FILE} again, both from one run"
    )
