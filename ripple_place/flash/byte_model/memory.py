"""What lies in DRAM, what is streamed, and how long a token takes that has no MLP: DIP's byte model of a device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.byte_model.dims import PARTS, Footprint, ModelDims, ValueBits

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array

    Bytes = TypeVar("Bytes", float, Float64Array)


@dataclass(frozen=True)
class DramSplit:
    """How DRAM is divided.

    Attributes
    ----------
    static_bytes : float
        Of the static parts with the longest KV cache, and of the dense part of the MLP if it fits; in DRAM but for
        `overflow_bytes`.
    dynamic_bytes : float
        Left for the caches of MLP columns.
    overflow_bytes : float
        Of the static parts, beyond what fits: streamed for every token.
    streamed_mlp_bytes : float
        Of the dense part of the MLP, if it does not fit: streamed for every token.
    """

    static_bytes: float
    dynamic_bytes: float
    overflow_bytes: float
    streamed_mlp_bytes: float


@dataclass(frozen=True)
class ByteModel:
    """A model on a device of which only two bandwidths matter.

    Parameters
    ----------
    dims : ModelDims
    dram_bytes : float
        DRAM for weights and KV cache.
    bits : ValueBits
    dram_bytes_per_s, flash_bytes_per_s : float
        Defaults: Apple A18, from the supplement of arXiv 2412.01380.
    is_concurrent : bool
        Flash and DRAM are read at the same time: a call takes the longer of the two times, not their sum.
    sequence_tokens : int
        Longest sequence, for whose KV cache there is room; default of the released code.
    static_parts : tuple of str
        Of `PARTS`, read from DRAM for every token.
    streamed_parts, prompt_streamed_parts : tuple of str
        Read from flash whole: for every generated token; once to encode the prompt.
    allows_static_streaming : bool
        Static parts that do not fit are streamed for every token; otherwise that is an error.
    allows_mlp_streaming : bool
        A mask may have more columns than its cache; otherwise that is an error.
    simulates_glu_pruning : bool
        Only the down projection is sparse. The others are dense: static if they fit, else streamed; each hook counts
        as one linear.
    n_predictor_values : int
        Of the predictors of all layers.

    Raises
    ------
    UsageError
        If a number is out of range, or a part unknown.

    Notes
    -----
    No request overhead, pages or computing. All sizes are decimal. What the sources leave open, and is chosen here:
    time that does not depend on masks combines flash and DRAM as a hook call does; overflow is read from flash in
    addition to the static parts' DRAM time; a dense part of the MLP that fits is not streamed for the prompt either.

    References
    ----------
    .. [1] Federici et al., "Efficient LLM Inference using Dynamic Input Pruning and Cache-Aware Masking", 2024,
       arXiv:2412.01380, and its authors' released simulator.
    """

    dims: ModelDims
    dram_bytes: float
    bits: ValueBits = field(default_factory=ValueBits)
    dram_bytes_per_s: float = 60e9
    flash_bytes_per_s: float = 1e9
    is_concurrent: bool = False
    sequence_tokens: int = 2048
    static_parts: tuple[str, ...] = ("embedding", "lm_head", "attention", "kv_cache", "predictors")
    streamed_parts: tuple[str, ...] = ()
    prompt_streamed_parts: tuple[str, ...] = ("mlp",)
    allows_static_streaming: bool = False
    allows_mlp_streaming: bool = False
    simulates_glu_pruning: bool = False
    n_predictor_values: int = 0

    def __post_init__(self) -> None:
        positive = (self.dram_bytes, self.dram_bytes_per_s, self.flash_bytes_per_s, self.sequence_tokens)
        if not all(number > 0 for number in positive) or self.n_predictor_values < 0:
            raise UsageError(
                "byte model", expected="DRAM, bandwidths and a sequence above 0, predictors of 0 values or more",
                found=f"{self.dram_bytes} bytes of DRAM at {self.dram_bytes_per_s} bytes/s, flash at "
                f"{self.flash_bytes_per_s} bytes/s, {self.sequence_tokens} tokens, {self.n_predictor_values} values",
                remedy="correct the number",
            )  # fmt: skip
        unknown = {*self.static_parts, *self.streamed_parts, *self.prompt_streamed_parts}.difference(PARTS)
        if unknown:
            raise UsageError(
                "byte model", found=f"no part by the name {', '.join(sorted(unknown))}",
                expected=f"some of {', '.join(PARTS)}", remedy="name some of them",
            )  # fmt: skip

    def footprint(self, n_tokens: float) -> Footprint:
        """Return the model's bytes with a KV cache of `n_tokens`."""
        return Footprint.from_dims(self.dims, self.bits, n_tokens, self.n_predictor_values)

    @property
    def split(self) -> DramSplit:
        """How DRAM is divided.

        Raises
        ------
        UsageError
            If the static parts do not fit and may not be streamed.
        """
        static_bytes, dense_bytes = self._static_bytes(self.sequence_tokens), self._dense_mlp_bytes
        fits = static_bytes + dense_bytes <= self.dram_bytes
        static_bytes += dense_bytes if fits else 0.0
        overflow_bytes = max(0.0, static_bytes - self.dram_bytes)
        if overflow_bytes and not self.allows_static_streaming:
            raise UsageError(
                f"byte model with {self.dram_bytes / 1e9:.3f} GB of DRAM",
                found=f"{static_bytes / 1e9:.3f} GB that must lie there: {', '.join(self.static_parts)}",
                expected="at most what fits", remedy="raise dram_bytes, or set allows_static_streaming",
            )  # fmt: skip
        return DramSplit(
            static_bytes, max(0.0, self.dram_bytes - static_bytes), overflow_bytes, 0.0 if fits else dense_bytes
        )

    def transfer_us(self, flash_bytes: Bytes, dram_bytes: Bytes) -> Bytes:
        """Return the time of one call that reads from both, elementwise for arrays."""
        flash_us, dram_us = flash_bytes / self.flash_bytes_per_s * 1e6, dram_bytes / self.dram_bytes_per_s * 1e6
        return np.maximum(flash_us, dram_us) if self.is_concurrent else flash_us + dram_us

    def fixed_us(self, n_prompt_tokens: int, n_tokens: int) -> float:
        """Return what each generated token takes whatever its masks, on average over a sequence.

        Parameters
        ----------
        n_prompt_tokens, n_tokens : int
            Of the prompt, and of the whole sequence; the KV cache counts with the mean of the two lengths.
        """
        n_mean_tokens, split = (n_prompt_tokens + n_tokens) / 2, self.split
        flash_bytes = self.footprint(n_mean_tokens).part_bytes(self.streamed_parts)
        flash_bytes += split.overflow_bytes + split.streamed_mlp_bytes
        return float(self.transfer_us(flash_bytes, self._resident_bytes(n_mean_tokens)))

    def first_token_us(self, n_prompt_tokens: int) -> float:
        """Return the time to the first token: the prompt is encoded in one go, with dense weights."""
        flash_bytes = self.footprint(n_prompt_tokens).part_bytes(self.prompt_streamed_parts)
        if "mlp" in self.prompt_streamed_parts and not self.split.streamed_mlp_bytes:
            flash_bytes -= self._dense_mlp_bytes
        return float(self.transfer_us(flash_bytes, self._resident_bytes(n_prompt_tokens)))

    def cache_columns(self, n_linears: int, column_values: int) -> int:
        """Return how many columns of a linear its cache holds.

        Parameters
        ----------
        n_linears : int
            Linears with masks, in all layers, which share DRAM evenly.
        column_values : int
            Values of one column: the linear's outputs.
        """
        return int(self.split.dynamic_bytes / n_linears / self.column_bytes(column_values))

    def column_bytes(self, column_values: int) -> float:
        """Return the bytes of one column of the MLP."""
        return column_values * self.bits.mlp / 8

    @property
    def _dense_mlp_bytes(self) -> float:
        """Bytes of the MLP's linears that no mask reaches, where GLU pruning is simulated."""
        if not self.simulates_glu_pruning:
            return 0.0
        return self.footprint(0).mlp_bytes * (self.dims.n_mlp_linears - 1) / self.dims.n_mlp_linears

    def _static_bytes(self, n_tokens: float) -> float:
        return self.footprint(n_tokens).part_bytes(self.static_parts)

    def _resident_bytes(self, n_tokens: float) -> float:
        """Return what is read from DRAM for a token: the static parts, and the dense part of the MLP if it fits."""
        dense_bytes = 0.0 if self.split.streamed_mlp_bytes else self._dense_mlp_bytes
        return self._static_bytes(n_tokens) + dense_bytes
