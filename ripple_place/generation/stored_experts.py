"""The experts of a layer, which stay on storage: those that the router chose are read, some at a time, and computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.storage.direct_file import aligned_buffer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.arrays import Int32Array, UInt8Array
    from ripple_place.generation.expert_form import ExpertForm
    from ripple_place.runtime.layout_reader import LayoutReader

MAX_ROOM_BYTES = 64 << 20
"""Of experts that are read at a time, unless a single token asks for more: a prompt may ask for all of a layer."""


class StoredExperts:
    """The experts of a layer.

    Parameters
    ----------
    form : ExpertForm
    reader : LayoutReader
    module : torch.nn.Module
        The experts' module in the model, whose weights are gone. Its forward is taken over.
    """

    n_bytes = 0

    def __init__(self, form: ExpertForm, reader: LayoutReader, module: Any) -> None:
        self._form, self._reader, self._module = form, reader, module
        placement = reader.layout.blocks[form.block].placement
        self._slot_of, self._order = placement.slot_of, placement.order
        self._row_bytes = reader.row_bytes(form.block)
        module.forward = self.run

    def start(self) -> None:
        """Do nothing: no forward leaves anything behind."""

    def run(self, hidden_states: Any, top_k_index: Any, top_k_weights: Any) -> Any:
        """Return what the experts put out.

        Parameters
        ----------
        hidden_states : torch.Tensor of shape (n_tokens, hidden)
        top_k_index, top_k_weights : torch.Tensor of shape (n_tokens, top_k)
            Which experts each token goes to, and with what weight.

        Returns
        -------
        torch.Tensor of shape (n_tokens, hidden)

        Notes
        -----
        Outputs are added up by number of the expert, so that they depend neither on the order on storage nor on what
        was in DRAM.
        """
        import torch

        chosen = np.unique(top_k_index.numpy())
        slots = np.sort(self._slot_of[chosen[chosen < self._form.n_experts]]).astype(np.int32)
        outputs: dict[int, tuple[Any, Any]] = {}
        for slot, row in self._rows(slots, top_k_index.shape[-1]):
            expert = int(self._order[slot])
            position, place = torch.where(top_k_index == expert)
            values = self._compute(row, hidden_states[position]) * top_k_weights[position, place, None]
            outputs[expert] = (position, values.to(hidden_states.dtype))
        total = torch.zeros_like(hidden_states)
        for expert in sorted(outputs):
            total.index_add_(0, *outputs[expert])
        return total

    def _rows(self, slots: Int32Array, n_of_token: int) -> Iterator[tuple[int, UInt8Array]]:
        """Yield slots and the bytes of their experts, those in DRAM first, as many in memory as there is room for."""
        n_at_a_time = max(n_of_token, MAX_ROOM_BYTES // self._row_bytes)
        room = aligned_buffer(max(1, min(n_at_a_time, slots.size)) * self._row_bytes).reshape(-1, self._row_bytes)
        for first in range(0, slots.size, n_at_a_time):
            part = slots[first : first + n_at_a_time]
            pending = self._reader.begin(self._form.block, part, rows=room[: part.size])
            try:
                for i in np.flatnonzero(pending.is_hit):
                    yield int(part[i]), pending.rows[i]
            finally:
                rows = pending.wait()
            for i in np.flatnonzero(~pending.is_hit):
                yield int(part[i]), rows[i]

    def _compute(self, row: UInt8Array, x: Any) -> Any:
        """Return what an expert puts out for some tokens."""
        import torch

        form, module = self._form, self._module
        inner = torch.cat([self._project(row, role, x) for role in form.inner], dim=-1)
        # Theirs: how gate and up come together is a fact of the family.
        h = module._apply_gate(inner) if module.has_gate else module.act_fn(inner)  # noqa: SLF001
        return self._project(row, "down", h)

    def _project(self, row: UInt8Array, role: str, x: Any) -> Any:
        import torch

        weight, bias = self._form.weights(row, role, x.dtype), self._form.bias(row, role, x.dtype)
        if self._module.is_transposed and not self._form.is_single:
            weight = weight.t()
        return torch.nn.functional.linear(x, weight, bias)
