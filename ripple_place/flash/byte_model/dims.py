"""How many bytes the parts of a model take: dimensions, bits a value, footprints."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

PARTS = ("embedding", "lm_head", "attention", "mlp", "kv_cache", "predictors")
"""Parts of a model, in the order of `Footprint`."""


@dataclass(frozen=True)
class ModelDims:
    """The dimensions of a transformer.

    Parameters
    ----------
    n_layers, vocabulary_size, d_model, d_ffn, n_heads, n_kv_heads : int
    has_gate : bool
        The MLP has a gate projection beside up and down.

    Raises
    ------
    UsageError
        If a number is not positive.
    """

    n_layers: int
    vocabulary_size: int
    d_model: int
    d_ffn: int
    n_heads: int = 1
    n_kv_heads: int = 1
    has_gate: bool = True

    def __post_init__(self) -> None:
        _check_positive(self)

    @property
    def n_mlp_linears(self) -> int:
        """Linears of one layer's MLP: up, down, and gate where there is one."""
        return 3 if self.has_gate else 2


@dataclass(frozen=True)
class ValueBits:
    """Bits that one value takes in each part of a model.

    Defaults are those of a test in the released simulator of arXiv 2412.01380; its 16 bits for activations take no part
    in what it counts.

    Raises
    ------
    UsageError
        If a number is not positive.
    """

    embedding: float = 8
    lm_head: float = 8
    attention: float = 4
    mlp: float = 4
    kv_cache: float = 8
    predictors: float = 16

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True)
class Footprint:
    """Bytes of the parts of a model; decimal units, nothing rounded.

    Notes
    -----
    With p bytes a value, H the model's width, V the vocabulary, I the MLP's width, L layers, and r the share of heads
    that have keys and values of their own: embedding and lm_head p H V each, attention p H H (2 + 2 r) L, MLP p H I L
    for each linear, KV cache p H 2 r L for each token, predictors p for each value. Norms and biases do not count.
    """

    embedding_bytes: float
    lm_head_bytes: float
    attention_bytes: float
    mlp_bytes: float
    kv_cache_bytes: float
    predictors_bytes: float

    @classmethod
    def from_dims(
        cls, dims: ModelDims, bits: ValueBits, n_tokens: float, n_predictor_values: int = 0
    ) -> Footprint:  # fmt: skip
        """Return the footprint with a KV cache of `n_tokens` and predictors of `n_predictor_values` in all layers.

        >>> model = Footprint.from_dims(MODELS["llama-3-8b"], ValueBits(), 2048)
        >>> f"MLP {model.mlp_bytes / 1e9:.3f} GB of {model.total_bytes / 1e9:.3f} GB"
        'MLP 2.819 GB of 4.675 GB'
        """
        vocabulary = dims.d_model * dims.vocabulary_size / 8
        square, kv_share = dims.d_model**2 * dims.n_layers / 8, dims.n_kv_heads / dims.n_heads
        return cls(
            embedding_bytes=bits.embedding * vocabulary,
            lm_head_bytes=bits.lm_head * vocabulary,
            attention_bytes=bits.attention * square * (2 + 2 * kv_share),
            mlp_bytes=bits.mlp / 8 * dims.d_model * dims.d_ffn * dims.n_mlp_linears * dims.n_layers,
            kv_cache_bytes=bits.kv_cache / 8 * n_tokens * 2 * dims.d_model * kv_share * dims.n_layers,
            predictors_bytes=bits.predictors / 8 * n_predictor_values,
        )

    def part_bytes(self, parts: Iterable[str]) -> float:
        """Return the bytes of some parts together."""
        return float(sum(getattr(self, f"{part}_bytes") for part in parts))

    @property
    def total_bytes(self) -> float:
        """Bytes of all parts."""
        return self.part_bytes(PARTS)


def _check_positive(numbers: ModelDims | ValueBits) -> None:
    wrong = [f"{field.name} {getattr(numbers, field.name)}" for field in fields(numbers)
             if field.name != "has_gate" and not getattr(numbers, field.name) > 0]  # fmt: skip
    if wrong:
        raise UsageError(
            "byte model", found=", ".join(wrong), expected="numbers above 0", remedy="correct the number"
        )  # fmt: skip


MODELS: dict[str, ModelDims] = {
    "opt-350m": ModelDims(24, 50272, 1024, 4096, 16, 16, has_gate=False),
    "llama-3-8b": ModelDims(32, 128256, 4096, 14336, 32, 8),
    "phi-3-medium": ModelDims(40, 32064, 5120, 17920, 40, 10),
    "phi-3-mini": ModelDims(32, 32064, 3072, 8192, 32, 32),
    "mistral-7b": ModelDims(32, 32000, 4096, 14336, 32, 8),
    "turbosparse-mistral": ModelDims(32, 32064, 4096, 14336, 32, 8),
    "dummy": ModelDims(2, 101, 101, 101),
}
"""Models that the authors of DIP simulate (arXiv 2412.01380 and its authors' released simulator); `dummy` is from its
tests."""
