"""Watches what flows back through the sites of a model: squared gradients of units, and of whole blocks by token."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import input_block_of
from ripple_place.capture.experts import watch_experts
from ripple_place.capture.ffn_inputs import watch_input
from ripple_place.capture.sensitivity import SensitivityFit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ripple_place.arrays import AnyArray, Float64Array
    from ripple_place.capture.batches import Batch, Rows
    from ripple_place.capture.sites import Site


class Gradients:
    """Sums over the recorded positions of batches, in float64.

    Parameters
    ----------
    sites : sequence of Site
    ups : mapping of str to str
        By block, the module whose input the sensitivity is fitted on: dense blocks of one site each.
    first_held_out : int
        Tokens from this one on judge the sensitivity before they join its fit.
    device : str

    Attributes
    ----------
    fits : dict of str to SensitivityFit
    """

    def __init__(self, sites: Sequence[Site], ups: Mapping[str, str], first_held_out: int, device: str) -> None:
        self._sites, self._ups, self._first_held_out, self._device = sites, ups, first_held_out, device
        self._sums: dict[tuple[str, str], Any] = {}
        self._n_rows: dict[tuple[str, str], int] = defaultdict(int)
        self._rows: Mapping[str, Rows] = {}
        self._is_recorded: dict[str, Any] = {}
        self._states: dict[str, AnyArray] = {}
        self._squares: dict[str, Float64Array] = {}
        self.fits: dict[str, SensitivityFit] = {}

    @contextmanager
    def attach(self, model: Any) -> Iterator[None]:
        """Watch gradients until the end of the context; the model is as before afterwards."""
        ends: list[Callable[[], None]] = []
        try:
            for site in self._sites:
                if site.n_experts:
                    ends.append(watch_experts(site.module, partial(self._see_expert, site)))
                else:
                    ends.append(site.module.register_forward_pre_hook(partial(self._see_neurons, site)).remove)
                if site.inputs:
                    ends.append(watch_input(site, partial(self._see_input, site)))
                if site.block in self._ups:
                    ends.append(site.module.register_forward_hook(partial(self._see_output, site)).remove)
                    ends.append(self._watch_states(model, site, self._keep_states))
            yield
        finally:
            for end in ends:
                end()

    @contextmanager
    def attach_scale(self, model: Any) -> Iterator[None]:
        """Watch states alone until the end of the context, for the scale of the sensitivities."""
        self.fits = {block: fit for block, fit in self.fits.items() if fit.has_tokens}
        for fit in self.fits.values():
            fit.finish()
        ends = [self._watch_states(model, site, self._scale) for site in self._sites if site.block in self.fits]
        # Experts run as they ran before: fused, they round differently, or lack kernels for the dtype.
        ends += [watch_experts(site.module, _pass) for site in self._sites if site.n_experts]
        try:
            yield
        finally:
            for end in ends:
                end()

    def begin(self, batch: Batch) -> None:
        """Prepare for the next forward, of this batch."""
        import torch

        self._rows = batch.rows()
        self._is_recorded = {}
        for stack, rows in self._rows.items():
            flags = torch.zeros(rows.n_positions, dtype=torch.bool)
            flags[torch.from_numpy(rows.positions)] = True
            self._is_recorded[stack] = flags.to(self._device)

    def end(self) -> None:
        """Count the tokens of a batch whose gradients have been computed."""
        stacks = {site.block: site.stack for site in self._sites}
        for block, squared in self._squares.items():
            states = self._states.get(block)
            if states is None or states.shape[0] != squared.size:
                continue
            fit = self.fits.setdefault(block, SensitivityFit(states.shape[1]))
            n_fitted = int((self._rows[stacks[block]].tokens < self._first_held_out).sum())
            fit.add(states[:n_fitted], squared[:n_fitted], is_held_out=False)
            fit.add(states[n_fitted:], squared[n_fitted:], is_held_out=True)
        self._states.clear()
        self._squares.clear()

    def importance(self) -> dict[str, tuple[Float64Array, int]]:
        """Return c_i by block, float64 of shape (n_neurons,), and the rows of which it is the mean.

        Of several sites with the same weights, it is the sum, and the rows are those of one.
        """
        found: dict[str, tuple[Float64Array, int]] = {}
        for (block, path), n_rows in self._n_rows.items():
            mean = self._sums[block, path].cpu().numpy() / (2 * n_rows)
            before, most = found.get(block, (0.0, 0))
            found[block] = before + mean, max(most, n_rows)
        return found

    def _see_neurons(self, site: Site, module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Pre-hook of a down projection."""
        return self._watched(site, site.block, inputs[0], self._is_recorded[site.stack]), *inputs[1:]

    def _see_input(self, site: Site, values: Any) -> Any:
        """Watch the input of an FFN; what else reads the same tensor, such as attention beside it, does not count."""
        own = values.view_as(values)
        return self._watched(site, input_block_of(site.block), own, self._is_recorded[site.stack])

    def _see_expert(self, site: Site, expert: int, position: Any, values: Any) -> Any:
        if position.numel() == 0:
            return values
        return self._watched(site, f"{site.block}.{expert}", values, self._is_recorded[site.stack][position])

    def _watched(self, site: Site, block: str, values: Any, is_recorded: Any) -> Any:
        """Return the neurons' outputs to go on with, whose gradients will be counted at recorded positions."""
        import torch

        if not values.requires_grad:
            values = values.detach().requires_grad_(True)
        n_rows = int(is_recorded.sum())

        def count(gradient: Any) -> None:
            squares = gradient.detach().flatten(0, -2)[is_recorded].double().square().sum(dim=0)
            key = block, site.path
            if key not in self._sums:
                self._sums[key] = torch.zeros_like(squares)
            self._sums[key] += squares
            self._n_rows[key] += n_rows

        if n_rows:
            values.register_hook(count)
        return values

    def _see_output(self, site: Site, module: Any, inputs: Any, output: Any) -> None:
        """Watch the output of a down projection whose block's sensitivity is fitted."""
        is_recorded = self._is_recorded[site.stack]

        def keep(gradient: Any) -> None:
            rows = gradient.detach().flatten(0, -2)[is_recorded].double()
            self._squares[site.block] = rows.square().sum(dim=1).cpu().numpy()

        output.register_hook(keep)

    def _watch_states(self, model: Any, site: Site, receive: Callable[[str, AnyArray], None]) -> Callable[[], None]:
        """Let `receive` have the block's states at recorded positions; return a function that ends this."""

        def see(module: Any, inputs: tuple[Any, ...]) -> None:
            rows, is_recorded = inputs[0].detach().flatten(0, -2), self._is_recorded[site.stack]
            if rows.shape[0] == is_recorded.numel():
                receive(site.block, rows[is_recorded].float().cpu().numpy())

        end: Callable[[], None] = model.get_submodule(self._ups[site.block]).register_forward_pre_hook(see).remove
        return end

    def _keep_states(self, block: str, states: AnyArray) -> None:
        self._states[block] = states

    def _scale(self, block: str, states: AnyArray) -> None:
        self.fits[block].add_to_scale(states)


def _pass(expert: int, position: Any, values: Any) -> Any:
    return values
