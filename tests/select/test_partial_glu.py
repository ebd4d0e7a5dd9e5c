"""Partial GLU pruning: which neurons the gate, or up, keeps, against plain sorting; and what is read to know it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.block_tally import RowTokens
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.sequential import sequential_read_us
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import NeuronPlacement
from ripple_place.select.partial_glu import PartialGlu
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Noise
from ripple_place.select.simulate import selected_blocks
from tests.flash.builders import linear_device
from tests.reference import dip
from tests.select.builders import trace_of

if TYPE_CHECKING:
    from ripple_place.select.selected_block import SelectedBlock

N_NEURONS, N_TOKENS, BUNDLE_BYTES = 40, 12, 12288
BLOCK = "layers.0"


def projections(rng: np.random.Generator, *, is_relu: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return what a gate's activation function and up put out."""
    gate, up = rng.standard_normal((2, N_TOKENS, N_NEURONS)).astype(np.float32)
    return np.maximum(gate, 0) if is_relu else gate / (1 + np.exp(-gate)), up


def layout_of(bundle_bytes: int = BUNDLE_BYTES) -> Layout:
    """Return a random order of neurons of three parts."""
    order = np.random.default_rng(3).permutation(N_NEURONS)
    return Layout("tested", {BLOCK: BlockLayout(NeuronPlacement(order), BlockExtent.packed(bundle_bytes))})


def block_of(rule: str, n_parts: int = 3) -> SelectedBlock:
    """Return a rule at work."""
    return selected_blocks(
        {BLOCK: RowTokens(N_TOKENS, None, N_TOKENS)}, layout_of(), linear_device(), SimulationParams(),
        parse_rule(rule), Tuning.nothing(), Noise(), {BLOCK: n_parts},
    )[BLOCK]  # fmt: skip


@pytest.mark.parametrize("by", ["gate", "up"])
@pytest.mark.parametrize("keep", [0.1, 0.3, 0.775, 1.0])
def test_the_largest_of_a_projection(by: str, keep: float) -> None:
    """Of every token exactly int(keep n) neurons, whatever the other projection puts out."""
    gate, up = projections(np.random.default_rng(0))
    used = block_of(f"partial-glu={keep},by={by}").choose(gate * up, gate)
    expected = [dip.keep_largest(row, keep) for row in (gate if by == "gate" else up).tolist()]
    assert used.tolist() == expected
    assert set(used.sum(axis=1)) == {int(keep * N_NEURONS)}
    assert not np.array_equal(used, [dip.keep_largest(row, keep) for row in (gate * up).tolist()]) or keep == 1


def test_gates_that_are_zero() -> None:
    """A neuron that puts out nothing is not used, by either; up is not divided by zero."""
    gate, up = projections(np.random.default_rng(1), is_relu=True)
    fires = gate != 0
    assert 0.3 < fires.mean() < 0.7
    used = block_of("partial-glu=0.25,by=gate").choose(gate * up, gate)
    assert used.tolist() == [dip.keep_largest(row, 0.25) for row in gate.tolist()]
    used = block_of("partial-glu=0.25,by=up").choose(gate * up, gate)
    assert used.tolist() == [dip.keep_largest(row, 0.25) for row in np.where(fires, up, 0).tolist()]


@pytest.mark.parametrize("by", ["gate", "up"])
def test_without_a_gate(by: str) -> None:
    """What is put out is all that there is to look at, also where it comes as the gate; and no gate can be read."""
    outputs = np.maximum(projections(np.random.default_rng(2))[1], 0)
    expected = [dip.keep_largest(row, 0.3) for row in outputs.tolist()]
    for sees in ("predictor", "output"):
        for gate in (None, outputs):
            used = block_of(f"partial-glu=0.3,by={by},sees={sees}", n_parts=2).choose(outputs, gate)
            assert used.tolist() == expected
    with pytest.raises(UsageError, match=r"found neurons without a gate.* Write sees=output, or sees=predictor"):
        block_of(f"partial-glu=0.3,by={by}", n_parts=2)


@pytest.mark.parametrize(("sees", "n_read"), [("gate", 1), ("output", 2), ("predictor", 0)])
@pytest.mark.parametrize("by", ["gate", "up"])
def test_what_is_read_to_decide(by: str, sees: str, n_read: int) -> None:
    """One part of every neuron in one sequential read, and then the other two of those that are used."""
    gate, up = projections(np.random.default_rng(4))
    block = block_of(f"partial-glu=0.3,by={by},sees={sees}")
    used = block.choose(gate * up, gate)
    result, served = block.result()
    token_us = served.flash_us
    rest = simulate(
        trace_of({BLOCK: np.where(used, gate * up, 0).astype(np.float32)}, N_TOKENS),
        layout_of(BUNDLE_BYTES * (3 - n_read) // 3), linear_device(), SimulationParams(),
    )  # fmt: skip
    us, requests, n_bytes = sequential_read_us(linear_device(), n_read * 4096 * N_NEURONS) if n_read else (0.0, 0, 0)
    np.testing.assert_allclose(token_us, rest.token_us + us)
    assert result.totals.bytes_read == rest.totals.bytes_read + N_TOKENS * n_bytes
    assert result.totals.n_requests == rest.totals.n_requests + N_TOKENS * requests
    assert result.totals.n_active == N_TOKENS * int(0.3 * N_NEURONS)


def test_who_could_run_it() -> None:
    """By default any reader of the projection, which the rule names."""
    rule = parse_rule("partial-glu=0.3,by=up")
    assert isinstance(rule, PartialGlu)
    assert (rule.knowledge.of, rule.knowledge.sees, rule.knowledge.parts_read(3)) == ("up", "gate", 1)
    assert rule.units == ("neuron",)
