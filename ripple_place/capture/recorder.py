"""Watches the sites of a model while it runs: applies the activity rule, packs bits, hands them to the writer."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ripple_place.blocks import input_block_of
from ripple_place.capture.experts import watch_experts
from ripple_place.capture.ffn_inputs import watch_input
from ripple_place.errors import UnsupportedError
from ripple_place.trace.activity_rules import check_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ripple_place.arrays import Float32Array, Int32Array, Int64Array, UInt8Array
    from ripple_place.capture.batches import Rows
    from ripple_place.capture.input_recorder import InputRecorder
    from ripple_place.capture.sites import Site
    from ripple_place.trace.activity_rules import ActivityRule


class RowSink(Protocol):
    """Takes recorded rows, as `ripple_place.capture.writer.TraceWriter.append` does."""

    def append(
        self,
        block: str,
        active: UInt8Array,
        token_index: Int32Array | None,
        magnitudes: tuple[Int64Array, Int32Array, Float32Array] | None,
    ) -> None:
        """Take rows of a block."""
        ...

    def holds_row(self, block: str, row: int, n_neurons: int) -> bool:
        """Tell whether a row of a block was taken before."""
        ...

    def merge(self, block: str, active: UInt8Array, first_row: int) -> None:
        """Add active neurons to rows that were taken before."""
        ...


class Recorder:
    """The hooks of a capture.

    Between `attach` and its end every forward of the model passes through the recorder, which is in one of three
    modes: it lets everything pass (`off`), keeps absolute values to fit thresholds on (`fitting`), or records
    (`recording`). While recording, what does not count as active is set to zero where the rule changes the output, so
    that later layers see what they would see on a device that skips those neurons.

    Parameters
    ----------
    rule : ActivityRule
    writer : RowSink
        Mostly a `ripple_place.capture.writer.TraceWriter`.
    sites : sequence of Site
    magnitudes : bool
        Also record the outputs of the active neurons.
    thresholds : mapping of str to float
        By `Site.block`, and by the block of its input columns, for rules that are fitted; `fit` adds to them.

    Attributes
    ----------
    inputs : InputRecorder or None
        Also records the inputs of the FFNs.
    """

    def __init__(
        self,
        rule: ActivityRule,
        writer: RowSink,
        sites: Sequence[Site],
        *,
        magnitudes: bool = False,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.rule, self.writer, self.sites, self.magnitudes = rule, writer, sites, magnitudes
        self.thresholds = dict(thresholds or {})
        self._given = frozenset(self.thresholds)
        self._mode = "off"
        self._rows: Mapping[str, Rows] = {}
        self._positions: dict[str, Any] = {}
        self._tokens: dict[str, Any] = {}
        self._gate: dict[str, Any] = {}
        self._fit_values: dict[str, list[Any]] = {}
        self.inputs: InputRecorder | None = None

    @contextmanager
    def attach(self, device: str) -> Iterator[None]:
        """Watch the sites until the end of the context; the model is as before afterwards.

        Raises
        ------
        UnsupportedError
            While the model runs, if a down projection sees other positions than those of the batch.
        TraceFormatError
            While the model runs, if a recorded output is NaN or infinite.
        """
        ends: list[Callable[[], None]] = []
        self._device = device
        try:
            if self.inputs is not None:
                ends.extend(self.inputs.attach())
            for site in self.sites:
                if self.rule.uses_gate and site.gate is not None:
                    ends.append(site.gate.register_forward_hook(partial(self._see_gate, site)).remove)
                if site.inputs:
                    ends.append(watch_input(site, partial(self._see_input, site)))
                if site.n_experts:
                    ends.append(watch_experts(site.module, partial(self._see_expert, site)))
                else:
                    ends.append(site.module.register_forward_pre_hook(partial(self._see_down, site)).remove)
            yield
        finally:
            for end in ends:
                end()
            self._gate.clear()
            if self.inputs is not None:
                self.inputs.forget()

    def off(self) -> None:
        """Let everything pass from now on."""
        self._mode = "off"

    def recording(self, rows: Mapping[str, Rows]) -> None:
        """Record the next forward, of a batch with these rows."""
        self._set("record", rows)

    def fitting(self, rows: Mapping[str, Rows]) -> None:
        """Keep the absolute values of the next forward."""
        self._set("fit", rows)

    def _set(self, mode: str, rows: Mapping[str, Rows]) -> None:
        import torch

        self._mode, self._rows, self._tokens = mode, rows, {}
        if self.inputs is not None:
            self.inputs.forget()
        self._positions = {stack: torch.from_numpy(part.positions).to(self._device) for stack, part in rows.items()}

    def fit(self) -> None:
        """Set the thresholds of all sites that values were kept of, unless they were given, and forget the values.

        The experts of a layer share one threshold: some of them see too few tokens for one of their own.

        Raises
        ------
        UnsupportedError
            If a threshold was set on the values of an earlier layer, which has the same weights.
        """
        import torch

        for name, values in self._fit_values.items():
            if name in self._given:
                continue
            if name in self.thresholds:
                raise UnsupportedError(
                    name, found="layers that share weights, and so a threshold",
                    expected="values of all of them at once", remedy="profile it with --whole-model",
                )  # fmt: skip
            self.thresholds[name] = self.rule.fit(torch.cat(values))
        self._fit_values.clear()

    def _see_gate(self, site: Site, module: Any, inputs: Any, output: Any) -> None:
        if self._mode != "off":
            self._gate[site.block] = output.detach().flatten(0, -2)

    def _see_down(self, site: Site, module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Pre-hook of a down projection."""
        kept = self._see_all(site, site.block, inputs[0])
        return None if kept is None else (kept, *inputs[1:])

    def _see_input(self, site: Site, values: Any) -> Any:
        """Look at the input of an FFN whose input columns are a block; as `watch_input` calls it."""
        return self._see_all(site, input_block_of(site.block), values)

    def _see_all(self, site: Site, block: str, whole: Any) -> Any:
        """Look at a block that every position of the batch passes; return what to go on with, or None."""
        if self._mode == "off":
            return None
        values = whole.detach().flatten(0, -2)
        check_positions(site.path, values.shape[0], self._rows[site.stack])
        positions, tokens = self._positions[site.stack], self._rows[site.stack].tokens
        self._record_inputs(site, block, positions)
        kept = self._see(site, block, values, positions, tokens if site.stack else None)
        return None if kept is None else kept.view_as(whole)

    def _see_expert(self, site: Site, expert: int, position: Any, values: Any) -> Any:
        """Look at the rows of one expert, which some positions reach; return the values to go on with."""
        import torch

        if self._mode == "off" or position.numel() == 0:
            return values
        tokens = self._token_of(site.stack)[position]
        # Rows come by the place that the expert takes among a token's choices: put them in the order of the text.
        recorded = torch.nonzero(tokens >= 0).flatten()
        recorded = recorded[torch.argsort(tokens[recorded])]
        # A table of experts by token id may name one twice.
        recorded = recorded[torch.diff(tokens[recorded], prepend=tokens.new_tensor([-1])) > 0]
        index = tokens[recorded].cpu().numpy()
        block = f"{site.block}.{expert}"
        self._record_inputs(site, block, position[recorded])
        kept = self._see(site, block, values.detach(), recorded, index)
        return values if kept is None else kept

    def _record_inputs(self, site: Site, block: str, positions: Any) -> None:
        """Record what enters an FFN at positions whose neurons are recorded."""
        if self.inputs is not None and self._mode == "record":
            self.inputs.append(site, block, positions, self._rows[site.stack].n_positions)

    def _token_of(self, stack: str) -> Any:
        """Return the token of each position of the flattened batch, -1 where none is recorded."""
        import torch

        if stack not in self._tokens:
            rows = self._rows[stack]
            token_of = torch.full((rows.n_positions,), -1, dtype=torch.int32, device=self._device)
            token_of[self._positions[stack]] = torch.from_numpy(rows.tokens).to(self._device)
            self._tokens[stack] = token_of
        return self._tokens[stack]

    def _see(self, site: Site, block: str, values: Any, recorded: Any, token_index: Int32Array | None) -> Any:
        """Fit or record one block's rows; return the values to go on with, or None to leave them as they are."""
        gate = self._gate.pop(site.block, None) if self.rule.uses_gate and site.gate is not None else None
        is_routed = token_index is not None
        tokens = self._rows[site.stack].tokens if token_index is None else token_index
        # Of recorded positions only: nobody reads what a model puts out at pads.
        chosen = values[recorded]
        check_finite(chosen, block, tokens)
        looked_at = chosen if gate is None else gate[recorded]
        if gate is not None:
            check_finite(looked_at, f"{block}, activation function", tokens)
        # The experts of a layer share one threshold.
        fitted = site.block if site.n_experts else block
        if self._mode == "fit":
            self._fit_values.setdefault(fitted, []).append(looked_at.abs().flatten().float())
            return None
        threshold, rule = self.thresholds.get(fitted), self.rule.of_block(block, is_gated=site.gated)
        if self.rule.changes_output:
            active = rule.active(values, gate, threshold)
            self._record(block, active[recorded], chosen, tokens, is_routed=is_routed)
            return values * active
        # The rule changes nothing, so it is applied to the recorded rows only.
        self._record(block, rule.active(chosen, None, threshold), chosen, tokens, is_routed=is_routed)
        return None

    def _record(self, block: str, active: Any, chosen: Any, tokens: Int32Array, *, is_routed: bool) -> None:
        if not is_routed and self.writer.holds_row(block, int(tokens[0]), active.shape[1]):
            self._record_again(block, active, int(tokens[0]))
            return
        magnitudes = None
        if self.magnitudes:
            neurons = active.nonzero()[:, 1]
            magnitudes = (
                active.sum(dim=1).cpu().numpy(),
                neurons.to("cpu").numpy().astype(np.int32),
                chosen[active].float().cpu().numpy(),
            )
        self.writer.append(block, pack_bits(active), tokens if is_routed else None, magnitudes)

    def _record_again(self, block: str, active: Any, first_row: int) -> None:
        """Record rows of another layer with the same weights: a token needs a neuron if any of its layers does."""
        if self.magnitudes:
            raise UnsupportedError(
                block, found="layers that share weights, in each of which a neuron puts out something else",
                expected="one output for a neuron and a token", remedy="leave --magnitudes out",
            )  # fmt: skip
        self.writer.merge(block, pack_bits(active), first_row)


def check_positions(path: str, n_rows: int, rows: Rows) -> None:
    """Raise unless a down projection sees one row for each position of the batch.

    Parameters
    ----------
    path : str
        Name of its module.
    n_rows : int
    rows : Rows

    Raises
    ------
    UnsupportedError
    """
    if n_rows != rows.n_positions:
        raise UnsupportedError(
            path, found=f"{n_rows} rows for {rows.n_positions} positions", expected="one for each position",
            remedy="record a trace with your own code (docs/formats.md)",
        )  # fmt: skip


def pack_bits(active: Any) -> UInt8Array:
    """Return a boolean tensor as packed bits, packed on the device that holds it, so that only bits are copied.

    Parameters
    ----------
    active : torch.Tensor of shape (n_rows, n_neurons), bool

    Returns
    -------
    ndarray of shape (n_rows, ceil(n_neurons / 8)), uint8
        Little bit order.
    """
    if active.device.type == "cpu":
        return np.packbits(active.numpy(), axis=1, bitorder="little")
    return pack_on_device(active)


def pack_on_device(active: Any) -> UInt8Array:
    """Return the same as `pack_bits`, by torch's operations alone."""
    import torch

    padded = torch.nn.functional.pad(active.to(torch.uint8), (0, -active.shape[1] % 8))
    weights = torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=active.device)
    bits = padded.view(active.shape[0], padded.shape[1] // 8, 8)
    packed: UInt8Array = (bits * weights).sum(dim=2, dtype=torch.uint8).cpu().numpy()
    return packed
