"""What a simulation counted, and the scores that follow from the counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ripple_place.flash.gate_totals import GateTotals
from ripple_place.flash.hit_counts import HitCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ripple_place.arrays import Float64Array, Int64Array
    from ripple_place.flash.step_scores import StepScores
    from ripple_place.flash.token_time import TokenTime

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, eq=False)
class FlashTotals:
    """Counts over the tokens of one block, or of several.

    Attributes
    ----------
    n_active, n_hits : int
        Neuron accesses, and those served from DRAM.
    n_reads, n_neurons_read : int
        Of the read plan, gaps included, before page rounding and splitting.
    n_requests, bytes_read : int
        What the device sees, after both.
    bytes_requested, bytes_active : int
        Bundles of the active neurons; of those that were read from flash.
    read_length_counts : ndarray of shape (longest + 1,), int64
        Reads by length in neurons.
    flash_time_us, flash_time_linear_us, flash_time_ceiling_us : float
        Under the device's own form, under its line, and under its ceiling of IOPS and bandwidth.
    hits : HitCounts
        The hits over the trace, and those of the best replacement.
    """

    n_active: int
    n_hits: int
    n_reads: int
    n_neurons_read: int
    n_requests: int
    bytes_read: int
    bytes_requested: int
    bytes_active: int
    read_length_counts: Int64Array
    flash_time_us: float
    flash_time_linear_us: float
    flash_time_ceiling_us: float
    hits: HitCounts

    @classmethod
    def sum(cls, parts: Iterable[FlashTotals]) -> FlashTotals:
        """Return the totals over several blocks."""
        parts = list(parts)
        counts = np.zeros(max((part.read_length_counts.size for part in parts), default=1), np.int64)
        for part in parts:
            counts[: part.read_length_counts.size] += part.read_length_counts
        return cls(
            n_active=sum(part.n_active for part in parts),
            n_hits=sum(part.n_hits for part in parts),
            n_reads=sum(part.n_reads for part in parts),
            n_neurons_read=sum(part.n_neurons_read for part in parts),
            n_requests=sum(part.n_requests for part in parts),
            bytes_read=sum(part.bytes_read for part in parts),
            bytes_requested=sum(part.bytes_requested for part in parts),
            bytes_active=sum(part.bytes_active for part in parts),
            read_length_counts=counts,
            flash_time_us=sum(part.flash_time_us for part in parts),
            flash_time_linear_us=sum(part.flash_time_linear_us for part in parts),
            flash_time_ceiling_us=sum(part.flash_time_ceiling_us for part in parts),
            hits=HitCounts.sum(part.hits for part in parts),
        )

    @property
    def n_misses(self) -> int:
        """Neuron accesses that went to flash."""
        return self.n_active - self.n_hits

    @property
    def read_length_max(self) -> int:
        """Neurons of the longest read, 0 if there was none."""
        lengths = np.flatnonzero(self.read_length_counts)
        return int(lengths[-1]) if lengths.size else 0

    def scores(self, n_tokens: int) -> dict[str, Any]:
        """Return the means per token and the ratios of totals; a ratio to nothing is None."""
        return {
            "flash_time_us_per_token": self.flash_time_us / n_tokens,
            "flash_time_linear_us_per_token": self.flash_time_linear_us / n_tokens,
            "flash_time_ceiling_us_per_token": self.flash_time_ceiling_us / n_tokens,
            "reads_per_token": self.n_reads / n_tokens,
            "requests_per_token": self.n_requests / n_tokens,
            "neurons_read_per_token": self.n_neurons_read / n_tokens,
            "active_per_token": self.n_active / n_tokens,
            "misses_per_token": self.n_misses / n_tokens,
            "bytes_read_per_token": self.bytes_read / n_tokens,
            "bytes_active_per_token": self.bytes_active / n_tokens,
            "bytes_requested_per_token": self.bytes_requested / n_tokens,
            "read_length_mean": _ratio(self.n_neurons_read, self.n_reads),
            "read_length_max": self.read_length_max,
            "read_amplification": _ratio(self.bytes_read, self.bytes_active),
            "effective_bandwidth_bytes_per_s": _ratio(self.bytes_active * 1e6, self.flash_time_us),
            "cache_hit_ratio": _ratio(self.n_hits, self.n_active),
            "cache_hit_ratio_bytes": _ratio(self.bytes_requested - self.bytes_active, self.bytes_requested),
            **self.hits.scores(),
        }


@dataclass(frozen=True, eq=False)
class BlockResult:
    """What one block cost.

    Attributes
    ----------
    n_rows : int
        Tokens that reach the block.
    bundle_bytes, gap, capacity_neurons : int
        Under which it was simulated; `gap` is None where there was not one gap for all tokens, `capacity_neurons`
        where all blocks shared a pool, of which a block has now more and now less.
    totals : FlashTotals
    percentiles_us : tuple of float
        Of the flash time of a token, at `PERCENTILES`; tokens that do not reach the block count 0.
    gate : GateTotals, optional
        What reading gates first cost, where they are.
    """

    n_rows: int
    bundle_bytes: int
    gap: int | None
    capacity_neurons: int | None
    totals: FlashTotals
    percentiles_us: tuple[float, ...]
    gate: GateTotals | None = None


class Selection(Protocol):
    """What a rule that chose what is read says of itself."""

    @property
    def rule(self) -> str:
        """The rule, as it is written."""
        ...

    def with_loss(self, loss: dict[str, Any]) -> Selection:
        """Return the same with what the rule costs in loss."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the keys that an entry of ``layouts`` has beside those of flash."""
        ...


@dataclass(frozen=True, eq=False)
class LayoutResult:
    """What a layout cost on a trace.

    Attributes
    ----------
    name : str
    n_tokens : int
    blocks : mapping of str to BlockResult
        In model order.
    token_us : ndarray of shape (n_tokens,), float64
        Flash time of each token, all blocks together.
    token_time : TokenTime, optional
        Reading and computing together, if the cost of computing was given.
    selection : Selection, optional
        What a rule dropped, if one chose what is read.
    steps : tuple of StepScores
        Of each stretch of steps with one batch size, where sequences ran together; tokens above are then those of all
        sequences, each with the time of its step over their number.
    """

    name: str
    n_tokens: int
    blocks: Mapping[str, BlockResult]
    token_us: Float64Array
    token_time: TokenTime | None = None
    selection: Selection | None = None
    steps: tuple[StepScores, ...] = ()

    @property
    def label(self) -> str:
        """The layout's name, with the rule after it if there is one."""
        return self.name if self.selection is None else f"{self.name}, {self.selection.rule}"

    @cached_property
    def totals(self) -> FlashTotals:
        """Sums over the blocks."""
        return FlashTotals.sum(block.totals for block in self.blocks.values())

    @property
    def gate(self) -> GateTotals | None:
        """What reading gates first cost, all blocks together; None if nowhere they are."""
        return GateTotals.sum(block.gate for block in self.blocks.values())

    def to_json(self, baseline: LayoutResult | None = None) -> dict[str, Any]:
        """Return the scores as `simulate --json` has them.

        Parameters
        ----------
        baseline : LayoutResult, optional
            Layout that `speedup`, of flash time, and `token_speedup` are against; None leaves them null.
        """
        return {
            "name": self.name,
            "label": self.label,
            **({} if self.selection is None else self.selection.to_json()),
            **self.totals.scores(self.n_tokens),
            "flash_time_us_percentiles": _by_percentile(percentiles_us(self.token_us)),
            **self._token_time_scores(),
            **({"steps": [each.to_json() for each in self.steps]} if self.steps else {}),
            "speedup": _speedup(self.totals, baseline.totals if baseline else None),
            "token_speedup": self._token_speedup(baseline),
            "gate": None if self.gate is None else self.gate.scores(self.n_tokens),
            "blocks": {
                name: {
                    **block.totals.scores(self.n_tokens),
                    "flash_time_us_percentiles": _by_percentile(block.percentiles_us),
                    "speedup": _speedup(
                        block.totals, baseline.blocks[name].totals if baseline and name in baseline.blocks else None
                    ),
                    "n_rows": block.n_rows,
                    "bundle_bytes": block.bundle_bytes,
                    "gap": block.gap,
                    "capacity_neurons": block.capacity_neurons,
                    "gate": None if block.gate is None else block.gate.scores(self.n_tokens),
                }
                for name, block in self.blocks.items()
            },
        }

    def _token_time_scores(self) -> dict[str, Any]:
        """Return the scores end to end, null where the cost of computing is unknown."""
        time = self.token_time
        return {
            "compute_us_per_token": None if time is None else time.compute_us_per_token,
            "token_time_us_per_token": None if time is None else float(time.token_us.mean()),
            "token_time_us_percentiles": None if time is None else _by_percentile(percentiles_us(time.token_us)),
            **({} if time is None or time.pipeline is None else {"pipeline": time.pipeline_scores()}),
        }

    def _token_speedup(self, baseline: LayoutResult | None) -> float | None:
        """Return the speedup end to end; None where the cost of computing, or the baseline, is unknown."""
        if baseline is None or self.token_time is None or baseline.token_time is None:
            return None
        return _ratio(float(baseline.token_time.token_us.mean()), float(self.token_time.token_us.mean()))


def percentiles_us(token_us: Float64Array) -> tuple[float, ...]:
    """Return `PERCENTILES` of per-token times, interpolated linearly."""
    return tuple(np.percentile(token_us, PERCENTILES).tolist())


def _by_percentile(values: tuple[float, ...]) -> dict[str, float]:
    return {str(percentile): value for percentile, value in zip(PERCENTILES, values, strict=True)}


def _speedup(totals: FlashTotals, baseline: FlashTotals | None) -> float | None:
    return None if baseline is None else _ratio(baseline.flash_time_us, totals.flash_time_us)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
