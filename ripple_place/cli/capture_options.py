"""Options of commands that run a model on text, and what they come to: `CaptureParams`."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ripple_place.blocks import UNITS
from ripple_place.capture.params import (
    DEVICES,
    DTYPES,
    FEWEST_SEGMENTS,
    SEGMENT_LENGTH,
    CaptureParams,
    WindowParams,
)
from ripple_place.cli.options import PATH, adapter_option, family_option
from ripple_place.errors import UsageError
from ripple_place.predict.params import PREDICTS, PredictorParams
from ripple_place.trace.activity_rules import ActivityRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ripple_place.cli.options import Common

_FLAGS = {
    "max_tokens": "--max-tokens", "segment_length": "--segment-length", "sequence_length": "--sequence-length",
    "rule": "--active", "unit": "--unit", "magnitudes": "--magnitudes", "perplexity": "--perplexity/--no-perplexity",
    "layer_by_layer": "--layer-by-layer/--whole-model", "torch_device": "--torch-device", "dtype": "--dtype",
    "allow_unsupported": "--allow-unsupported", "family": "--family", "importance": "--importance",
    "sensitivity": "--sensitivity", "adapter": "--adapter", "predictor": "--predictor", "predicts": "--predict",
    "recalls": "--recall", "predictor_from": "--predictor-from", "record_predicted": "--record-predicted",
}  # fmt: skip
"""Options by parameter that mean nothing without a model and a text."""
_DTYPES = [dtype for dtype in DTYPES if dtype != "float64"]
"""float64 is for checks of exactness: no model is meant to run in it."""


@dataclass(frozen=True)
class CaptureOptions:
    """The options as given."""

    texts: tuple[Path, ...]
    max_tokens: int
    segment_length: int | None
    sequence_length: int
    rule: str | None
    unit: str
    magnitudes: bool
    perplexity: bool
    layer_by_layer: bool | None
    torch_device: str
    dtype: str
    allow_unsupported: bool
    family: Path | None
    importance: bool
    sensitivity: bool
    adapter: Path | None
    predictor: int | None
    predicts: str
    recalls: tuple[float, ...]
    predictor_from: Path | None
    record_predicted: float | None

    def params(self, sources: Iterable[Path], common: Common) -> CaptureParams | None:
        """Return what to capture; None if there is no text.

        Raises
        ------
        UsageError
            If a value is out of range, or options were given that mean something only for a model that reads text.
        """
        if not self.texts and not any(path.is_dir() for path in sources):
            _refuse_given()
        windows = WindowParams(self.max_tokens, self.segment_length, self.sequence_length)
        rule = None if self.rule is None else ActivityRule.parse(self.rule)
        if not self.texts:
            return None
        return CaptureParams(
            self.texts, windows, rule, unit=self.unit, magnitudes=self.magnitudes, layer_by_layer=self.layer_by_layer,
            perplexity=self.perplexity, device=self.torch_device, dtype=self.dtype,
            n_threads=common.n_threads if common.n_threads_given else None, allow_unsupported=self.allow_unsupported,
            family=self.family, importance=self.importance, sensitivity=self.sensitivity, seed=common.seed,
            adapter=self.adapter, predictor=self._predictor(), predictor_from=self.predictor_from,
            record_predicted=self.record_predicted,
        )  # fmt: skip

    def _predictor(self) -> PredictorParams | None:
        """Return which predictors to fit; None if that was not asked for."""
        if self.predictor is not None:
            return PredictorParams(self.predictor, self.predicts, self.recalls)
        for name in ("predicts", "recalls"):
            if _is_given(name):
                flag = _FLAGS[name]
                raise UsageError(
                    flag, found="no predictors to fit", expected="--predictor RANK as well",
                    remedy=f"add --predictor 64, or leave {flag} out",
                )  # fmt: skip
        return None


def capture_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--text`` to ``--allow-unsupported``; the command gets them as `capture`, a `CaptureOptions`."""

    @click.option("--text", "texts", type=PATH, multiple=True,
                  help="Text for the model to read; may be given several times.")  # fmt: skip
    @click.option("--max-tokens", type=click.IntRange(1), default=WindowParams.max_tokens, show_default=True,
                  help="Tokens of the text to record, in segments spread evenly over it.")  # fmt: skip
    @click.option("--segment-length", type=click.IntRange(1), default=WindowParams.segment_length,
                  help=f"Tokens of a segment.  [default: {SEGMENT_LENGTH}, less where there would be fewer than "
                  f"{FEWEST_SEGMENTS}]")  # fmt: skip
    @click.option("--sequence-length", type=click.IntRange(2), default=WindowParams.sequence_length, show_default=True,
                  help="Tokens that the model sees at a time; windows overlap by half.")  # fmt: skip
    @click.option("--active", "rule", metavar="RULE",
                  help="When a unit is active: relu, threshold=X, top-k=K, top-k=P%, cats=P%, teal=P%, dip=KEEP, "
                  "glu-pruning=KEEP.  [default: relu for ReLU models; for smooth activations the sparsest top-k that "
                  "the text bears; for columns dip=0.5]")  # fmt: skip
    @click.option("--unit", type=click.Choice(UNITS), default=CaptureParams.unit, show_default=True,
                  help="What is recorded: neurons, columns of up and gate, and of down (DIP), or which experts a "
                  "mixture routes to.")  # fmt: skip
    @click.option("--magnitudes", is_flag=True, default=CaptureParams.magnitudes,
                  help="Also record what the active neurons put out.")  # fmt: skip
    @click.option("--importance", is_flag=True, default=CaptureParams.importance,
                  help="Also measure what dropping each neuron costs in nats (Fisher information).")  # fmt: skip
    @click.option("--sensitivity", is_flag=True, default=CaptureParams.sensitivity,
                  help="Also fit how that cost differs from token to token; implies --importance.")  # fmt: skip
    @click.option("--perplexity/--no-perplexity", default=CaptureParams.perplexity, show_default=True,
                  help="Score the text with and without a rule that changes the output.")  # fmt: skip
    @click.option("--layer-by-layer/--whole-model", default=CaptureParams.layer_by_layer,
                  help="One layer's weights in memory at a time, or all.  [default: all if there is room]")  # fmt: skip
    @click.option("--torch-device", type=click.Choice(DEVICES), default=CaptureParams.device, show_default=True,
                  help="Where the model runs; auto takes the GPU if there is one.")  # fmt: skip
    @click.option("--dtype", type=click.Choice(_DTYPES), default=CaptureParams.dtype, show_default=True,
                  help="What the model computes in.")  # fmt: skip
    @click.option("--allow-unsupported", is_flag=True, default=CaptureParams.allow_unsupported,
                  help="Also profile models that `reorder` refuses, or whose FFNs cannot all be seen.")  # fmt: skip
    @click.option("--predictor", metavar="RANK", type=click.IntRange(1),
                  help="Also fit predictors of this rank: from the input of an FFN they tell what fires.")  # fmt: skip
    @click.option("--predict", "predicts", type=click.Choice(PREDICTS), default=PredictorParams.predicts,
                  show_default=True,
                  help="What predictors tell: which neurons fire, or also how much they put out.")  # fmt: skip
    @click.option("--recall", "recalls", type=float, multiple=True, default=PredictorParams.recalls, show_default=True,
                  help="Share of what fires that is to be predicted; repeat for several thresholds.")  # fmt: skip
    @click.option("--predictor-from", metavar="PROFILE", type=PATH,
                  help="Judge the predictors of a profile on this text.")  # fmt: skip
    @click.option("--record-predicted", metavar="RECALL", type=float,
                  help="Also record what the predictors predict at this recall.")  # fmt: skip
    @adapter_option
    @family_option
    @functools.wraps(command)
    def with_capture(
        *args: Any, texts: tuple[Path, ...], max_tokens: int, segment_length: int | None, sequence_length: int,
        rule: str | None, unit: str, magnitudes: bool, perplexity: bool, layer_by_layer: bool | None, torch_device: str,
        dtype: str, allow_unsupported: bool, family: Path | None, importance: bool, sensitivity: bool,
        adapter: Path | None, predictor: int | None, predicts: str, recalls: tuple[float, ...],
        predictor_from: Path | None, record_predicted: float | None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        options = CaptureOptions(
            texts, max_tokens, segment_length, sequence_length, rule, unit, magnitudes, perplexity, layer_by_layer,
            torch_device, dtype, allow_unsupported, family, importance, sensitivity, adapter, predictor, predicts,
            recalls, predictor_from, record_predicted,
        )  # fmt: skip
        return command(*args, capture=options, **kwargs)

    return with_capture


def _is_given(name: str) -> bool:
    """Tell whether an option was given on the command line."""
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _refuse_given() -> None:
    """Raise if an option was given that only a capture has a use for."""
    for name, flag in _FLAGS.items():
        if _is_given(name):
            raise UsageError(
                flag, found="traces, which were recorded before", expected="a model and --text FILE",
                remedy=f"leave {flag} out, or profile the model",
            )  # fmt: skip
