"""DRAM, its split, and the time of tokens without their sparse MLP."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.byte_model.dims import MODELS, ModelDims, ValueBits
from ripple_place.flash.byte_model.memory import ByteModel

EVERY_BYTE = ValueBits(8, 8, 8, 8, 8, 8)
SMALL = ModelDims(n_layers=2, vocabulary_size=10, d_model=4, d_ffn=6)
"""One byte a value: vocabulary 40 + 40, attention 128, MLP 144, KV cache 16 for each token."""
make_small = partial(
    ByteModel, SMALL, bits=EVERY_BYTE, sequence_tokens=3, dram_bytes_per_s=1e6, flash_bytes_per_s=1e5
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "tokens_per_s"),
    [("llama-3-8b", 0.351), ("phi-3-medium", 0.181), ("phi-3-mini", 0.817), ("mistral-7b", 0.353)],
)
def test_dense_streaming(model: str, tokens_per_s: float) -> None:
    """All but the MLP in DRAM, the MLP streamed at 1 GB/s, DRAM at 60 GB/s, summed, 2048 tokens without a prompt."""
    dense = ByteModel(MODELS[model], dram_bytes=8e9, streamed_parts=("mlp",))
    assert round(1e6 / dense.fixed_us(0, 2048), 3) == tokens_per_s


def test_split() -> None:
    """Static parts count with the longest KV cache; the rest is for caches; one byte less and static parts overflow."""
    static = 40 + 40 + 128 + 3 * 16
    split = make_small(dram_bytes=300).split
    assert (split.static_bytes, split.dynamic_bytes, split.overflow_bytes) == (static, 300 - static, 0)
    split = make_small(dram_bytes=static).split
    assert (split.dynamic_bytes, split.overflow_bytes) == (0, 0)
    split = make_small(dram_bytes=static - 1, allows_static_streaming=True).split
    assert (split.static_bytes, split.dynamic_bytes, split.overflow_bytes) == (static, 0, 1)
    with pytest.raises(UsageError, match=r"that must lie there: embedding, .* set allows_static_streaming"):
        assert make_small(dram_bytes=static - 1).split


def test_fixed_time() -> None:
    """By hand: KV at the mean length, streamed parts and overflow from flash; both summed, or the longer of the two."""
    model = make_small(dram_bytes=300)
    assert model.fixed_us(1, 3) == pytest.approx(40 + 40 + 128 + 2 * 16)
    streamed = replace(model, streamed_parts=("mlp",))
    assert streamed.fixed_us(1, 3) == pytest.approx(240 + 10 * 144)
    assert replace(streamed, is_concurrent=True).fixed_us(1, 3) == pytest.approx(10 * 144)
    overflowing = make_small(dram_bytes=250, allows_static_streaming=True)
    assert overflowing.fixed_us(1, 3) == pytest.approx(240 + 10 * 6)


def test_time_to_first_token() -> None:
    """By hand: static parts with the prompt's KV cache from DRAM, the dense MLP from flash, once."""
    assert make_small(dram_bytes=300).first_token_us(2) == pytest.approx(40 + 40 + 128 + 2 * 16 + 10 * 144)
    assert make_small(dram_bytes=300, prompt_streamed_parts=()).first_token_us(0) == pytest.approx(208)


def test_glu_pruning_is_simulated() -> None:
    """Two thirds of the MLP (half without a gate) are static where they fit, else streamed for every token."""
    fitting = make_small(dram_bytes=400, simulates_glu_pruning=True)
    assert fitting.split.static_bytes == 256 + 96
    assert fitting.split.dynamic_bytes == 48
    assert fitting.fixed_us(0, 2) == pytest.approx(208 + 16 + 96)
    assert fitting.first_token_us(1) == pytest.approx(208 + 16 + 96 + 10 * 48)
    tight = replace(fitting, dram_bytes=256 + 95)
    assert (tight.split.static_bytes, tight.split.dynamic_bytes, tight.split.streamed_mlp_bytes) == (256, 95, 96)
    assert tight.fixed_us(0, 2) == pytest.approx(208 + 16 + 10 * 96)
    assert tight.first_token_us(1) == pytest.approx(208 + 16 + 10 * 144)
    no_gate = make_small(dram_bytes=400, simulates_glu_pruning=True)
    no_gate = replace(no_gate, dims=replace(SMALL, has_gate=False))
    assert no_gate.split.static_bytes == 256 + 48


@pytest.mark.parametrize("model", ["opt-350m", "llama-3-8b", "phi-3-medium"])
def test_each_linear_caches_the_same_share(model: str) -> None:
    """DRAM that is left is divided by the masked linears of all layers: 3 L, or 2 L without a gate."""
    dims = MODELS[model]
    n_linears = dims.n_mlp_linears * dims.n_layers
    byte_model = ByteModel(dims, dram_bytes=0.0 + ByteModel(dims, 1e12).split.static_bytes + 0.5e9)
    per_linear = 0.5e9 / n_linears
    up, down = (byte_model.cache_columns(n_linears, values) for values in (dims.d_ffn, dims.d_model))
    assert up == int(per_linear / (dims.d_ffn / 2))
    assert down == int(per_linear / (dims.d_model / 2))
    assert up / dims.d_model == pytest.approx(down / dims.d_ffn, abs=1 / dims.d_model)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"dram_bytes": 0}, "found 0 bytes of DRAM"),
        ({"flash_bytes_per_s": -1}, "flash at -1 bytes/s"),
        ({"sequence_tokens": 0}, "0 tokens"),
        ({"n_predictor_values": -1}, "-1 values"),
        (
            {"static_parts": ("heads", "mlp", "tail")},
            "no part by the name heads, tail; expected some of embedding",
        ),
        ({"streamed_parts": ("heads",)}, "no part by the name heads"),
        ({"prompt_streamed_parts": ("heads",)}, "no part by the name heads"),
    ],
)
def test_what_is_refused(change: dict, match: str) -> None:
    """Before anything is computed."""
    with pytest.raises(UsageError, match=match):
        make_small(**{"dram_bytes": 300, **change})
