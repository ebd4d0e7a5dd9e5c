"""The activity of a selection rule: what fires, as an oracle or a predictor says, less what the rule drops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.block_tally import RowTokens
from ripple_place.generation.decision import Decision
from ripple_place.select.selected_block import SelectedBlock

if TYPE_CHECKING:
    from ripple_place.arrays import Float32Array
    from ripple_place.flash.replay import Chunk
    from ripple_place.generation.plain_activities import Oracle
    from ripple_place.runtime.layout_reader import LayoutReader
    from ripple_place.select.rule import Rule, Tuning
    from ripple_place.select.sight import Ffn, Sight


class Ruled:
    """A rule at work in a block; it owns the block's DRAM cache, since it looks at what is there.

    Parameters
    ----------
    block : str
    rule : Rule
    reader : LayoutReader
        Keeps the bytes of what the rule's cache holds from now on.
    tuning : Tuning
        Of the rule.
    sight : Sight
        What the rule sees; predictors in the order of the source.
    ffn : Ffn
    oracle : Oracle or None
        Says what units put out; None where a predictor does.
    n_predictor_bytes : int
        Memory of that predictor.

    Raises
    ------
    UsageError
        If the rule lacks something, or does not go with the reader.
    """

    is_one_by_one = True

    def __init__(
        self, block: str, rule: Rule, reader: LayoutReader, tuning: Tuning, sight: Sight, ffn: Ffn,
        oracle: Oracle | None, n_predictor_bytes: int = 0,
    ) -> None:  # fmt: skip
        layout = reader.layout.blocks[block]
        self._chunks: list[Chunk] = []
        self._selected = SelectedBlock(
            block, rule, layout, reader.device, reader.simulation, RowTokens(0, None, 0), tuning, sight, ffn,
            self._chunks.append,
        )  # fmt: skip
        reader.use_cache(block, reader.simulation.cache, self._selected.cache, self._selected.capacity)
        self._order, self._oracle, self._n_predictor_bytes = layout.placement.order, oracle, n_predictor_bytes
        self.added: Float32Array | None = tuning.compensation.get(block)

    @property
    def n_bytes(self) -> int:
        """Memory of the oracle or the predictor."""
        return self._n_predictor_bytes if self._oracle is None else self._oracle.n_bytes

    def decide(self, inputs: Float32Array) -> Decision:
        """Return the units that the rule chooses for a single token, and which of them are in DRAM."""
        outputs = np.zeros((inputs.shape[0], self._order.size), np.float32)
        gate = None
        if self._oracle is not None:
            by_slot, gate_by_slot = self._oracle.outputs(inputs)
            outputs[:, self._order] = by_slot
            gate = np.empty_like(outputs)
            gate[:, self._order] = gate_by_slot
        self._selected.choose(outputs, gate, inputs)
        chunk = self._chunks.pop()
        is_wanted = np.zeros(outputs.shape, bool)
        is_wanted[0, chunk.slots] = True
        return Decision(is_wanted, is_hit=np.ascontiguousarray(chunk.is_hit, np.uint8))
