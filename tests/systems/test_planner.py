"""The planner: rows of the two units end together, larger batches are hotter, and DRAM bounds what is resident."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.device.files import load_device
from ripple_place.systems.plan_params import PlanParams
from ripple_place.systems.planner import RATES_OF, make_plan
from ripple_place.systems.union import union_frequency

PHONE = load_device("ufs4-oneplus12-powerinfer2")
ZIPF = np.minimum(0.98, 0.12 * 14336 * np.arange(1, 14337) ** -0.55 / (np.arange(1, 14337) ** -0.55).sum())
"""Firing rates of Bamboo-7B's width and share, of which the hotter half has 72 %."""


def plan_of(frequency: np.ndarray, dram_neurons: int, bundle_bytes: int = 7680, **params: object) -> dict[str, object]:
    """Return the counts of one block at batch size 1 as a dictionary."""
    plan = make_plan({"layers.0": frequency}, {"layers.0": bundle_bytes}, dram_neurons, PHONE, PlanParams(**params))
    return vars(plan.blocks["layers.0"].hot[plan.batch_sizes[0]])


def test_both_units_end_together_by_hand() -> None:
    """Ten neurons that always fire and ten that never do; the dense unit is four times as fast as the CPU.

    With n hot ones, it takes n, and the CPU 4 (10 - n): 8 to 8 at n = 8.
    """
    rates = {"npu_bytes_per_s": 4e9, "cpu_sparse_bytes_per_s": 1e9}
    sources = {**PHONE.sources, **dict.fromkeys(rates, "by hand")}
    device = replace(PHONE, **rates, sources=sources)
    frequency = {"layers.0": np.repeat([0.0, 1.0], 10)}
    params = PlanParams((1,), cluster_rows=1, cold_share=0.0, over_predict=1.0)
    plan = make_plan(frequency, {"layers.0": 1000}, 20, device, params)
    counts = plan.blocks["layers.0"].hot[1]
    assert (counts.n_hot, counts.n_resident) == (8, 8)
    assert (counts.npu_us, counts.cpu_us) == pytest.approx((2.0, 2.0))


def test_bamboo_is_divided_about_as_published() -> None:
    """PowerInfer-2 gives half of the rows to the NPU at batch size 1, and about 70 % to it in large batches."""
    plan = make_plan({"layers.0": ZIPF}, {"layers.0": 7680}, 14336, PHONE, PlanParams((1, 2, 4), cold_share=0.0))
    assert plan.hot_share(1) == pytest.approx(0.5, rel=0.25)
    assert plan.hot_share(4) == pytest.approx(0.7, rel=0.25)


@given(
    seed=st.integers(0, 2**16), n_neurons=st.integers(1, 400), dram_share=st.floats(0, 1), cold=st.floats(0, 1),
    rows=st.integers(1, 64), attention_us=st.floats(0, 1000),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_bounds(seed: int, n_neurons: int, dram_share: float, cold: float, rows: int, attention_us: float) -> None:
    """Hot neurons are whole clusters, fit the budget and the read ahead, and never get fewer with the batch."""
    frequency = np.random.default_rng(seed).random(n_neurons) ** 3
    dram = int(dram_share * n_neurons)
    params = PlanParams((1, 3, 9), rows, cold, 1.25, attention_us)
    plan = make_plan({"layers.0": frequency}, {"layers.0": 4096}, dram, PHONE, params)
    ahead = int(attention_us * 1e-6 * PHONE.max_bandwidth_bytes_per_s) // 4096
    before = 0
    for hot in plan.blocks["layers.0"].hot.values():
        assert hot.n_hot % rows == 0 or hot.n_hot == n_neurons
        assert before <= hot.n_hot
        assert 0 <= hot.n_resident <= (1 - cold) * dram + 1e-9
        assert hot.n_prefetched <= ahead + rows
        assert hot.n_resident + hot.n_prefetched == hot.n_hot
        before = hot.n_hot
    assert plan.cold_neurons(1) >= plan.cold_neurons(9) >= 0


def test_the_best_of_all_divisions_is_taken() -> None:
    """No other number of clusters ends sooner."""
    for seed in range(5):
        frequency = np.random.default_rng(seed).random(120) ** 4
        found = plan_of(frequency, 120, cluster_rows=10, cold_share=0.0, over_predict=1.5)
        ends = []
        for n_hot in range(0, 121, 10):
            left = np.sort(frequency)[::-1][n_hot:].sum() * 1.5
            ends.append(max(n_hot * 7680 / 56e9, min(left, 120 - n_hot) * 7680 / 5.3e9) * 1e6)
        assert found["n_hot"] == 10 * int(np.argmin(ends))


def test_a_batch_needs_what_any_of_its_sequences_does() -> None:
    """As counted in independent draws."""
    rng = np.random.default_rng(0)
    frequency = rng.random(50)
    drawn = (rng.random((20000, 4, 50)) < frequency).any(axis=1).mean(axis=0)
    assert union_frequency(frequency, 4) == pytest.approx(drawn, abs=0.02)
    assert union_frequency(frequency, 1) == pytest.approx(frequency)


def test_a_device_without_rates_borrows_them_and_says_so() -> None:
    """The plan is that of the other device's rates."""
    other = load_device("desktop-nvme")
    assert other.compute_rates.npu_bytes_per_s is None
    plan = make_plan({"layers.0": ZIPF}, {"layers.0": 7680}, 14336, other)
    assert plan.assumptions[0].assumed == f"those of {RATES_OF}"
    own = make_plan({"layers.0": ZIPF}, {"layers.0": 7680}, 14336, PHONE)
    assert plan.hot_share(1) == own.hot_share(1)
    assert all(RATES_OF not in each.assumed for each in own.assumptions)


@pytest.mark.parametrize(
    "text",
    [
        "powerinfer3", "powerinfer2=1", "powerinfer2,batches=0", "powerinfer2,batches=4-1", "powerinfer2,batches=2/1",
        "powerinfer2,cold-share=101%", "powerinfer2,over-predict=0.5", "powerinfer2,cluster-rows=0",
        "powerinfer2,attention=soon", "powerinfer2,speed=9", "powerinfer2,batches=1-99999999",
    ],
)  # fmt: skip
def test_what_a_plan_may_not_say(text: str) -> None:
    """Refused, with what may be written."""
    with pytest.raises(UsageError, match="expected"):
        PlanParams.parse(text)


def test_what_a_plan_may_say() -> None:
    """Each option reaches its field."""
    parsed = PlanParams.parse("powerinfer2,batches=1/2/8,cluster-rows=64,cold-share=25%,over-predict=2,attention=1ms")
    assert parsed == PlanParams((1, 2, 8), 64, 0.25, 2.0, 1000.0)
    assert PlanParams.parse("powerinfer2,batches=2-4").batch_sizes == (2, 3, 4)
    assert PlanParams.parse("powerinfer2") == PlanParams()
