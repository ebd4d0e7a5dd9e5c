"""Masks through the byte model: the released test's numbers, a plain twin, and small cases by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.byte_model.dims import MODELS, ModelDims, ValueBits
from ripple_place.flash.byte_model.hooks import Hook, dip_hooks, glu_hooks
from ripple_place.flash.byte_model.memory import ByteModel
from ripple_place.flash.byte_model.simulate import MaskedSequence, count_hits, simulate_bytes
from ripple_place.flash.caches.registry import find_policy
from ripple_place.placement import NeuronPlacement
from tests.reference import caches

SMALL = ModelDims(n_layers=2, vocabulary_size=10, d_model=4, d_ffn=6)
POLICIES = ["none", "mask-first-lru", "mask-first-lfu", "mask-first-belady"]


def small_model(**changes) -> ByteModel:
    """Return a model of one byte a value, 1 B/us from DRAM and 0.1 from flash; 256 bytes are static."""
    model = ByteModel(
        SMALL, dram_bytes=256 + 60, bits=ValueBits(8, 8, 8, 8, 8, 8), sequence_tokens=3, dram_bytes_per_s=1e6,
        flash_bytes_per_s=1e5, allows_mlp_streaming=True,
    )  # fmt: skip
    return replace(model, **changes)


def masked(hooks: tuple[Hook, ...], rng: np.random.Generator, n_tokens: int = 3, n_prompt: int = 0) -> MaskedSequence:
    """Return random masks, some of them empty."""
    masks = [rng.random((n_tokens, hook.n_columns)) < rng.choice([0.0, 0.4, 0.8], (n_tokens, 1)) for hook in hooks]
    return MaskedSequence(tuple(masks), n_prompt)


def test_the_released_test_of_opt_350m() -> None:
    """Half of the columns, LRU: the first call takes k H p over flash, the same mask again k H p over DRAM."""
    model, (up, down) = ByteModel(MODELS["opt-350m"], dram_bytes=1e9), dip_hooks(MODELS["opt-350m"])[:2]
    hooks = (up, down) * 24
    masks = [np.zeros((2, hook.n_columns), bool) for hook in hooks]
    for mask in masks:
        mask[:, ::2] = True
    (result,) = simulate_bytes(model, hooks, [MaskedSequence(tuple(masks))], "mask-first-lru")
    assert result.call_us[:, 1].tolist() == pytest.approx([1048.576, 17.476267], rel=1e-7)
    assert result.call_us[0, 1] / 1e3 == pytest.approx(2048 * 1024 * 0.5 / 1e9 * 1e3)
    assert result.call_us[1, 1] / 1e3 == pytest.approx(0.0174763, abs=5e-8)
    assert result.hit_ratio == 0.5


def test_the_documented_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The code of docs/bytemodel.md can be copied as it is."""
    text = (Path(__file__).parents[3] / "docs" / "bytemodel.md").read_text()
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})  # type: ignore[index]
    assert re.fullmatch(r"2\.\d\d tokens/s, \d\d% of the columns in DRAM\n", capsys.readouterr().out)


def test_hooks() -> None:
    """DIP masks up and gate together, down by itself; GLU pruning only down; without a gate up is alone."""
    dims = MODELS["llama-3-8b"]
    assert dip_hooks(dims)[:2] == (Hook(4096, 14336, 2), Hook(14336, 4096, 1))
    assert (len(dip_hooks(dims)), len(glu_hooks(dims))) == (64, 32)
    assert sum(hook.n_linears for hook in dip_hooks(dims)) == 3 * 32
    assert set(glu_hooks(dims)) == {Hook(14336, 4096)}
    assert dip_hooks(MODELS["opt-350m"])[0] == Hook(1024, 4096, 1)


def test_two_tokens_by_hand() -> None:
    """Calls add up over linears and hooks; hits come from DRAM; an empty mask counts as a full hit.

    60 bytes for 6 linears: 1 column of up and gate (6 bytes each), 2 of down (4 bytes each).
    """
    model, hooks = small_model(), dip_hooks(SMALL)
    up = np.array([[1, 0, 0, 0], [1, 1, 0, 0]], bool)
    down = np.array([[0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0]], bool)
    empty = [np.zeros_like(up), np.zeros_like(down)]
    (result,) = simulate_bytes(model, hooks, [MaskedSequence((up, down, *empty))], "mask-first-lru")
    assert model.cache_columns(6, 6) == 1
    assert model.cache_columns(6, 4) == 2
    assert result.call_us == pytest.approx(
        np.array([[2 * 60, 80, 0, 0], [2 * (6 + 60), 4 + 40, 0, 0]], float)
    )  # fmt: skip
    assert (result.flash_bytes, result.dram_bytes) == (12 + 8 + 12 + 4, 12 + 4)
    # Over two tokens and, of each layer, two linears of up and gate and one of down.
    assert result.hit_ratio == pytest.approx((2 * (0 + 0.5) + 1 * (0 + 0.5) + 3 * 2) / 12)
    assert result.fixed_us == pytest.approx(208 + 16)
    assert result.token_us == pytest.approx(224 + (120 + 80 + 132 + 44) / 2)
    assert result.tokens_per_s == pytest.approx(1e6 / result.token_us)
    assert result.first_token_us == pytest.approx(208 + 10 * 144)
    (concurrent,) = simulate_bytes(
        replace(model, is_concurrent=True), hooks, [MaskedSequence((up, down, *empty))], "mask-first-lru"
    )
    assert concurrent.call_us[1].tolist() == pytest.approx([2 * 60, 40, 0, 0])


@pytest.mark.parametrize("policy", POLICIES)
def test_it_equals_a_plain_loop(policy: str) -> None:
    """On random masks with a prompt, two texts: each begins with empty caches, and the prompt leaves them so."""
    rng, model, hooks = np.random.default_rng(3), small_model(sequence_tokens=12, dram_bytes=460), dip_hooks(SMALL)
    sequences = [masked(hooks, rng, 9, 2), masked(hooks, rng, 5)]
    for sequence, result in zip(sequences, simulate_bytes(model, hooks, sequences, policy), strict=True):
        call_us, ratios = np.zeros_like(result.call_us), []
        for i, (hook, mask) in enumerate(zip(hooks, sequence.masks, strict=True)):
            capacity = int((460 - 400) / 6 / hook.column_values)
            rows = [np.flatnonzero(row).tolist() for row in mask]
            hits = [False] * int(mask.sum())
            if policy != "none":
                hits, _ = caches.mask_first(rows, capacity, policy.removeprefix("mask-first-"))
            of_token = iter(hits)
            for token, row in enumerate(rows):
                n_hits = sum(next(of_token) for _ in row)
                call_us[token, i] = hook.n_linears * hook.column_values * (n_hits + 10 * (len(row) - n_hits))
                ratios += [n_hits / len(row) if row else 1.0] * hook.n_linears
        assert result.call_us == pytest.approx(call_us)
        assert result.hit_ratio == pytest.approx(np.mean(ratios))
        n_prompt = sequence.n_prompt_tokens
        assert result.fixed_us == model.fixed_us(n_prompt, n_prompt + sequence.n_generated_tokens)


def test_belady_knows_the_next_use() -> None:
    """The two golden sequences of the released tests, to the hit: the cache finds what the expected one holds."""
    for masks in (("00110", "11000", "01001", "01100", "01100"), ("00110", "01001", "11000", "10001", "00011")):
        mask = np.array([[bit == "1" for bit in row] for row in masks])
        cache = find_policy("mask-first-belady")(3, NeuronPlacement.original(5))
        rows = [np.flatnonzero(row).tolist() for row in mask]
        hits, _ = caches.mask_first(rows, 3, "belady")
        assert count_hits(cache, mask).sum() == sum(hits)
        assert count_hits(cache, mask[:1]).tolist() == [0]


def test_glu_pruning_counts_one_linear() -> None:
    """Where it is simulated, a hook of two linears counts as one, in time and in DRAM."""
    rng, model = np.random.default_rng(0), small_model(simulates_glu_pruning=True, dram_bytes=256 + 96 + 24)
    sequence = masked(glu_hooks(SMALL), rng)
    one = simulate_bytes(model, glu_hooks(SMALL), [sequence], "mask-first-lfu")
    two = simulate_bytes(model, [replace(hook, n_linears=2) for hook in glu_hooks(SMALL)], [sequence], "mask-first-lfu")
    assert one[0].call_us == pytest.approx(two[0].call_us)
    assert model.cache_columns(2, 4) == 3


def test_a_mask_that_does_not_fit() -> None:
    """Six columns, room for three: an error, unless the MLP may be streamed or there is no cache to fit into."""
    hooks = (Hook(6, 4),)
    sequence = MaskedSequence((np.ones((2, 6), bool),))
    strict = small_model(allows_mlp_streaming=False, dram_bytes=256 + 3 * 4)
    with pytest.raises(UsageError, match="sequence 0: found a mask of 6 columns; expected at most the 3 that"):
        simulate_bytes(strict, hooks, [sequence], "mask-first-lru")
    (result,) = simulate_bytes(replace(strict, allows_mlp_streaming=True), hooks, [sequence], "mask-first-lru")
    assert result.hit_ratio == pytest.approx((0 + 3 / 6) / 2)
    (result,) = simulate_bytes(strict, hooks, [sequence])
    assert result.hit_ratio == 0


@pytest.mark.parametrize(
    ("sequence", "match"),
    [
        (MaskedSequence((np.ones((2, 6), bool),) * 2), r"masks of shapes \[\(2, 6\)\] for 1 hooks; expected for each"),
        (MaskedSequence((np.ones((2, 5), bool),)), r"masks of shapes \[\(2, 5\)\]"),
        (MaskedSequence((np.ones((2, 6), int),)), "a boolean array"),
        (MaskedSequence((np.ones((0, 6), bool),)), "one row or more"),
        (MaskedSequence((np.ones((2, 6), bool),), 2), "found 2 prompt tokens, 4 in all; expected .* at most the 3"),
        (MaskedSequence((np.ones((2, 6), bool),), -1), "found -1 prompt tokens"),
    ],
)
def test_masks_are_checked(sequence: MaskedSequence, match: str) -> None:
    """One mask for each hook, of its width, and no longer than DRAM has room for."""
    with pytest.raises(UsageError, match=match):
        simulate_bytes(small_model(), (Hook(6, 4),), [sequence])
