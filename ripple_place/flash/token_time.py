"""The time of a token end to end: flash time and computation, one after the other or overlapped."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import block_sort_key
from ripple_place.errors import UsageError
from ripple_place.flash.pipeline.layer import PipelineClock
from ripple_place.flash.pipeline.params import PipelineParams

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array
    from ripple_place.flash.block_rows import BlockRows
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.pipeline.layer import PipelineTime

PIPELINE = "pipeline"
OVERLAPS = ("serial", "layer", "cluster", PIPELINE)
CLUSTERS = 14
"""Neuron clusters of an FFN block: PowerInfer-2 computes the 7168 neurons that it leaves to the CPU of Bamboo-7B's
14336 in clusters of 512 (arXiv 2406.06282, its example at batch size 1)."""


@dataclass(frozen=True)
class ComputeParams:
    """What computing costs, and how far reading hides under it.

    Parameters
    ----------
    us_per_layer : float
        Time to compute one layer for one token, attention included, with its weights in DRAM. 0 in the pipeline: it
        follows from what each token needs and from the rates of the device.
    overlap : {"serial", "layer", "cluster", "pipeline"}
        ``serial``: a layer is read, then computed. ``layer``: while a layer is computed, the next one is read, so that
        the activity of a layer must be known, or predicted, one layer ahead. ``cluster``: a layer is read and computed
        in `n_clusters` clusters of neurons, one computed while the next is read (PowerInfer-2's pipeline, as a
        formula). ``pipeline``: that pipeline stage by stage, on several threads (`ripple_place.flash.pipeline`).
    n_clusters : int
        Of ``cluster``.
    pipeline : PipelineParams, optional
        Of ``pipeline``, which alone has them; default those of PowerInfer-2's example.

    Raises
    ------
    UsageError
        If a number is out of range, the overlap unknown, or a parameter of another overlap given.
    """

    us_per_layer: float
    overlap: str = "serial"
    n_clusters: int = CLUSTERS
    pipeline: PipelineParams | None = None

    def __post_init__(self) -> None:
        if self.overlap not in OVERLAPS:
            raise UsageError(
                f"--overlap {self.overlap}", found="no overlap by that name",
                expected=f"one of {', '.join(OVERLAPS)}", remedy="name one of them",
            )  # fmt: skip
        if not (0 <= self.us_per_layer < math.inf and self.n_clusters >= 1):
            raise UsageError(
                "compute time", found=f"{self.us_per_layer} us a layer, {self.n_clusters} clusters",
                expected="a time of at least 0 and one cluster or more", remedy="correct the number",
            )  # fmt: skip
        if self.pipeline is not None and not self.is_pipeline:
            raise UsageError(
                f"--overlap {self.overlap}", found="--pipeline", expected="--overlap pipeline, whose parameters it has",
                remedy="add --overlap pipeline, or leave --pipeline out",
            )  # fmt: skip
        attention_us = 0.0 if self.pipeline is None else self.pipeline.attention_us
        if 0 < self.us_per_layer < attention_us:
            raise UsageError(
                "compute time", found=f"{self.us_per_layer:g} us a layer, of which attention takes {attention_us:g} us",
                expected="no more attention than that", remedy="correct one of the two",
            )  # fmt: skip
        if self.is_pipeline and self.pipeline is None:
            object.__setattr__(self, "pipeline", PipelineParams())

    @property
    def is_pipeline(self) -> bool:
        """Whether layers are scheduled stage by stage."""
        return self.overlap == PIPELINE

    def on(self, device: DeviceProfile) -> ComputeParams:
        """Return the same with the device's rates where the pipeline leaves them to it.

        Raises
        ------
        UsageError
            If the device profile lacks one.
        """
        return (
            self
            if self.pipeline is None
            else replace(self, pipeline=self.pipeline.on(device, needs_rate=self.us_per_layer == 0))
        )

    def to_json(self) -> dict[str, Any]:
        """Return the fields as `simulate --json` has them; `pipeline` only where there is one."""
        return {name: value for name, value in asdict(self).items() if name != PIPELINE or value is not None}


@dataclass(frozen=True, eq=False)
class TokenTime:
    """Times of tokens, reading and computing.

    Attributes
    ----------
    params : ComputeParams
    compute_us_per_token : float
        Computation alone, the same for every token; in the pipeline the mean over tokens of
        `ripple_place.flash.pipeline.layer.PipelineTime.least_us`.
    token_us : ndarray of shape (n_tokens,), float64
        End to end.
    pipeline : PipelineTime, optional
        What the threads of the pipeline did; by step where several sequences are served at once.
    """

    params: ComputeParams
    compute_us_per_token: float
    token_us: Float64Array
    pipeline: PipelineTime | None = None

    def pipeline_scores(self) -> dict[str, float]:
        """Return the means per token of what the threads did; empty without a pipeline."""
        if self.pipeline is None or self.params.pipeline is None:
            return {}
        # Where several sequences run at once, tokens are more than the steps that the pipeline has times of.
        n_threads, n_tokens, token_us = self.params.pipeline.n_threads, self.token_us.size, float(self.token_us.sum())
        exposed_us = float(self.pipeline.exposed_us.sum())
        io_us, compute_us = float(self.pipeline.io_busy_us.sum()), float(self.pipeline.compute_busy_us.sum())
        return {
            "exposed_io_us_per_token": exposed_us / n_tokens,
            "io_busy_us_per_token": io_us / n_tokens,
            "io_busy_share": io_us / token_us if token_us else 0.0,
            "compute_busy_us_per_token": compute_us / n_tokens,
            "compute_busy_share": compute_us / (n_threads * token_us) if token_us else 0.0,
        }


class TokenClock:
    """Adds up the time of each token, block after block in model order, without keeping times of blocks.

    Parameters
    ----------
    params : ComputeParams
        With the rates of a device (`ComputeParams.on`).
    n_tokens : int

    Notes
    -----
    With r and c the times to read and to compute a layer, in a model of L layers: serial ``sum(r + c)``; layer
    ``r_1 + sum over l > 1 of max(c, r_l) + c``; cluster ``sum(max(r, c) + min(r, c) / n_clusters)``, which is exact
    for clusters of equal times: the longer of the two and one cluster of the other. The first layer of a token is
    never read ahead, since the token is not known before the one before it is done. Blocks of one layer (experts) are
    read one after the other; in the pipeline they share its clusters. Layers that are not simulated are
    not computed either. A DRAM copy is part of neither.
    """

    def __init__(self, params: ComputeParams, n_tokens: int) -> None:
        self.params = params
        self._token_us, self._layer_us = np.zeros(n_tokens), np.zeros(n_tokens)
        self._layer: tuple[str, int] | None = None
        self._n_layers = 0
        self._pipeline = (
            None if params.pipeline is None else PipelineClock(params.pipeline, n_tokens, params.us_per_layer)
        )

    def add(self, block: str, rows: BlockRows, bundle_bytes: int) -> None:
        """Add what a block serves each token; blocks come in model order."""
        layer = block_sort_key(block)[:2]
        if layer != self._layer:
            self._end_layer()
            self._layer = layer
        self._layer_us += rows.flash_us
        if self._pipeline is not None:
            self._pipeline.add(rows, bundle_bytes)

    def finish(self) -> TokenTime:
        """Return the times of the tokens, once every block was added."""
        self._end_layer()
        self._layer = None
        if self.params.overlap == "layer" and self._n_layers:
            self._token_us += self.params.us_per_layer
        if self._pipeline is not None:
            pipeline = self._pipeline.finish()
            least_us = float(pipeline.least_us.mean()) if pipeline.least_us.size else 0.0
            return TokenTime(self.params, least_us, self._token_us, pipeline)
        return TokenTime(self.params, self._n_layers * self.params.us_per_layer, self._token_us)

    def _end_layer(self) -> None:
        """Put a layer that was read into the time of the tokens."""
        if self._layer is None:
            return
        read_us, compute_us = self._layer_us, self.params.us_per_layer
        if self._pipeline is not None:
            self._token_us += self._pipeline.end_layer()
        elif self.params.overlap == "serial":
            self._token_us += read_us + compute_us
        elif self.params.overlap == "cluster":
            self._token_us += np.maximum(read_us, compute_us) + np.minimum(read_us, compute_us) / self.params.n_clusters
        else:
            # While the layer before is computed; the first has none before it.
            self._token_us += read_us if self._n_layers == 0 else np.maximum(read_us, compute_us)
        self._n_layers += 1
        self._layer_us[:] = 0.0
