"""One choice that several layouts serve, so that a model runs once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.select.active_rows import ActiveRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import BoolArray, Float32Array
    from ripple_place.select.selected_block import SelectedBlock


class SharedChoice:
    """One choice for several layouts, by a rule that looks neither at what is in DRAM nor at where neurons lie.

    Parameters
    ----------
    blocks : sequence of SelectedBlock
        The same block on each layout, with the same rule and tuning.
    """

    def __init__(self, blocks: Sequence[SelectedBlock]) -> None:
        self._first, *self._others = blocks
        self.uses_gate, self.uses_inputs = self._first.uses_gate, self._first.uses_inputs

    def start_segment(self) -> None:
        """As `SelectedBlock.start_segment`, for each."""
        for block in (self._first, *self._others):
            block.start_segment()

    def choose(
        self, outputs: Float32Array, gate: Float32Array | None = None, inputs: Float32Array | None = None
    ) -> BoolArray:
        """Choose as `SelectedBlock.choose`, and serve from each layout what was chosen."""
        used = self._first.choose(outputs, gate, inputs)
        if self._others:
            rows, chosen = ActiveRows.from_outputs(outputs), ActiveRows.from_mask(used)
            is_used = used[rows.row, rows.neurons]
            for block in self._others:
                block.serve_chosen(rows, chosen, is_used)
        return used
