"""PowerInfer-2's planner: how many neurons of each block are hot at each batch size.

The paper (arXiv 2406.06282v3, section 5) says what goes in (activation frequencies by batch size, the rates of the
units, storage) and what comes out (hot and cold neurons by batch size, rows of each unit), and one rule: what is hot
but not resident must be read while the attention before it is computed. Formulas are not published. Taken here: as
many rows go to the dense unit as make it and the CPU, which computes what fires of the rest, end at the same time;
fewer where DRAM and the read ahead have no room for them.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.device.files import load_device
from ripple_place.systems.plan import Assumption, BlockPlan, HotCounts, NeuronPlan
from ripple_place.systems.plan_params import PlanParams
from ripple_place.systems.union import union_frequency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.arrays import Float64Array
    from ripple_place.flash.device.compute import ComputeRates
    from ripple_place.flash.device.profile import DeviceProfile

RATES_OF = "ufs4-oneplus12-powerinfer2"
"""Whose compute rates are taken where a device has none."""


def make_plan(
    frequency: Mapping[str, Float64Array], bundle_bytes: Mapping[str, int], dram_neurons: int, device: DeviceProfile,
    params: PlanParams | None = None,
) -> NeuronPlan:  # fmt: skip
    """Return which neurons are hot.

    Parameters
    ----------
    frequency : mapping of str to ndarray of shape (n_neurons,), float64
        By block, in model order: the share of tokens for which each neuron fires.
    bundle_bytes : mapping of str to int
        By block.
    dram_neurons : int
        Neurons of the whole model that DRAM holds.
    device : DeviceProfile
        With compute rates; those of `RATES_OF` are taken where it has none.
    params : PlanParams, optional

    Notes
    -----
    Deterministic, O(n log n) a block. Hot neurons are the most frequent ones: with independent sequences the order is
    the same at every batch size, so that the hot neurons of a small batch are among those of a larger one.
    """
    params = params or PlanParams()
    rates, rate_notes = _rates_of(device)
    block_share = {name: values.size / sum(map(np.size, frequency.values())) for name, values in frequency.items()}
    resident_room = (1 - params.cold_share) * dram_neurons
    sequential_bytes_per_s = device.max_bandwidth_bytes_per_s
    blocks = {}
    for name, values in frequency.items():
        rows = params.rows_of_cluster(values.size)
        room = int(resident_room * block_share[name]) // rows * rows
        attention_us = params.attention_of(bundle_bytes[name], rates["dram_bytes_per_s"])
        read_ahead = int(attention_us * 1e-6 * sequential_bytes_per_s) // bundle_bytes[name]
        hot: dict[int, HotCounts] = {}
        for batch_size in params.batch_sizes:
            # A larger batch never has fewer hot neurons: each is needed more often.
            least = max((counts.n_hot for counts in hot.values()), default=0)
            needed = union_frequency(values, batch_size)
            counts = _hot_counts(needed, bundle_bytes[name], rows, (least, room + read_ahead), rates, params)
            hot[batch_size] = replace(counts, n_resident=min(counts.n_hot, room))
        blocks[name] = BlockPlan(values.size, rows, hot)
    return NeuronPlan(
        device.name,
        dram_neurons,
        blocks,
        {**asdict(params), "batch_sizes": list(params.batch_sizes), **rates},
        (*rate_notes, *_assumptions(params)),
    )


def _hot_counts(
    needed: Float64Array, bundle_bytes: int, rows: int, bounds: tuple[int, int], rates: Mapping[str, float],
    params: PlanParams,
) -> HotCounts:  # fmt: skip
    """Return how many neurons, within bounds, make both units end together; `needed` is how often each is."""
    needed = np.sort(needed)[::-1]
    n_neurons = needed.size
    n_hot = np.unique(np.append(np.arange(0, n_neurons, rows), n_neurons))
    left = np.concatenate([np.cumsum(needed[::-1])[::-1], [0.0]])[n_hot]
    npu_us = n_hot * (bundle_bytes * 1e6 / rates["npu_bytes_per_s"])
    cpu_us = np.minimum(left * params.over_predict, n_neurons - n_hot) * (
        bundle_bytes * 1e6 / rates["cpu_sparse_bytes_per_s"]
    )
    allowed = np.flatnonzero((n_hot >= bounds[0]) & (n_hot <= bounds[1]))
    best = allowed[np.argmin(np.maximum(npu_us, cpu_us)[allowed])]
    return HotCounts(int(n_hot[best]), int(n_hot[best]), float(npu_us[best]), float(cpu_us[best]))


def _rates_of(device: DeviceProfile) -> tuple[dict[str, float], tuple[Assumption, ...]]:
    """Return the rates of the dense unit and of the CPU, and whose they are if not the device's own."""
    notes: tuple[Assumption, ...] = ()
    rates: ComputeRates = device.compute_rates
    if None in (rates.npu_bytes_per_s, rates.cpu_sparse_bytes_per_s, rates.dram_bytes_per_s):
        rates = load_device(RATES_OF).compute_rates
        notes = (Assumption(f"compute rates of {device.name}", f"those of {RATES_OF}"),)
    known = {
        "npu_bytes_per_s": rates.npu_bytes_per_s, "cpu_sparse_bytes_per_s": rates.cpu_sparse_bytes_per_s,
        "dram_bytes_per_s": rates.dram_bytes_per_s,
    }  # fmt: skip
    return {key: rate for key, rate in known.items() if rate is not None}, notes


def _assumptions(params: PlanParams) -> Sequence[Assumption]:
    """Return what the paper does not say, and what is taken instead."""
    return (
        Assumption("rule that divides rows between the units", "both are to end at the same time"),
        Assumption("rule for batches", "sequences are independent; the CPU's time is that of the rows, not of tokens"),
        Assumption(
            "split of DRAM between hot and cold neurons",
            f"hot ones take at most {1 - params.cold_share:.0%}, what they leave is the cold ones'",
        ),
        Assumption(
            "attention time",
            "that of its weights in DRAM, 2.5 times the square of the width that bundles tell"
            if params.attention_us is None
            else f"{params.attention_us:g} us a layer",
        ),
        Assumption("over-prediction", f"{params.over_predict:g} candidates for each neuron that fires"),
        Assumption("what leaves the hot region", "what was used longest ago; the least active when the batch shrinks"),
    )
