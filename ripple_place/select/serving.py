"""Serves rows whose units a rule chooses with the cache in view: choose, then get and admit, row by row."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.kernels.admission import admit_outside_runs
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.flash.caches.cache import CacheKernels


class ScoredRows(NamedTuple):
    """The active neurons of consecutive rows.

    Attributes
    ----------
    slots : ndarray of shape (n_active,), int32
        Row by row, ascending in each.
    worth : ndarray of shape (n_active,), float64
        What each scores.
    row_starts : ndarray of shape (n_rows + 1,), int64
        Row t has the entries from ``row_starts[t]`` to before ``row_starts[t + 1]``.
    """

    slots: Any
    worth: Any
    row_starts: Any


class AdmissionRule(NamedTuple):
    """Who may enter the cache, as `ripple_place.kernels.admission` takes it; a cut-off of 0 admits all."""

    cutoff: int
    threshold: int
    key: Any


class UsedRows(NamedTuple):
    """What a rule chose of some rows, written by the kernel.

    Attributes
    ----------
    is_used : ndarray of shape (n_active,), uint8
        1 where the entry of `ScoredRows` is used.
    slots : ndarray of shape (n_active,) or what fits, int32
        The slots that are used, row by row, ascending in each.
    is_hit : ndarray of the shape of `slots`, uint8
        1 where the neuron in the slot was in DRAM when the row began.
    row_starts : ndarray of shape (n_rows + 1,), int64
    """

    is_used: Any
    slots: Any
    is_hit: Any
    row_starts: Any


class RowScratch(NamedTuple):
    """Room for one row: arrays of as many entries as the block has neurons.

    Attributes
    ----------
    is_resident : ndarray of uint8
        Of what is active, in slot order.
    neurons : ndarray of int32
        What is used, in slot order.
    may_enter : ndarray of uint8
        The same; 1 everywhere unless an `AdmissionRule` says otherwise.
    asked, admitted, is_hit : ndarray of int32, uint8, uint8
        What is used, in the order in which the cache is asked.
    """

    is_resident: Any
    neurons: Any
    may_enter: Any
    asked: Any
    admitted: Any
    is_hit: Any

    @classmethod
    def allocate(cls, n_neurons: int) -> RowScratch:
        """Return room for a row of a block."""
        return cls(
            np.empty(n_neurons, np.uint8), np.empty(n_neurons, np.int32), np.ones(n_neurons, np.uint8),
            np.empty(n_neurons, np.int32), np.empty(n_neurons, np.uint8), np.empty(n_neurons, np.uint8),
        )  # fmt: skip


@functools.cache
def serving_kernel(policy: str, kernels: CacheKernels, rule: str, choose: Any) -> Callable[..., None]:
    """Return the kernel that serves rows by a rule from a cache.

    Parameters
    ----------
    policy, rule : str
        Names, which tell the compiled code from that of others.
    kernels : CacheKernels
        Of the policy.
    choose : compiled function
        ``choose(slots, worth, is_resident, arguments, is_used)``, of the rule.

    Notes
    -----
    Residents are asked for first, then what is read, so that nothing is displaced before the row has used it. A policy
    that judges rows as a whole gets them in slot order.
    """
    access, holds, in_slot_order = kernels

    @compiled(name=f"{rule}.{policy}".replace("+", "-"), made_of=(access, holds, choose))
    def serve(
        rows: ScoredRows, first_row: int, order: Any, admission: AdmissionRule, choice: Any, cache: Any,
        scratch: RowScratch, used: UsedRows,
    ) -> None:  # fmt: skip
        slots, worth, row_starts = rows
        is_used, used_slots, used_hit, used_starts = used
        is_resident, neurons, may_enter, asked, admitted, is_hit = scratch
        n_used = 0
        for row in range(row_starts.size - 1):
            start, stop = row_starts[row], row_starts[row + 1]
            n_active = stop - start
            for access_ in range(n_active):
                is_resident[access_] = holds(order[slots[start + access_]], cache)
            choose(slots[start:stop], worth[start:stop], is_resident[:n_active], choice, is_used[start:stop])
            used_starts[row] = n_used
            n_hits = 0
            for access_ in range(n_active):
                if is_used[start + access_]:
                    used_slots[n_used] = slots[start + access_]
                    used_hit[n_used] = is_resident[access_]
                    n_hits += is_resident[access_]
                    n_used += 1
            first, n_asked = used_starts[row], n_used - used_starts[row]
            for access_ in range(n_asked):
                neurons[access_] = order[used_slots[first + access_]]
            if admission.cutoff > 0:
                # Runs are of slots, whatever comes first.
                whole_row = np.array([0, n_asked])
                admit_outside_runs(
                    used_slots[first:n_used], neurons[:n_asked], whole_row, first_row + row, admission.cutoff,
                    admission.threshold, admission.key, may_enter[:n_asked],
                )  # fmt: skip
            hit, missed = 0, n_hits
            for access_ in range(n_asked):
                if in_slot_order:
                    place = access_
                elif used_hit[first + access_]:
                    place = hit
                    hit += 1
                else:
                    place = missed
                    missed += 1
                asked[place] = neurons[access_]
                admitted[place] = may_enter[access_]
            access(asked[:n_asked], admitted[:n_asked], is_hit[:n_asked], *cache)
        used_starts[row_starts.size - 1] = n_used

    return serve
