"""DIP: the golden tests of its caches, and its byte model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.paper.figures import CONSISTENCY, PREDICTION, Figure
from benchmarks.paper.runs import line_device, run, trace_of
from ripple_place.flash.byte_model.dims import MODELS
from ripple_place.flash.byte_model.hooks import dip_hooks
from ripple_place.flash.byte_model.memory import ByteModel
from ripple_place.flash.byte_model.simulate import MaskedSequence, simulate_bytes
from ripple_place.flash.caches.cache import Accesses
from ripple_place.flash.caches.mask_first import ROW
from ripple_place.flash.caches.registry import find_policy
from ripple_place.placement import NeuronPlacement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.flash.caches.mask_first import MaskFirstCache

KIB = 1024
PAPER = "arXiv 2412.01380"
TESTS = f"released code of {PAPER}, its tests"
FLASH_BYTES_PER_S, DRAM_BYTES_PER_S = 1e9, 60e9  # Apple A18 in DIP's simulator, arXiv 2412.01380
BYTE_MODEL = f"{PAPER}, byte model of its simulator (Apple A18: flash 1 GB/s, DRAM 60 GB/s)"
INTRODUCTION = """\
The golden tests of its caches, on the policies `mask-first-*`, and its byte model. The paper's own tables of
perplexity and throughput are not reproduced: the settings behind them are not known to us. *Derived* are the rules of
its simulator on its models' dimensions, worked out beforehand with the bits of its tests: embedding, head and KV cache
8, attention and MLP 4."""

COUNTED_GOLDENS = {
    # Name: policy, masks, the cache and the counters that the last mask leaves.
    "lru-1": ("lru", ("11100", "00111"), "00111", "00000"),
    "lru-2": ("lru", ("00100", "01000", "10000", "00110"), "10110", "10000"),
    "lfu-1": ("lfu", ("00011", "11100", "00111"), "00111", "11222"),
    "lfu-2": ("lfu", ("00011", "01000", "11000", "11100", "00110"), "01110", "23221"),
}
BELADY_GOLDENS = {
    # Name: masks, masks that follow, the cache that the last of the first masks leaves.
    "belady-1": (("00110", "11000", "01001", "01100", "01100"), (), "01101"),
    "belady-2": (("00110", "01001", "11000", "10001", "00011"), (), "01011"),
    "belady-horizons-1": (("11100", "00110"), ("10000", "01000"), "10110"),
    "belady-horizons-2": (("11100", "00111"), (), "00111"),
}
FOOTPRINTS_GB = {
    # MLP, attention, embedding and head, KV cache of 2048 tokens, total.
    "llama-3-8b": (2.819, 0.671, 1.051, 0.134, 4.675),
    "phi-3-medium": (5.505, 1.311, 0.328, 0.210, 7.354),
    "phi-3-mini": (1.208, 0.604, 0.197, 0.403, 2.412),
    "mistral-7b": (2.819, 0.671, 0.262, 0.134, 3.886),
}
FOOTPRINT_PARTS = {
    "mlp": ("mlp",), "attention": ("attention",), "vocabulary": ("embedding", "lm_head"), "kv-cache": ("kv_cache",),
    "total": ("mlp", "attention", "embedding", "lm_head", "kv_cache"),
}  # fmt: skip
DENSE_TOKENS_PER_S = {"llama-3-8b": 0.351, "phi-3-medium": 0.181, "phi-3-mini": 0.817, "mistral-7b": 0.353}


def figures() -> list[Figure]:
    """Return all figures of the section."""
    return [*by_our_simulator(), *opt_350m(), *belady(), *counted(), *footprints(), *dense_streaming()]


def by_our_simulator() -> list[Figure]:
    """Return DIP's two rules: a first token costs its bytes over flash, an identical second one over DRAM."""
    bundle_bytes, n_neurons = 24 * KIB, 4096
    masks = np.zeros((2, n_neurons), bool)
    masks[:, ::3] = True
    n_bytes = int(masks[0].sum()) * bundle_bytes
    device = line_device(0.0, FLASH_BYTES_PER_S, "arXiv 2412.01380, defaults of its simulator")
    result = run(trace_of(masks), device, bundle_bytes, cache="lru", cache_share=1.0)
    dram_us = (result.totals.bytes_requested - result.totals.bytes_active) / DRAM_BYTES_PER_S * 1e6
    return [
        Figure(
            "dip-first-token", BYTE_MODEL, round(n_bytes / FLASH_BYTES_PER_S * 1e6, 3), float(result.token_us[0]),
            "us", PREDICTION,
            "A device without overhead is their model: bytes over flash bandwidth, however scattered.",
        ),
        Figure(
            "dip-second-identical-token", BYTE_MODEL, round(n_bytes / DRAM_BYTES_PER_S * 1e6, 3),
            float(result.token_us[1]) + dram_us, "us", PREDICTION,
            "The LRU cache holds the first token's neurons and the simulator charges no flash time; bytes that hit are "
            "charged at DRAM bandwidth here, since the simulator itself does not time DRAM.",
        ),
    ]  # fmt: skip


def opt_350m() -> list[Figure]:
    """Return the test of the released simulator: two calls with the same mask of half of the columns."""
    dims = MODELS["opt-350m"]
    hooks = dip_hooks(dims)
    masks = [np.zeros((2, hook.n_columns), bool) for hook in hooks]
    for mask in masks:
        mask[:, ::2] = True
    model = ByteModel(dims, 1e9, dram_bytes_per_s=DRAM_BYTES_PER_S, flash_bytes_per_s=FLASH_BYTES_PER_S)
    (result,) = simulate_bytes(model, hooks, [MaskedSequence(tuple(masks))], "mask-first-lru")
    return [
        Figure(
            f"dip-opt-350m-{name}-call", f"{TESTS}; times at 4 bits, 1 and 60 GB/s", published,
            float(result.call_us[token, 1]) / 1e3, "ms", PREDICTION,
            "The down projection of a layer, half of its 4096 columns: 1 MiB, first over flash, then over DRAM.",
        )
        for token, (name, published) in enumerate((("first", 1.048576), ("second", 0.0174763)))
    ]  # fmt: skip


def belady() -> list[Figure]:
    """Return the golden tests of DIP's Belady: capacity 3, five items, and a last mask of all of them."""
    result = []
    for name, (masks, later, expected) in BELADY_GOLDENS.items():
        cached = _after("belady", masks, later).resident.tolist()
        agreeing = sum((expected[item] == "1") == (item in cached) for item in range(5))
        is_tie = name == "belady-2"
        result.append(
            Figure(
                f"dip-{name}", TESTS, 5, agreeing, "items whose place (in the cache or not) agrees",
                CONSISTENCY if is_tie else PREDICTION,
                "The only test with a tie; it shows that the lowest neuron leaves among equals."
                if is_tie
                else "`mask-first-belady`: a whole mask enters at once, and of the others those stay that are needed "
                "soonest. The simulator's belady differs on purpose: neurons enter one by one and it may decline to "
                "admit, which makes it a bound.",
            )
        )  # fmt: skip
    return result


def counted() -> list[Figure]:
    """Return the golden tests of DIP's LRU and LFU, with the ages or counts that they end with."""
    result = []
    for name, (policy, masks, expected, counters) in COUNTED_GOLDENS.items():
        cache = _after(policy, masks)
        resident, state = cache.resident.tolist(), cache.state
        age = np.where(np.isin(np.arange(5), resident), state.counts[ROW] - 1 - state.rank, 0)
        found = age if policy == "lru" else state.rank
        agreeing = sum(
            (expected[item] == "1") == (item in resident) and int(counters[item]) == found[item] for item in range(5)
        )
        result.append(
            Figure(
                f"dip-{name}", TESTS, 5, agreeing, "items whose place and counter agree", PREDICTION,
                f"`mask-first-{policy}`, after masks that bring cache and counters to where the test starts.",
            )
        )  # fmt: skip
    return result


def footprints() -> list[Figure]:
    """Return the bytes of the parts of four models."""
    return [
        Figure(
            f"dip-footprint-{name}-{part}", f"derived: {PAPER}, sizes at the bits of its tests", published,
            ByteModel(MODELS[name], 8e9).footprint(2048).part_bytes(parts) / 1e9, "GB", CONSISTENCY,
            "The same arithmetic, done beforehand and by the byte model; dimensions and bits are its inputs.",
        )
        for name, row in FOOTPRINTS_GB.items()
        for (part, parts), published in zip(FOOTPRINT_PARTS.items(), row, strict=True)
    ]  # fmt: skip


def dense_streaming() -> list[Figure]:
    """Return the throughput of four models with all of the MLP streamed, the rest in DRAM."""
    return [
        Figure(
            f"dip-dense-streaming-{name}", f"derived: {PAPER}, byte model of its simulator", published,
            1e6 / ByteModel(MODELS[name], 8e9, streamed_parts=("mlp",)).fixed_us(0, 2048), "tokens/s", CONSISTENCY,
            "What DIP starts from: 2048 tokens without a prompt, 1 GB/s from flash and 60 GB/s from DRAM, summed. "
            "Half of the KV cache counts.",
        )
        for name, published in DENSE_TOKENS_PER_S.items()
    ]  # fmt: skip


def _after(policy: str, masks: Sequence[str], later: Sequence[str] = ()) -> MaskFirstCache:
    """Return a cache of three of five items after some masks, with others and one of all items to come."""
    cache: MaskFirstCache = find_policy(f"mask-first-{policy}")(3, NeuronPlacement.original(5))  # type: ignore[assignment]
    used = np.array([[bit == "1" for bit in mask] for mask in (*masks, *later, "11111")])
    for row in range(len(masks)):
        items = np.flatnonzero(used[row]).astype(np.int32)
        next_row = np.argmax(used[row + 1 :, items], axis=0).astype(np.int32) + row + 1
        row_starts, is_hit = np.array([0, items.size]), np.empty(items.size, np.uint8)
        cache.replay(Accesses(items, row_starts, np.ones(items.size, np.uint8), next_row), is_hit)
    return cache
