"""Hits and times against slots: the simulation again with more and less DRAM, by each policy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.experts.budget import ExpertSlots
from ripple_place.experts.caches import BOUND
from ripple_place.experts.score import score_experts
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.experts.results import ExpertScores
    from ripple_place.trace.activation_trace import ActivationTrace

SLOT_SHARES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1.0)
"""Of the experts of the largest layer that there is room for."""
COMPARED = ("lru", "s3fifo", "pinned", "pinned+lru", BOUND)
"""Policies that are drawn, beside the one that was asked for."""


@dataclass(frozen=True)
class SlotCurves:
    """What generated tokens find and take, by policy, at some numbers of slots.

    Attributes
    ----------
    slots : tuple of int
        Experts of each layer that there is room for.
    hit_ratio : mapping of str to tuple of float
    time_us : mapping of str to tuple of float
        Time of a token, or its flash time where the time to compute is unknown.
    layout : str
        The one whose times these are.
    has_compute : bool
        Whether times include computing.
    """

    slots: tuple[int, ...]
    hit_ratio: Mapping[str, tuple[float, ...]]
    time_us: Mapping[str, tuple[float, ...]]
    layout: str
    has_compute: bool


def slot_curves(trace: ActivationTrace, scores: ExpertScores, track: Track = no_track) -> SlotCurves | None:
    """Return hits and times against slots, all else as in a simulation; None if no token was generated.

    Parameters
    ----------
    trace : ActivationTrace
        The one that was simulated.
    scores : ExpertScores
        What came of it. Times are of its baseline.
    track : Track
        Receives progress updates.

    Raises
    ------
    UsageError, TraceFormatError, OSError
        As `ripple_place.experts.score.score_experts`.

    Notes
    -----
    Costs a simulation for each policy and number of slots.
    """
    if scores.n_tokens == scores.n_prefill_tokens:
        return None
    params, result = scores.params, scores.baseline
    n_most = max(trace.blocks[name].n_neurons for name in scores.unit_bytes)
    slots = sorted({max(1, round(share * n_most)) for share in SLOT_SHARES})
    policies = list(dict.fromkeys([*COMPARED, *([] if params.policy == "none" else [params.policy])]))
    hits: dict[str, list[float]] = {policy: [] for policy in policies}
    times: dict[str, list[float]] = {policy: [] for policy in policies}
    settings = [
        (policy, replace(
            params, layouts=(result.name,), baseline=None, cache=policy, dram_budget=ExpertSlots(n_slots), bound=False,
            request_bytes=result.request_bytes,
        ))
        for policy in policies for n_slots in slots
    ]  # fmt: skip
    for policy, setting in track(settings, "simulating policies and slots"):
        document = score_experts(trace, setting).to_json()["layouts"][0]
        time_us = document["token_time_us_per_token"]
        hits[policy].append(document["cache_hit_ratio_by_phase"]["decode"])
        times[policy].append(document["flash_time_us_per_token"] if time_us is None else time_us)
    return SlotCurves(
        tuple(slots), {policy: tuple(found) for policy, found in hits.items()},
        {policy: tuple(found) for policy, found in times.items()}, result.name, result.timing is not None,
    )  # fmt: skip
