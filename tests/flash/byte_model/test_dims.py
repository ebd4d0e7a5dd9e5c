"""Bytes of models, against the numbers of DIP's simulator."""

from __future__ import annotations

import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.byte_model.dims import MODELS, PARTS, Footprint, ModelDims, ValueBits


@pytest.mark.parametrize(
    ("model", "mlp", "attention", "vocabulary", "kv_cache", "total"),
    [
        ("llama-3-8b", 2.819, 0.671, 1.051, 0.134, 4.675),
        ("phi-3-medium", 5.505, 1.311, 0.328, 0.210, 7.354),
        ("phi-3-mini", 1.208, 0.604, 0.197, 0.403, 2.412),
        ("mistral-7b", 2.819, 0.671, 0.262, 0.134, 3.886),
    ],
)
def test_footprints(
    model: str, mlp: float, attention: float, vocabulary: float, kv_cache: float, total: float
) -> None:  # fmt: skip
    """Gigabytes of each part with 2048 tokens, at the bits of the released tests."""
    found = Footprint.from_dims(MODELS[model], ValueBits(), 2048)
    in_gb = [
        found.mlp_bytes, found.attention_bytes, found.part_bytes(("embedding", "lm_head")), found.kv_cache_bytes,
        found.total_bytes,
    ]  # fmt: skip
    assert [round(n_bytes / 1e9, 3) for n_bytes in in_gb] == [mlp, attention, vocabulary, kv_cache, total]


def test_a_model_by_hand() -> None:
    """Every dimension a different prime, one byte a value: counted matrix by matrix."""
    dims = ModelDims(n_layers=3, vocabulary_size=97, d_model=8, d_ffn=13, n_heads=4, n_kv_heads=2)
    one_byte = ValueBits(*[8] * len(PARTS))
    found = Footprint.from_dims(dims, one_byte, 5, n_predictor_values=11)
    queries, keys, mlp = 8 * 8, 8 * 4, 8 * 13
    assert [getattr(found, f"{part}_bytes") for part in PARTS] == [
        8 * 97, 8 * 97, 3 * (2 * queries + 2 * keys), 3 * 3 * mlp, 3 * 5 * 2 * 4, 11,
    ]  # fmt: skip
    without_gate = ModelDims(3, 97, 8, 13, 4, 2, has_gate=False)
    assert Footprint.from_dims(without_gate, one_byte, 5).mlp_bytes == 3 * 2 * mlp


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ModelDims(0, 97, 8, 13), "byte model: found n_layers 0; expected numbers above 0"),
        (lambda: ModelDims(3, 97, -8, 0), "found d_model -8, d_ffn 0"),
        (lambda: ValueBits(mlp=0), "found mlp 0"),
    ],
)
def test_dimensions_are_positive(make, match: str) -> None:
    """All that are not are named at once."""
    with pytest.raises(UsageError, match=match):
        make()
