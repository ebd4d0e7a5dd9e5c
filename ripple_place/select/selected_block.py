"""A rule at work in one block: chooses row by row, serves what it chose from cache and flash, and counts both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.block_tally import BlockTally
from ripple_place.flash.caches.cache import Accesses
from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.read_cost import ReadCost
from ripple_place.flash.replay import Chunk
from ripple_place.kernels.scored_slots import list_scored_slots
from ripple_place.select.active_rows import ActiveRows
from ripple_place.select.rule import BlockView, MaskedBlock, PricedBlock
from ripple_place.select.serving import AdmissionRule, RowScratch, ScoredRows, UsedRows, serving_kernel
from ripple_place.trace.sensitivity import sensitivity_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.arrays import AnyArray, BoolArray, Float32Array, Float64Array, Int32Array
    from ripple_place.flash.block_rows import BlockRows
    from ripple_place.flash.block_tally import RowTokens
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.results import BlockResult
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.select.rule import Rule, Tuning
    from ripple_place.select.sight import Ffn, Sight


@dataclass(frozen=True)
class WorthCount:
    """What was active and what was dropped, in units of worth.

    Attributes
    ----------
    active, dropped : float
        Sums of ``c_i h_i^2`` over the tokens of a block, in nats; the sum of what was dropped predicts the loss.
    n_active, n_dropped : int
        Neurons that fire, and those of them that were not chosen.
    n_chosen : int
        Neurons that were chosen, whether or not they fire.
    """

    active: float = 0.0
    dropped: float = 0.0
    n_active: int = 0
    n_dropped: int = 0
    n_chosen: int = 0

    def __add__(self, other: WorthCount) -> WorthCount:
        """Return both together."""
        return WorthCount(
            self.active + other.active, self.dropped + other.dropped, self.n_active + other.n_active,
            self.n_dropped + other.n_dropped, self.n_chosen + other.n_chosen,
        )  # fmt: skip


class SelectedBlock:
    """Serves one block by a rule.

    Parameters
    ----------
    name : str
    rule : Rule
    layout : BlockLayout
    device : DeviceProfile
    params : SimulationParams
    rows : RowTokens
        All that will be served.
    tuning : Tuning
    sight : Sight
        What the rule sees of the rows.
    ffn : Ffn
        What the block is a part of.
    tell : callable, optional
        Receives each chunk of rows that was served, in place of the tally, which then charges nothing: for readers
        that read it for real.

    Attributes
    ----------
    cache : Cache
        What DRAM holds, by neuron.
    capacity : int
        Neurons that it holds at most.

    Raises
    ------
    UsageError
        If the rule lacks something that is fitted or cannot be seen, or the reader's cache or planner does not go with
        it.
    """

    def __init__(
        self, name: str, rule: Rule, layout: BlockLayout, device: DeviceProfile, params: SimulationParams,
        rows: RowTokens, tuning: Tuning, sight: Sight, ffn: Ffn, tell: Callable[[Chunk], None] | None = None,
    ) -> None:  # fmt: skip
        capacity, placement = params.capacity_neurons.get(name, 0), layout.placement
        cost = ReadCost.on_device(device, layout.extent.bundle_bytes, params.gap_of(name, layout, device))
        self.name, self._sight = name, sight.of_block(name, rule, layout.n_neurons, ffn)
        self.uses_gate = rule.uses_gate and not self.is_predicted
        self._rule = rule.of_block(
            BlockView(name, layout.n_neurons, cost, tuning, ffn.unit, ffn.is_gated, ffn.n_opposite)
        )
        self._importance = tuning.importance.get(name)
        self._sensitivity = self._rule.sensitivity if isinstance(self._rule, PricedBlock) else None
        self.uses_inputs = self.is_predicted or self._sensitivity is not None
        self._empties = bool(params.reset_tokens)
        self._placement, self._admission = placement, params.admission
        self.cache, self.capacity = find_policy(params.cache)(capacity, placement, cost), capacity
        if self.cache.needs_future or (isinstance(self._rule, PricedBlock) and self.cache.kernels is None):
            raise UsageError(
                f"--cache {params.cache} --select {rule}", found="a policy that knows what later tokens ask for",
                expected="one that a reader can have: what is asked for depends on what it holds",
                remedy="name another --cache",
            )  # fmt: skip
        if isinstance(self._rule, PricedBlock) and self._rule.foresees_reads:
            _check_reader(rule, layout, device, params)
        self._kernel = (
            serving_kernel(params.cache.partition(":")[0], self.cache.kernels, rule.name, self._rule.choose)
            if isinstance(self._rule, PricedBlock) and self.cache.kernels is not None else None
        )  # fmt: skip
        self.tally = BlockTally(layout, device, params.reader_of(name, layout, device), rows, capacity)
        self._charge = self.tally.add if tell is None else tell
        self._first_row = 0
        n_neurons = layout.n_neurons
        self._scratch = RowScratch.allocate(n_neurons)
        self._words, self._worth_of = np.zeros(-(-n_neurons // 64), np.uint64), np.empty(n_neurons)
        self.worth = WorthCount()

    def start_segment(self) -> None:
        """Empty the cache, if the reader does so where a segment begins."""
        if self._empties:
            self.cache.reset()
            for array in self._rule.state if isinstance(self._rule, PricedBlock) else ():
                array[...] = 0

    def choose(
        self, outputs: Float32Array, gate: Float32Array | None = None, inputs: Float32Array | None = None
    ) -> BoolArray:
        """Serve consecutive rows and return which neurons they use.

        Parameters
        ----------
        outputs : ndarray of shape (n_rows, n_neurons), float32
            Inputs of the down projection.
        gate : ndarray of the same shape, optional
            Outputs of the activation function, for rules that use them.
        inputs : ndarray of shape (n_rows, hidden), float32, optional
            Inputs of the FFN, where the tokens' sensitivity is known, or a predictor says what fires.

        Returns
        -------
        ndarray of shape (n_rows, n_neurons), bool
            Where the output is 0, only if a predictor said that it would not be.
        """
        weight = None if self._sensitivity is None or inputs is None else sensitivity_of(self._sensitivity, inputs)
        rows = ActiveRows.from_outputs(outputs)
        row, neurons = self._serve(rows, self._sight.see(rows, inputs), weight, gate)
        used = np.zeros(outputs.shape, bool)
        used[row, neurons] = True
        return used

    def serve(self, rows: ActiveRows) -> None:
        """Serve consecutive rows of which only the neurons that fire are known."""
        self._serve(rows, self._sight.see(rows, None), None, None)

    @property
    def is_predicted(self) -> bool:
        """Whether a predictor tells the rule what fires."""
        return self._sight.is_predicted

    @property
    def sees_outputs_alone(self) -> bool:
        """Whether the rule looks neither at what is in DRAM nor at where neurons lie."""
        return isinstance(self._rule, MaskedBlock)

    def result(self) -> tuple[BlockResult, BlockRows]:
        """Return what the rows cost, and what was served each token."""
        return self.tally.result()

    def _serve(
        self, rows: ActiveRows, seen: ActiveRows, weight: Float32Array | None, gate: Float32Array | None
    ) -> tuple[AnyArray, Int32Array]:
        """Choose by what is seen of rows, serve and count it; return row and neuron of what was chosen."""
        n_neurons = self._placement.n_neurons
        if isinstance(self._rule, MaskedBlock):
            is_chosen: BoolArray = self._rule.mask(seen.spread_out(n_neurons), gate)[seen.row, seen.neurons]
            chosen = seen.only(is_chosen)
            self.serve_chosen(rows, chosen, rows.are_in(chosen, n_neurons) if self.is_predicted else is_chosen)
            return chosen.row, chosen.neurons
        row_weight = np.ones(rows.n_rows, np.float32) if weight is None else weight
        slots, worth = self._list(seen, self._rule.weight, row_weight, is_squared=self._rule.is_squared)
        is_chosen = self._serve_priced(self._rule, ScoredRows(slots, worth, seen.starts))
        chosen = ActiveRows(seen.starts, self._placement.order[slots], seen.values).only(is_chosen)
        is_used = self._in_slot_order(rows).are_in(chosen, n_neurons) if self.is_predicted else is_chosen
        self._count(self._worth_of_priced(self._rule, rows, seen, worth, row_weight), is_used, chosen)
        return chosen.row, chosen.neurons

    def _worth_of_priced(
        self, rule: PricedBlock, rows: ActiveRows, seen: ActiveRows, worth: Float64Array, row_weight: Float32Array
    ) -> Float64Array | None:
        """Return the worth of rows in slot order, of which a rule saw `seen` and took `worth` for their values."""
        if not rule.is_squared:
            ones = np.ones(rows.n_rows, np.float32)
            known = self._importance
            return None if known is None else self._list(rows, known, ones, is_squared=True)[1]
        return worth if seen is rows else self._list(rows, rule.weight, row_weight, is_squared=True)[1]

    def serve_chosen(self, rows: ActiveRows, chosen: ActiveRows, is_used: BoolArray) -> None:
        """Serve what was chosen, and count which of what fires is among it."""
        self._serve_masked(chosen)
        worth = None if self._importance is None else self._importance[rows.neurons] * rows.values**2
        self._count(worth, is_used, chosen)

    def _in_slot_order(self, rows: ActiveRows) -> ActiveRows:
        """Return rows with their neurons in the order of their slots; values mean nothing then."""
        ones = np.ones(max(rows.n_rows, self._placement.n_neurons), np.float32)
        slots, _ = self._list(rows, ones, ones, is_squared=False)
        return ActiveRows(rows.starts, self._placement.order[slots], rows.values)

    def _list(
        self, rows: ActiveRows, weight: Float32Array, row_weight: Float32Array, *, is_squared: bool
    ) -> tuple[Int32Array, Float64Array]:
        """Return slots, ascending in each row, and what is worth the neuron in each."""
        slots, worth = np.empty(rows.neurons.size, np.int32), np.empty(rows.neurons.size)
        list_scored_slots(
            rows.starts, rows.neurons, rows.values, self._placement.slot_of, weight, row_weight, is_squared,
            self._words, self._worth_of, slots, worth,
        )  # fmt: skip
        return slots, worth

    def _serve_masked(self, kept: ActiveRows) -> None:
        """Ask the cache for what is used, one neuron after the other in slot order."""
        ones = np.ones(max(kept.n_rows, self._placement.n_neurons), np.float32)
        slots, _ = self._list(kept, ones, ones, is_squared=False)
        neurons = self._placement.order[slots]
        admitted, is_hit = np.empty(slots.size, np.uint8), np.empty(slots.size, np.uint8)
        self._admission.admit(self.name, slots, neurons, kept.starts, self._first_row, admitted)
        self.cache.replay(Accesses(neurons, kept.starts, admitted), is_hit)
        self._tell(Chunk(self._first_row, slots, is_hit, kept.starts))

    def _serve_priced(self, rule: PricedBlock, rows: ScoredRows) -> BoolArray:
        """Let the rule choose row by row, with the cache as the rows before left it; return what is used."""
        assert self._kernel is not None
        n = rows.slots.size
        result = UsedRows(
            np.empty(n, np.uint8), np.empty(n, np.int32), np.empty(n, np.uint8), np.empty_like(rows.row_starts)
        )
        admission = AdmissionRule(
            self._admission.cutoff or 0, round(self._admission.probability * 2**32), self._admission.key(self.name)
        )
        self._kernel(
            rows, self._first_row, self._placement.order, admission, rule.arguments, self.cache.arguments,
            self._scratch, result,
        )  # fmt: skip
        n_used = int(result.row_starts[-1])
        self._tell(Chunk(self._first_row, result.slots[:n_used], result.is_hit[:n_used], result.row_starts))
        is_used: BoolArray = result.is_used.view(bool)
        return is_used

    def _tell(self, chunk: Chunk) -> None:
        """Charge a chunk of rows."""
        self._charge(chunk)
        self._first_row += chunk.n_rows

    def _count(self, worth: AnyArray | None, is_used: BoolArray, chosen: ActiveRows) -> None:
        """Add up what was active, what of it was dropped, and what was chosen; worth is None where it is unknown."""
        total, dropped = 0.0, 0.0
        if worth is not None:
            total, dropped = (float(part.sum(dtype=np.float64)) for part in (worth, worth[~is_used]))
        n_dropped = is_used.size - int(np.count_nonzero(is_used))
        self.worth += WorthCount(total, dropped, is_used.size, n_dropped, chosen.neurons.size)


def _check_reader(rule: Rule, layout: BlockLayout, device: DeviceProfile, params: SimulationParams) -> None:
    """Refuse readers whose reads a rule does not foresee."""
    if device.is_mapped:
        raise _unforeseen(rule, "memory-mapped reads", "leave --access mmap out")
    if params.planner != "fixed":
        raise _unforeseen(rule, f"--collapse {params.planner}", "leave --collapse out")
    if layout.n_copies == 2:
        raise _unforeseen(rule, "two copies of each neuron", "reorder without --copies")


def _unforeseen(rule: Rule, found: str, remedy: str) -> UsageError:
    return UsageError(
        f"--select {rule}", found=found, expected="reads of one copy, planned with one gap", remedy=remedy
    )
