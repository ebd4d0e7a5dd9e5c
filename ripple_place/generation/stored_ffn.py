"""An FFN whose weights stay on storage: decides, reads and computes, between modules of the model that stand in for it.

The model's own code runs between the stand-ins. They hand on a column for each unit that any of the tokens uses, in
slot order, where the matrices would give one for every unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.generation.refusal import other_model
from ripple_place.generation.row_form import DOWN, GATE, UP
from ripple_place.kernels.sparse_ffn import add_rows, dot_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.arrays import BoolArray, Float32Array, Int32Array, UInt8Array
    from ripple_place.generation.decision import Activity, Decision
    from ripple_place.generation.plain_activities import Function
    from ripple_place.generation.row_form import RowForm
    from ripple_place.runtime.layout_reader import LayoutReader

_CLOSE = 1e-2
"""How far what the model hands to down may be from what is expected, relative to the largest: half precision rounds."""


class StoredFfn:
    """One FFN.

    Parameters
    ----------
    form : RowForm
        Of the rows that the reader gives.
    reader : LayoutReader
    activity : Activity
    function : callable
        The activation function.
    is_gated : bool
    biases : mapping of str to ndarray of shape (n_units,), float32
        Of up and gate, by role.
    down_bias : ndarray of shape (hidden,), float32, or None
    """

    def __init__(
        self, form: RowForm, reader: LayoutReader, activity: Activity, function: Function, *, is_gated: bool,
        biases: Mapping[str, Float32Array], down_bias: Float32Array | None,
    ) -> None:  # fmt: skip
        self.form, self.activity = form, activity
        self._reader, self._function, self._biases, self._down_bias = reader, function, biases, down_bias
        self._roles = (GATE, UP) if is_gated else (UP,)
        self._is_checked = False
        self._input: Any = None
        self._n_left = 0
        self._values: dict[str, Float32Array] = {}
        self._rows: UInt8Array = np.empty((0, form.row_bytes), np.uint8)
        self._is_wanted: BoolArray = np.empty((0, 0), bool)

    @property
    def n_bytes(self) -> int:
        """Memory of what decides."""
        return self.activity.n_bytes

    def start(self) -> None:
        """Forget a forward that an error has ended."""
        self._input, self._n_left, self._values = None, 0, {}

    def enter(self, x: Any, roles: Sequence[str]) -> Any:
        """Return what a stand-in for up or gate (or both) puts out; the first of them reads the rows.

        Parameters
        ----------
        x : torch.Tensor of shape (..., hidden)
        roles : sequence of str
            Of the stand-in.

        Returns
        -------
        torch.Tensor of shape (..., n_roles * n_used)
        """
        import torch

        if self._n_left == 0:
            self._compute(x.reshape(-1, x.shape[-1]).float().contiguous().numpy())
            self._input, self._n_left = x, len(self._roles)
        elif x.data_ptr() != self._input.data_ptr() or x.shape != self._input.shape:
            raise other_model(self.form.block, "up and gate projections of different inputs")
        self._n_left -= len(roles)
        values = np.concatenate([self._values[role] for role in roles], axis=1)
        return torch.from_numpy(values).to(x.dtype).view(*x.shape[:-1], values.shape[1])

    def leave(self, h: Any) -> Any:
        """Return what the stand-in for down puts out.

        Parameters
        ----------
        h : torch.Tensor of shape (..., n_used)

        Returns
        -------
        torch.Tensor of shape (..., hidden)
        """
        import torch

        down = self.form.components[DOWN]
        values = h.reshape(self._is_wanted.shape[0], -1 if h.numel() else h.shape[-1]).float().numpy()
        self._check(values)
        factors = np.where(self._is_wanted, values, np.float32(0))
        sums = np.zeros((factors.shape[0], self.form.hidden), np.float32)
        add_rows(self._rows, down.at_bytes, down.form, factors, sums)
        for added in (self._down_bias, self.activity.added):
            if added is not None:
                sums += added
        # All layers' rows together would be the memory that is saved.
        self._input, self._values, self._rows = None, {}, np.empty((0, self.form.row_bytes), np.uint8)
        return torch.from_numpy(sums).to(h.dtype).view(*h.shape[:-1], self.form.hidden)

    def _compute(self, inputs: Float32Array) -> None:
        """Decide, read, and multiply rows with inputs: what is in DRAM first, while the others are read."""
        if self.activity.is_one_by_one and inputs.shape[0] > 1:
            self._compute_one_by_one(inputs)
            return
        decision = self.activity.decide(inputs)
        slots = self._take(decision)
        pending = self._reader.begin(self.form.block, slots, decision.is_hit)
        try:
            self._multiply(pending.rows, np.flatnonzero(pending.is_hit), inputs)
        finally:
            self._rows = pending.wait()
        self._multiply(self._rows, np.flatnonzero(~pending.is_hit), inputs)
        self._add_biases(slots)

    def _compute_one_by_one(self, inputs: Float32Array) -> None:
        """Decide and read token by token, then multiply."""
        is_wanted, served = [], []
        for token in range(inputs.shape[0]):
            decision = self.activity.decide(inputs[token : token + 1])
            slots = np.flatnonzero(decision.is_wanted[0]).astype(np.int32)
            is_wanted.append(decision.is_wanted)
            served.append((slots, self._reader.serve(self.form.block, slots, decision.is_hit)))
        all_wanted = np.concatenate(is_wanted)
        slots = np.flatnonzero(all_wanted.any(axis=0)).astype(np.int32)
        self._is_wanted = np.ascontiguousarray(all_wanted[:, slots])
        self._rows = np.empty((slots.size, self.form.row_bytes), np.uint8)
        for own, rows in served:
            self._rows[np.searchsorted(slots, own)] = rows
        self._values = {role: np.zeros(self._is_wanted.shape, np.float32) for role in self._roles}
        self._multiply(self._rows, np.arange(slots.size), inputs)
        self._add_biases(slots)

    def _take(self, decision: Decision) -> Int32Array:
        """Make room for what was decided; return the slots that any token uses."""
        slots = np.flatnonzero(decision.is_wanted.any(axis=0)).astype(np.int32)
        self._is_wanted = np.ascontiguousarray(decision.is_wanted[:, slots])
        self._values = {
            role: np.ascontiguousarray(decision.known[role][:, slots])
            if role in decision.known
            else np.zeros(self._is_wanted.shape, np.float32)
            for role in self._roles
        }
        return slots

    def _multiply(self, rows: UInt8Array, which: Any, inputs: Float32Array) -> None:
        for role in self._roles:
            part = self.form.components.get(role)
            if part is not None:
                dot_rows(
                    rows, part.at_bytes, part.form, which.astype(np.int32), self._is_wanted, inputs, self._values[role]
                )  # fmt: skip

    def _add_biases(self, slots: Int32Array) -> None:
        for role, bias in self._biases.items():
            if role in self.form.components:
                self._values[role] += bias[slots]

    def _check(self, values: Float32Array) -> None:
        """Raise unless the model computes, between the stand-ins, what it is expected to: once, on the first units."""
        expected = self._function(self._values[self._roles[0]])
        if GATE in self._roles:
            expected = expected * self._values[UP]
        if values.shape != expected.shape:
            raise other_model(self.form.block, f"{values.shape[-1]} outputs of {expected.shape[-1]} units")
        if self._is_checked or not expected.size:
            return
        limit = _CLOSE * float(np.abs(expected).max())
        if not (np.abs(values - expected) <= limit).all():
            raise other_model(self.form.block, "something else than an activation function between up and down")
        self._is_checked = True
