"""Run masks through DIP's byte model: hook by hook, what its cache holds is read from DRAM, the rest from flash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.caches.cache import Accesses
from ripple_place.flash.caches.none import NoCache
from ripple_place.flash.caches.registry import find_policy
from ripple_place.placement import NeuronPlacement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import BoolArray, Float64Array, Int64Array
    from ripple_place.flash.byte_model.hooks import Hook
    from ripple_place.flash.byte_model.memory import ByteModel
    from ripple_place.flash.caches.cache import Cache


@dataclass(frozen=True, eq=False)
class MaskedSequence:
    """The masks of one text.

    Parameters
    ----------
    masks : tuple of ndarray of shape (n_generated_tokens, n_columns), bool
        For each hook, the columns that each generated token uses.
    n_prompt_tokens : int
        Tokens before them, which are encoded with dense weights and leave the caches empty.
    """

    masks: tuple[BoolArray, ...]
    n_prompt_tokens: int = 0

    @property
    def n_generated_tokens(self) -> int:
        """Tokens that have masks."""
        return len(self.masks[0]) if self.masks else 0


@dataclass(frozen=True, eq=False)
class SequenceResult:
    """What one text costs.

    Attributes
    ----------
    fixed_us : float
        Of every generated token, whatever its masks.
    call_us : ndarray of shape (n_generated_tokens, n_hooks), float64
        Time of each hook call, all of its linears together.
    flash_bytes, dram_bytes : float
        Columns read for all calls, from either.
    hit_ratio : float
        Mean over calls, weighted by linears, of the share of the mask in DRAM; an empty mask counts as 1.
    first_token_us : float
        Time to encode the prompt.
    """

    fixed_us: float
    call_us: Float64Array
    flash_bytes: float
    dram_bytes: float
    hit_ratio: float
    first_token_us: float

    @property
    def token_us(self) -> float:
        """Mean time of a generated token."""
        return self.fixed_us + float(self.call_us.sum(axis=1).mean())

    @property
    def tokens_per_s(self) -> float:
        """Throughput of generation."""
        return 1e6 / self.token_us


def simulate_bytes(
    model: ByteModel, hooks: Sequence[Hook], sequences: Sequence[MaskedSequence], cache: str = "none"
) -> tuple[SequenceResult, ...]:
    """Return what each text costs.

    Parameters
    ----------
    model : ByteModel
    hooks : sequence of Hook
        In all layers; see `dip_hooks` and `glu_hooks`.
    sequences : sequence of MaskedSequence
        Of one token or more.
    cache : str
        Policy of the caches, one for each hook. DIP's are the ``mask-first-`` ones and ``none``.

    Raises
    ------
    UsageError
        If masks do not fit hooks or the longest sequence, a mask has more columns than its cache and may not be
        streamed, static parts do not fit in DRAM, or there is no such policy, or it needs a placement.

    Notes
    -----
    DRAM that the static parts leave is divided evenly over all masked linears, so that each linear caches the same
    share of its columns; the cache of a hook has room for the columns of one of its linears. Caches are empty at the
    start of each text. Hits are judged before the cache changes.

    References
    ----------
    .. [1] arXiv:2412.01380, and its authors' released simulator.
    """
    n_linears = [1 if model.simulates_glu_pruning else hook.n_linears for hook in hooks]
    caches = []
    for hook in hooks:
        capacity = model.cache_columns(sum(n_linears), hook.column_values)
        caches.append((capacity, find_policy(cache)(capacity, NeuronPlacement.original(hook.n_columns))))
    for number, sequence in enumerate(sequences):
        _check_sequence(model, hooks, sequence, number)
        if cache != NoCache.policy and not model.allows_mlp_streaming:
            for (capacity, _), mask in zip(caches, sequence.masks, strict=True):
                _check_fit(mask, capacity, number)
    weights = np.array(n_linears, np.float64)
    column_bytes = np.array([model.column_bytes(hook.column_values) for hook in hooks])
    return tuple(
        _simulate_sequence(model, sequence, [cache for _, cache in caches], weights, column_bytes)
        for sequence in sequences
    )


def _simulate_sequence(
    model: ByteModel, sequence: MaskedSequence, caches: Sequence[Cache], n_linears: Float64Array,
    column_bytes: Float64Array,
) -> SequenceResult:  # fmt: skip
    """Return what one text costs; arrays are by hook."""
    n_used = np.stack([np.count_nonzero(mask, axis=1) for mask in sequence.masks], axis=1)
    n_hits = np.stack([count_hits(cache, mask) for cache, mask in zip(caches, sequence.masks, strict=True)], axis=1)
    flash_bytes, dram_bytes = (n_used - n_hits) * column_bytes, n_hits * column_bytes
    hit_ratio = np.divide(n_hits, n_used, out=np.ones(n_used.shape), where=n_used > 0)
    n_tokens = sequence.n_prompt_tokens + sequence.n_generated_tokens
    return SequenceResult(
        fixed_us=model.fixed_us(sequence.n_prompt_tokens, n_tokens),
        call_us=model.transfer_us(flash_bytes, dram_bytes) * n_linears,
        flash_bytes=float((flash_bytes * n_linears).sum()),
        dram_bytes=float((dram_bytes * n_linears).sum()),
        hit_ratio=float(np.average(hit_ratio.mean(axis=0), weights=n_linears)),
        first_token_us=model.first_token_us(sequence.n_prompt_tokens),
    )


def count_hits(cache: Cache, mask: BoolArray) -> Int64Array:
    """Return how many columns of each token's mask an empty cache then holds, shape (n_tokens,), int64.

    After the last token every column is needed once more, as in DIP's Belady.
    """
    n_tokens = len(mask)
    tokens, columns = np.nonzero(mask)
    next_token = None
    if cache.needs_future:
        used_at = np.where(mask, np.arange(n_tokens, dtype=np.int32)[:, None], np.int32(n_tokens))
        later = np.full_like(used_at, n_tokens)
        later[:-1] = np.minimum.accumulate(used_at[:0:-1], axis=0)[::-1]
        next_token = later[mask]
    row_starts = np.searchsorted(tokens, np.arange(n_tokens + 1))
    is_hit = np.empty(columns.size, np.uint8)
    cache.reset()
    cache.replay(Accesses(columns.astype(np.int32), row_starts, np.ones(columns.size, np.uint8), next_token), is_hit)
    return np.bincount(tokens[is_hit != 0], minlength=n_tokens)


def _check_sequence(model: ByteModel, hooks: Sequence[Hook], sequence: MaskedSequence, number: int) -> None:
    expected = [(sequence.n_generated_tokens, hook.n_columns) for hook in hooks]
    found = [mask.shape for mask in sequence.masks]
    if found != expected or not sequence.n_generated_tokens or any(mask.dtype != bool for mask in sequence.masks):
        raise UsageError(
            f"byte model, sequence {number}", found=f"masks of shapes {sorted(set(found))} for {len(hooks)} hooks",
            expected="for each hook a boolean array of one row or more, as many as the others have, and n_columns "
            "columns", remedy="make the masks from the same hooks",
        )  # fmt: skip
    n_tokens = sequence.n_prompt_tokens + sequence.n_generated_tokens
    if sequence.n_prompt_tokens < 0 or n_tokens > model.sequence_tokens:
        raise UsageError(
            f"byte model, sequence {number}", found=f"{sequence.n_prompt_tokens} prompt tokens, {n_tokens} in all",
            expected=f"0 or more, and at most the {model.sequence_tokens} that DRAM has room for",
            remedy="shorten the sequence, or raise sequence_tokens",
        )  # fmt: skip


def _check_fit(mask: BoolArray, capacity: int, number: int) -> None:
    n_most = int(np.count_nonzero(mask, axis=1).max())
    if n_most > capacity:
        raise UsageError(
            f"byte model, sequence {number}", found=f"a mask of {n_most} columns",
            expected=f"at most the {capacity} that its cache holds",
            remedy="use fewer columns, raise dram_bytes, or set allows_mlp_streaming",
        )  # fmt: skip
