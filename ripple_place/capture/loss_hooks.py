"""Runs choosers inside a model: shows them the rows of each FFN in the order of the text, and drops what they drop."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import input_block_of
from ripple_place.capture.experts import watch_experts
from ripple_place.capture.ffn_inputs import first_argument, rows_of_expert, watch_input
from ripple_place.capture.recorder import check_positions
from ripple_place.trace.activity_rules import check_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from ripple_place.arrays import Float32Array, Int32Array, Int64Array
    from ripple_place.capture.batches import Rows
    from ripple_place.capture.loss_run import ActiveRun, Run
    from ripple_place.capture.sites import Site


class LossHooks:
    """The hooks by which runs take part in a model's forward.

    Between `attach` and its end, a forward either passes unchanged (`off`) or belongs to a run (`choosing`). Experts
    go through the same operations either way, so that a run that drops nothing gives the same numbers bit for bit.

    Parameters
    ----------
    sites : sequence of Site
        Those of one block name each.
    input_modules : mapping of str to torch.nn.Module
        Named by `ripple_place.capture.ffn_inputs.ffn_input_names`.
    runs : collection of Run
        All that will be made.
    device : str
    """

    def __init__(
        self, sites: Sequence[Site], input_modules: Mapping[str, Any], runs: Collection[Run], device: str
    ) -> None:
        self._sites, self._input_modules, self._runs, self._device = sites, input_modules, runs, device
        self._active: ActiveRun | None = None
        self._rows: Rows
        self._gate: dict[str, Any] = {}
        self._inputs: dict[str, Any] = {}

    @contextmanager
    def attach(self) -> Iterator[None]:
        """Take part in forwards until the end of the context; the model is as before afterwards.

        Raises
        ------
        UnsupportedError
            While the model runs, if a down projection sees other positions than those of the batch.
        TraceFormatError
            While the model runs, if an output is NaN or infinite.
        """
        ends: list[Callable[[], None]] = []
        try:
            for site in self._sites:
                ends += self._watch(site)
            yield
        finally:
            for end in ends:
                end()
            self.off()

    def off(self) -> None:
        """Let everything pass from now on."""
        self._active = None
        self._gate.clear()
        self._inputs.clear()

    def choosing(self, run: ActiveRun, rows: Rows) -> None:
        """Let a run decide in the next forward, of a batch with these rows."""
        self._active, self._rows = run, rows

    def _watch(self, site: Site) -> Iterator[Callable[[], None]]:
        """Set the hooks that the runs need at a site; yield what removes them."""
        blocks = site.layouts().keys()
        choosers = [run.choosers[block] for run in self._runs for block in blocks & run.choosers.keys()]
        if any(chooser.uses_gate for chooser in choosers) and site.gate is not None:
            yield site.gate.register_forward_hook(partial(self._see_gate, site)).remove
        if any(chooser.uses_inputs for chooser in choosers):
            module = self._input_modules[site.block]
            yield module.register_forward_pre_hook(partial(self._see_input, site), with_kwargs=True).remove
        inputs = input_block_of(site.block)
        if any(inputs in run.choosers or inputs in run.compensation for run in self._runs):
            yield watch_input(site, partial(self._see_columns, site))
        if choosers and site.n_experts:
            yield watch_experts(site.module, partial(self._see_expert, site))
        elif choosers:
            yield site.module.register_forward_pre_hook(partial(self._see_down, site)).remove
        if any(site.block in run.compensation for run in self._runs):
            yield site.module.register_forward_hook(partial(self._compensate, site)).remove

    def _see_gate(self, site: Site, module: Any, arguments: Any, output: Any) -> None:
        if self._active is not None:
            self._gate[site.block] = output.detach().flatten(0, -2)

    def _see_input(self, site: Site, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if self._active is not None:
            self._inputs[site.block] = first_argument(arguments, named).detach().flatten(0, -2)

    def _see_down(self, site: Site, module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Pre-hook of a down projection."""
        kept = self._see_all(site, site.block, arguments[0])
        return None if kept is None else (kept, *arguments[1:])

    def _see_columns(self, site: Site, values: Any) -> Any:
        """Look at the input of an FFN, of which some columns are used; as `watch_input` calls it."""
        import torch

        block = input_block_of(site.block)
        kept = self._see_all(site, block, values)
        added = None if self._active is None else self._active.run.compensation.get(block)
        if added is None:
            return kept
        # Up and gate are linear in it, so that a reader adds what they make of it to their outputs.
        return (values if kept is None else kept) + torch.from_numpy(added).to(values)

    def _see_all(self, site: Site, block: str, whole: Any) -> Any:
        """Look at a block that every position of the batch passes; return what to go on with, or None."""
        if self._active is None or block not in self._active.run.choosers:
            return None
        values, rows = whole.detach().flatten(0, -2), self._rows
        check_positions(site.path, values.shape[0], rows)
        kept = self._choose(site, block, values, self._inputs.get(site.block), rows.positions, rows.tokens)
        return None if kept is None else kept.view_as(whole)

    def _see_expert(self, site: Site, expert: int, position: Any, values: Any) -> Any:
        """Look at the rows of one expert, which some positions reach; return the values to go on with."""
        block = f"{site.block}.{expert}"
        if self._active is None or block not in self._active.run.choosers or position.numel() == 0:
            return values
        token_of = np.full(self._rows.n_positions, -1, np.int32)
        token_of[self._rows.positions] = self._rows.tokens
        tokens = token_of[position.cpu().numpy()]
        inputs = self._inputs.get(site.block)
        if inputs is not None:
            inputs = rows_of_expert(inputs, site, expert, self._rows.n_positions)[position]
        rows = np.flatnonzero(tokens >= 0)
        kept = self._choose(site, block, values.detach(), inputs, rows, tokens[rows]) if rows.size else None
        return values if kept is None else kept

    def _choose(self, site: Site, block: str, values: Any, inputs: Any, rows: Int64Array, tokens: Int32Array) -> Any:
        """Return values without what is dropped of them; None if that is nothing.

        Parameters
        ----------
        site : Site
        block : str
        values : torch.Tensor of shape (n_values, n_neurons)
        inputs : torch.Tensor of shape (n_values, hidden) or None
        rows : ndarray of shape (n,), int64
            Rows of `values` that belong to tokens.
        tokens : ndarray of shape (n,), int32
            Of these rows, in any order. A table of experts by token id may name one twice: it is asked about once.
        """
        import torch

        assert self._active is not None
        chooser = self._active.run.choosers[block]
        asked, first, of_row = np.unique(tokens, return_index=True, return_inverse=True)
        where = torch.from_numpy(rows[first]).to(self._device)
        gate = self._gate.pop(site.block, None)
        outputs = _array(values, where)
        check_finite(outputs, block, asked)
        shown_gate = (outputs if gate is None else _array(gate, where)) if chooser.uses_gate else None
        shown_inputs = _array(inputs, where) if chooser.uses_inputs else None
        used = self._active.used(block, outputs, shown_gate, shown_inputs, asked)
        dropped = ~used & (outputs != 0)
        if not dropped.any():
            return None  # A product with ones would be as exact, but this is seen to be.
        mask = torch.zeros(values.shape, dtype=torch.bool, device=values.device)
        mask[torch.from_numpy(rows).to(self._device)] = torch.from_numpy(dropped[of_row]).to(self._device)
        return values.masked_fill(mask, 0)

    def _compensate(self, site: Site, module: Any, arguments: Any, output: Any) -> Any:
        import torch

        added = None if self._active is None else self._active.run.compensation.get(site.block)
        return None if added is None else output + torch.from_numpy(added).to(output)


def _array(values: Any, rows: Any) -> Float32Array:
    """Return rows of a tensor as an array of its own."""
    array: Float32Array = values[rows].float().cpu().numpy()
    return array
