"""How a profile may mislead: nothing said of a good one, and one sentence for each way in which it may be bad."""

from __future__ import annotations

from dataclasses import replace

from ripple_place.graph.statistics import BlockStatistics
from ripple_place.verdict.verdict import SHORT_TRACE_TOKENS
from ripple_place.verdict.warnings import trace_warnings

GOOD = BlockStatistics(
    n_neurons=100, n_rows=5000, active_share=0.05, dead_neurons=3, hottest_tenth_share=0.4, lift_of_best_neighbors=3.0,
    lift_rank_correlation=0.9,
)  # fmt: skip


def test_nothing_is_said_of_a_good_profile() -> None:
    """Long enough, sparse, and every block reached; at the very limits as well."""
    assert trace_warnings(SHORT_TRACE_TOKENS, {"layers.0": GOOD, "layers.1": replace(GOOD, active_share=0.5)}) == ()


def test_each_way_to_mislead_has_its_sentence() -> None:
    """In this order: few tokens, blocks that no token reached, silent ones, dense ones."""
    statistics = {
        "layers.0": replace(GOOD, n_rows=0, dead_neurons=100, active_share=0.0),
        "layers.1": replace(GOOD, dead_neurons=100, active_share=0.0),
        "layers.2": replace(GOOD, active_share=0.51),
    }
    few, unreached, silent, dense = trace_warnings(SHORT_TRACE_TOKENS - 1, statistics)
    assert few.startswith(f"the trace has {SHORT_TRACE_TOKENS - 1} tokens; ")
    assert unreached == "no token reached layers.0: record more text, or they stay as they are"
    assert silent == "no neuron fires in layers.1: check the activity rule of the trace"
    assert dense.startswith("more than half of the neurons fire in layers.2: ")


def test_of_many_blocks_the_first_are_named() -> None:
    """A mixture of experts has hundreds."""
    experts = {f"layers.0.experts.{i}": replace(GOOD, n_rows=0) for i in range(6)}
    (warning,) = trace_warnings(5000, experts)
    assert "layers.0.experts.3 and 2 more: record more text" in warning
    assert "experts.4" not in warning
