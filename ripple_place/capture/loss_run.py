"""What is tried in a model: choosers that drop neurons, and constants that make up for what was dropped."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ripple_place.capture.site_choice import few_blocks
from ripple_place.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ripple_place.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array
    from ripple_place.capture.sites import Site


class Chooser(Protocol):
    """Decides which neurons of one block are used, token by token; has state, so each run needs its own.

    Attributes
    ----------
    uses_gate, uses_inputs : bool
        Whether `choose` needs the output of the activation function, and the input of the FFN.
    """

    uses_gate: bool
    uses_inputs: bool

    def start_segment(self) -> None:
        """Prepare for the first token of a text segment."""
        ...

    def choose(self, outputs: Float32Array, gate: Float32Array | None, inputs: Float32Array | None) -> BoolArray:
        """Return which neurons are used.

        Parameters
        ----------
        outputs : ndarray of shape (n_rows, n_neurons), float32
            Input of the down projection for the next tokens of a segment, in the order of the text.
        gate : ndarray of shape (n_rows, n_neurons), float32, or None
            Output of the activation function, which equals `outputs` in an FFN without a gate; None unless
            `uses_gate`.
        inputs : ndarray of shape (n_rows, hidden), float32, or None
            Input of the FFN; None unless `uses_inputs`.

        Returns
        -------
        ndarray of shape (n_rows, n_neurons), bool
        """
        ...


class DroppedMeans:
    """Collects the mean of what was dropped of each neuron: its output where it was dropped, zero where it was used."""

    def __init__(self) -> None:
        self._sums: dict[str, Float64Array] = {}
        self._n_rows: dict[str, int] = {}

    def add(self, block: str, outputs: Float32Array, used: BoolArray) -> None:
        """Count rows of a block, both of shape (n_rows, n_neurons)."""
        total = np.where(used, 0, outputs).sum(axis=0, dtype=np.float64)
        self._sums[block] = self._sums.get(block, 0) + total
        self._n_rows[block] = self._n_rows.get(block, 0) + len(outputs)

    def means(self) -> dict[str, Float32Array]:
        """Return the means, of shape (n_neurons,), of each block that any token reached."""
        return {block: (total / self._n_rows[block]).astype(np.float32) for block, total in self._sums.items()}


@dataclass(frozen=True, eq=False)
class Run:
    """One way to run a model.

    Attributes
    ----------
    choosers : mapping of str to Chooser
        By block. Blocks without one stay exact.
    compensation : mapping of str to ndarray of shape (hidden,), float32
        By block of a dense FFN: added to the output of its down projection at every position.
    dropped : DroppedMeans or None
        Collects what the choosers drop.
    """

    choosers: Mapping[str, Chooser]
    compensation: Mapping[str, Float32Array] = field(default_factory=dict)
    dropped: DroppedMeans | None = None


class ActiveRun:
    """A run under way, which remembers in which segment each chooser is.

    Parameters
    ----------
    run : Run
    segment_starts : ndarray of shape (n_segments,), int64
        First token of each text segment, ascending from 0.
    """

    def __init__(self, run: Run, segment_starts: Int64Array) -> None:
        self.run = run
        self._segment_starts = segment_starts
        self._segment_of: dict[str, int] = {}

    def used(
        self, block: str, outputs: Float32Array, gate: Float32Array | None, inputs: Float32Array | None,
        tokens: Int32Array,
    ) -> BoolArray:  # fmt: skip
        """Let a block's chooser decide on rows of consecutive tokens, segment by segment.

        Parameters
        ----------
        block : str
            One that has a chooser.
        outputs, gate, inputs
            As in `Chooser.choose`.
        tokens : ndarray of shape (n_rows,), int32
            Token of each row, ascending.
        """
        chooser = self.run.choosers[block]
        used = np.empty(outputs.shape, np.bool_)
        segments = np.searchsorted(self._segment_starts, tokens, side="right") - 1
        bounds = [0, *(np.flatnonzero(np.diff(segments)) + 1), len(tokens)]
        for first, end in pairwise(bounds):
            if self._segment_of.get(block) != segments[first]:
                chooser.start_segment()
                self._segment_of[block] = segments[first]
            rows = slice(first, end)
            used[rows] = chooser.choose(
                outputs[rows], None if gate is None else gate[rows], None if inputs is None else inputs[rows]
            )
        if self.run.dropped is not None:
            self.run.dropped.add(block, outputs, used)
        return used


def check_runs(runs: Collection[Run], sites: Sequence[Site], seen_inputs: Collection[str], where: object) -> None:
    """Raise unless a model has what the runs are about.

    Parameters
    ----------
    runs : collection of Run
    sites : sequence of Site
    seen_inputs : collection of str
        `Site.block` of the FFNs whose input can be seen.
    where : object
        The model, for messages.

    Raises
    ------
    UsageError
        If a block does not exist.
    UnsupportedError
        If a compensation is for experts, or a chooser needs what cannot be seen.
    """
    site_of = {block: site for site in sites for block in site.layouts()}
    for run in runs:
        if unknown := (run.choosers.keys() | run.compensation.keys()) - site_of.keys():
            raise UsageError(
                where, found=f"a run for {few_blocks(unknown)}", expected=f"blocks of the model: {few_blocks(site_of)}",
                remedy="name blocks of this model",
            )  # fmt: skip
        if experts := [block for block in run.compensation if site_of[block].n_experts]:
            raise UnsupportedError(
                where, found=f"a compensation for experts: {few_blocks(experts)}",
                expected="a compensation for dense FFNs only",
                remedy="leave out the compensation for experts",
            )  # fmt: skip
        for block, chooser in run.choosers.items():
            site = site_of[block]
            if chooser.uses_gate and site.gated and site.gate is None:
                raise _unseen(where, block, "activation function is not a module of its own")
            if chooser.uses_inputs and site.block not in seen_inputs:
                raise _unseen(where, block, "input is read by an unknown module")


def _unseen(where: object, block: str, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{where}: {block}", found=f"an FFN whose {what}",
        expected="one that can be watched, as the selection rule needs",
        remedy="use a rule that only looks at the outputs of the neurons",
    )  # fmt: skip
