"""What serving experts cost, and the scores that follow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.experts.budget import ExpertSlots
from ripple_place.experts.timing import steps_us
from ripple_place.flash.results import PERCENTILES, percentiles_us

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import BoolArray, Float64Array, Int64Array
    from ripple_place.experts.serve_params import ServeParams
    from ripple_place.experts.serving import Served
    from ripple_place.experts.timing import TokenTiming
    from ripple_place.flash.device.conditions import ConditionedDevice


@dataclass(frozen=True, eq=False)
class ExpertReads:
    """Reads by step and layer: a step is a token that is generated, or what passes together of a prompt.

    Attributes
    ----------
    time_us : ndarray of shape (n_steps, n_layers), float64
    n_reads, n_requests, bytes_read : ndarray of shape (n_steps, n_layers), int64
    """

    time_us: Float64Array
    n_reads: Int64Array
    n_requests: Int64Array
    bytes_read: Int64Array


@dataclass(frozen=True, eq=False)
class PrefillCost:
    """What prompts cost.

    Attributes
    ----------
    reads : ExpertReads
        Of chunks.
    n_tokens : ndarray of shape (n_chunks,), int64
        Tokens of each chunk.
    n_experts : ndarray of shape (n_chunks,), int64
        Experts that each uses, of all layers together: the union over its tokens.
    compute_us : float or None
        Time to compute a layer for one token of many; None where it is unknown.
    overlap : str
        One of `ripple_place.experts.timing.OVERLAPS`.
    """

    reads: ExpertReads
    n_tokens: Int64Array
    n_experts: Int64Array
    compute_us: float | None
    overlap: str

    def to_json(self) -> dict[str, Any] | None:
        """Return what prompts cost, per token of theirs and per chunk; None without prompts."""
        n_tokens, n_chunks, reads = int(self.n_tokens.sum()), self.n_tokens.size, self.reads
        if not n_tokens:
            return None
        time_us = None
        if self.compute_us is not None:
            chunks_us = steps_us(reads.time_us, self.compute_us * self.n_tokens.astype(np.float64), self.overlap)
            time_us = float(chunks_us.sum())
        flash_us, bytes_read = float(reads.time_us.sum()), float(reads.bytes_read.sum())
        return {
            "n_tokens": n_tokens,
            "n_chunks": n_chunks,
            "experts_per_chunk": float(self.n_experts.sum()) / n_chunks,
            "flash_time_us": flash_us,
            "flash_time_us_per_token": flash_us / n_tokens,
            "flash_time_us_per_chunk": flash_us / n_chunks,
            "reads_per_token": float(reads.n_reads.sum()) / n_tokens,
            "requests_per_token": float(reads.n_requests.sum()) / n_tokens,
            "bytes_read": int(bytes_read),
            "bytes_read_per_token": bytes_read / n_tokens,
            "bandwidth_bytes_per_s": _ratio(bytes_read * 1e6, flash_us),
            "time_us": time_us,
            "time_us_per_token": None if time_us is None else time_us / n_tokens,
            "tokens_per_s": None if not time_us else n_tokens * 1e6 / time_us,
        }


@dataclass(frozen=True, eq=False)
class ExpertResult:
    """What one layout costs.

    Attributes
    ----------
    name : str
    served : Served
        The same for all layouts.
    sizes : ndarray of shape (n_items,), int64
    missed, ahead : ExpertReads
        What tokens waited for, and what was read ahead for them.
    prefill_bytes_read : int
        What prompts read, all of them together, before it is rounded out to pages.
    prefill : PrefillCost
    timing : TokenTiming or None
        None where the time to compute is unknown.
    request_bytes : int
        Size at which reads are split.
    """

    name: str
    served: Served
    sizes: Int64Array
    missed: ExpertReads
    ahead: ExpertReads
    prefill_bytes_read: int
    prefill: PrefillCost
    timing: TokenTiming | None
    request_bytes: int

    @property
    def n_tokens(self) -> int:
        """Tokens that were generated."""
        return int(self.missed.time_us.shape[0])

    @cached_property
    def flash_us(self) -> Float64Array:
        """Flash time of each token, what is read ahead included."""
        return np.asarray((self.missed.time_us + self.ahead.time_us).sum(axis=1))

    @cached_property
    def token_us(self) -> Float64Array | None:
        """Time of each token, computing included."""
        return None if self.timing is None else self.timing.token_us(self.missed.time_us, self.ahead.time_us)

    def to_json(self, baseline: ExpertResult) -> dict[str, Any]:
        """Return the entry of ``layouts`` in ``simulate --json``."""
        token_us = self.token_us
        token_mean = None if token_us is None else _mean(token_us)
        base = None if baseline.token_us is None else _mean(baseline.token_us)
        n_layers = self.missed.time_us.shape[1]
        return {
            "name": self.name,
            "label": self.name,
            "request_bytes": self.request_bytes,
            **self._reads(slice(None)),
            **self._hits(np.ones(self.served.is_hit.size, bool)),
            "flash_time_us_percentiles": _percentiles(self.flash_us),
            "prefill_bytes_read": self.prefill_bytes_read,
            "prefill": self.prefill.to_json(),
            "compute_us_per_token": None if self.timing is None else n_layers * self.timing.us_per_layer,
            "token_time_us_per_token": token_mean,
            "token_time_us_percentiles": None if token_us is None else _percentiles(token_us),
            "tokens_per_s": None if not token_mean else 1e6 / token_mean,
            "speedup": _ratio(_mean(baseline.flash_us), _mean(self.flash_us)),
            "token_speedup": None if base is None or token_mean is None else _ratio(base, token_mean),
            "prefetch": self._prefetch(),
            "blocks": {
                name: {**self._reads(slice(place, place + 1)), **self._hits(self.served.accesses.layers == place)}
                for place, name in enumerate(self.served.accesses.blocks)
            },
        }

    def _reads(self, layers: slice) -> dict[str, Any]:
        """Return the means per generated token over some layers."""
        missed, ahead = self.missed, self.ahead

        def mean(a: Float64Array | Int64Array, b: Float64Array | Int64Array) -> float:
            return float(a[:, layers].sum() + b[:, layers].sum()) / max(1, self.n_tokens)

        time_us, bytes_read = mean(missed.time_us, ahead.time_us), mean(missed.bytes_read, ahead.bytes_read)
        return {
            "flash_time_us_per_token": time_us,
            "reads_per_token": mean(missed.n_reads, ahead.n_reads),
            "requests_per_token": mean(missed.n_requests, ahead.n_requests),
            "bytes_read_per_token": bytes_read,
            "bandwidth_bytes_per_s": _ratio(bytes_read * 1e6, time_us),
        }

    def _hits(self, kept: BoolArray) -> dict[str, Any]:
        """Return the hits among some accesses: of all, by phase, and in bytes of those of generated tokens."""
        served, is_decode = self.served, self.served.accesses.is_decode
        sizes = self.sizes[served.accesses.items]
        decode = kept & is_decode
        best = served.is_best_hit
        return {
            "experts_per_token": float(decode.sum()) / max(1, self.n_tokens),
            "misses_per_token": float((decode & ~served.is_hit).sum()) / max(1, self.n_tokens),
            "cache_hit_ratio": _share(served.is_hit, kept),
            "cache_hit_ratio_by_phase": {
                "prefill": _share(served.is_hit, kept & ~is_decode), "decode": _share(served.is_hit, decode),
            },
            "cache_hit_ratio_bytes": _ratio(
                float(sizes[decode & served.is_hit].sum()), float(sizes[decode].sum())
            ),
            "cache_hit_ratio_belady": None if best is None else _share(best, decode),
        }  # fmt: skip

    def _prefetch(self) -> dict[str, Any] | None:
        """Return what reading ahead was good for; None where nothing was."""
        served, items = self.served, self.served.ahead.items
        n_tokens, is_decode = max(1, self.n_tokens), self.served.accesses.is_decode
        if served.n_guesses is None:
            return None
        useful = float(self.sizes[served.accesses.items[served.is_ahead]].sum())
        read = float(self.sizes[items].sum())
        return {
            "guesses_per_token": served.n_guesses / n_tokens,
            "experts_per_token": items.size / n_tokens,
            "hit_ratio": _share(served.is_ahead, is_decode & ~served.is_hit),
            "bytes_per_token": read / n_tokens,
            "wasted_bytes_per_token": (read - useful) / n_tokens,
            "wasted_share": _ratio(read - useful, read),
        }


@dataclass(frozen=True, eq=False)
class ExpertScores:
    """What layouts cost on a trace of experts.

    Attributes
    ----------
    device : ConditionedDevice
    params : ServeParams
    traces : tuple of str
    n_tokens, n_prefill_tokens : int
        All tokens, and those of prompts.
    unit_bytes : mapping of str to int
        Bytes of an expert, by layer.
    capacity_bytes : tuple of int
        Of the pool, or of each layer's cache.
    results : tuple of ExpertResult
    warnings : tuple of str
    """

    device: ConditionedDevice
    params: ServeParams
    traces: tuple[str, ...]
    n_tokens: int
    n_prefill_tokens: int
    unit_bytes: dict[str, int]
    capacity_bytes: tuple[int, ...]
    results: tuple[ExpertResult, ...]
    warnings: tuple[str, ...]

    @property
    def baseline(self) -> ExpertResult:
        """The result that speedups are against."""
        wanted = self.params.baseline or self.results[0].name
        return next(result for result in self.results if result.name == wanted)

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``simulate --json`` for experts."""
        params = self.params
        budget = params.dram_budget
        return {
            "unit": "expert",
            "device": self.device.name,
            "traces": list(self.traces),
            "n_tokens": self.n_tokens,
            "n_prefill_tokens": self.n_prefill_tokens,
            "n_decode_tokens": self.n_tokens - self.n_prefill_tokens,
            "unit_bytes": self.unit_bytes,
            "conditions": {**asdict(self.device.conditions), "span_bytes": self.device.span_bytes},
            "cache": params.policy,
            "dram_budget": str(budget) if isinstance(budget, ExpertSlots) else budget,
            "dram_pool": params.dram_pool,
            "capacity_bytes": sum(self.capacity_bytes),
            "prefill_admitted": params.admits_prefill,
            "prefill_chunk": params.prefill_chunk,
            "reset_at_segments": params.reset_at_segments,
            "overlap": params.overlap or "serial",
            "prefetch": None if params.prefetch is None else str(params.prefetch),
            "baseline": self.baseline.name,
            "layouts": [result.to_json(self.baseline) for result in self.results],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, eq=False)
class ExpertReport:
    """Scores, and those of a sweep beside them: option, values, and the scores at each."""

    scores: ExpertScores
    option: str | None = None
    values: tuple[str, ...] = ()
    points: Sequence[ExpertScores] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``simulate --json``."""
        document = self.scores.to_json()
        if self.option is not None:
            points = [
                {"value": value, "layouts": scores.to_json()["layouts"]}
                for value, scores in zip(self.values, self.points, strict=True)
            ]
            document["sweep"] = {"option": self.option, "points": points}
        return document


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if values.size else 0.0


def _percentiles(token_us: Float64Array) -> dict[str, float] | None:
    if not token_us.size:
        return None
    return {str(key): value for key, value in zip(PERCENTILES, percentiles_us(token_us), strict=True)}


def _share(found: BoolArray, among: BoolArray) -> float | None:
    return float(found[among].mean()) if among.any() else None


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
