"""Parameters of a capture: the text and its windows, the activity rule, device and dtype.

Imports nothing heavy, because the command line takes the defaults in its help from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.blocks import COLUMN, EXPERT, NEURON, UNITS
from ripple_place.errors import UsageError
from ripple_place.paths import Paths, as_paths
from ripple_place.predict.params import MAGNITUDE, PredictorParams, place_of_recall
from ripple_place.trace.activity_rules import ActivityRule

if TYPE_CHECKING:
    from pathlib import Path

BATCH_TOKENS = 1024
"""Tokens of a batch: enough for a matrix product to run at full speed, few enough for laptops."""
SEGMENT_LENGTH = 2048
FEWEST_SEGMENTS = 4
"""A short profile sees all of the text, too: so many segments of it, rather than one at its beginning."""
DEFAULT_RULE = ActivityRule("relu")
"""The skipped neurons of a ReLU model put out zero, so this rule leaves the model's output as it is."""
DEFAULT_COLUMN_RULE = ActivityRule("dip", 0.5)
"""Every input of an FFN is used unless a rule says otherwise; half of the weights is what DIP's authors report on."""
EXPERT_RULE = ActivityRule("routed")
"""An expert is active where the router says so: nothing is left out that the model would use."""
DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True)
class WindowParams:
    """How much of the text the model sees, and in what pieces; all in tokens.

    Parameters
    ----------
    max_tokens : int
        Tokens recorded, at most; rounded down to whole segments.
    segment_length : int, optional
        Tokens of a segment: consecutive text. By default `SEGMENT_LENGTH`, less where there would be fewer than
        `FEWEST_SEGMENTS` of them.
    sequence_length : int
        Tokens that the model sees at a time.

    Raises
    ------
    UsageError
        If a number is too small.
    """

    max_tokens: int = 8192
    segment_length: int | None = None
    sequence_length: int = 256

    def __post_init__(self) -> None:
        segment_length = SEGMENT_LENGTH if self.segment_length is None else self.segment_length
        if self.max_tokens < 1 or segment_length < 1 or self.sequence_length < 2:
            raise UsageError(
                "--max-tokens, --segment-length, --sequence-length",
                found=f"{self.max_tokens}, {segment_length}, {self.sequence_length}",
                expected="at least 1, 1 and 2", remedy="ask for more tokens",
            )  # fmt: skip

    @property
    def length_of_segments(self) -> int:
        """Tokens of a segment, as asked for or by default; a default one has at least the context of half a window."""
        if self.segment_length is not None:
            return min(self.segment_length, self.max_tokens)
        shortest = min(self.max_tokens, max(1, self.sequence_length // 2))
        return min(SEGMENT_LENGTH, max(shortest, self.max_tokens // FEWEST_SEGMENTS))

    @property
    def batch_size(self) -> int:
        """Windows that run together."""
        return max(1, BATCH_TOKENS // self.sequence_length)


@dataclass(frozen=True)
class CaptureParams:
    """How to record a trace.

    Parameters
    ----------
    texts : str, Path, or several
        Text files in UTF-8.
    windows : WindowParams
        How much of the text the model sees, and in what pieces.
    rule : ActivityRule, optional
        When a neuron is active. By default `DEFAULT_RULE` for ReLU models; for smooth activations one is chosen
        (`ripple_place.capture.rule_choice`), and for columns `DEFAULT_COLUMN_RULE`.
    magnitudes : bool
        Also record the outputs of the active neurons.
    layer_by_layer : bool, optional
        Hold one layer's weights in memory at a time. By default, only if the whole model does not fit.
    perplexity : bool
        For rules that change the output, also run without the rule and score the text both ways.
    device : str
        ``cpu``, ``cuda``, or ``auto``: the GPU if there is one.
    dtype : str
        One of `DTYPES`; the model computes in it. float32 holds the weights of every usual checkpoint exactly.
    n_threads : int, optional
        Threads of torch; by default, torch decides.
    allow_unsupported : bool
        Record what can be recorded of a model that `reorder` would refuse, or of which not every block can be seen.
    family : str or Path, optional
        Family file that describes the model (`ripple_place.checkpoint.model.known_families.read_family`).
    importance : bool
        Also measure what dropping a neuron costs (`ripple_place.capture.importance`).
    sensitivity : bool
        Also fit how that differs from token to token; measures importance, too.
    seed : int
        Of the labels that importance is measured on.
    unit : str
        One of `ripple_place.blocks.UNITS`: what a block is made of. Of experts, the routes are recorded, with the
        router's weights.
    adapter : Path, optional
        Directory of a LoRA adapter, as peft saved it, that is applied to the model (`ripple_place.capture.adapter`).
    predictor : PredictorParams, optional
        Also fit predictors of what fires.
    predictor_from : Path, optional
        Profile whose predictors are judged on this text; in place of `predictor`.
    record_predicted : float, optional
        Recall at which the trace also says what the predictors predict.

    Raises
    ------
    UsageError
        If there is no text, device, dtype, threads or unit are unknown, the rule is not one of the unit, importance
        or predictors are asked for of a unit that has none, or predictors in two ways, or are to be recorded without
        being there.
    """

    texts: Paths
    windows: WindowParams = WindowParams()
    rule: ActivityRule | None = None
    magnitudes: bool = False
    layer_by_layer: bool | None = None
    perplexity: bool = True
    device: str = "auto"
    dtype: str = "float32"
    n_threads: int | None = None
    allow_unsupported: bool = False
    family: str | Path | None = None
    importance: bool = False
    sensitivity: bool = False
    seed: int = 0
    unit: str = NEURON
    adapter: Path | None = None
    predictor: PredictorParams | None = None
    predictor_from: Path | None = None
    record_predicted: float | None = None

    @property
    def predicts(self) -> bool:
        """Whether predictors are fitted or judged, for which inputs of FFNs are recorded."""
        return self.predictor is not None or self.predictor_from is not None

    @property
    def keeps_magnitudes(self) -> bool:
        """Whether the trace has outputs of neurons, or weights of the router: these are few, and order the experts."""
        return self.magnitudes or self.unit == EXPERT

    @property
    def needs_magnitudes(self) -> bool:
        """Whether outputs of neurons are looked at, be they part of the trace or not."""
        fits = self.predictor is not None and (self.predictor.predicts == MAGNITUDE or self.measures_importance)
        # To weigh what predictors of another text miss.
        return self.keeps_magnitudes or fits or self.predictor_from is not None

    @property
    def measures_importance(self) -> bool:
        """Whether importance is asked for, by itself or for the sensitivity."""
        return self.importance or self.sensitivity

    def __post_init__(self) -> None:
        if not as_paths(self.texts):
            raise UsageError(
                "profile MODEL", found="no text", expected="--text FILE, text for the model to read",
                remedy="give some, of the kind that the model will meet",
            )  # fmt: skip
        for option, value, choices in (
            ("--torch-device", self.device, DEVICES), ("--dtype", self.dtype, DTYPES),
            ("--unit", self.unit, UNITS),
        ):  # fmt: skip
            if value not in choices:
                raise UsageError(option, found=repr(value), expected=" or ".join(choices), remedy="name one of these")
        if self.n_threads is not None and self.n_threads < 1:
            raise UsageError(
                "--threads", found=str(self.n_threads), expected="at least 1", remedy="ask for at least one thread"
            )
        if self.rule is not None:
            self.rule.check_unit(self.unit)
        if self.measures_importance and self.unit == EXPERT:
            raise UsageError(
                "--importance", found="blocks of experts", expected="blocks of neurons or columns",
                remedy="leave --unit expert out, or --importance and --sensitivity",
            )  # fmt: skip
        self._check_predictors()

    def _check_predictors(self) -> None:
        """Refuse predictors that cannot be had together, and recalls that they have no thresholds for."""
        if self.predicts and self.unit != NEURON:
            raise UsageError(
                "--predictor", found=f"blocks of {self.unit}s", expected="blocks of neurons: a reader "
                "of columns knows the inputs, and routers choose experts",
                remedy="leave --unit out, or --predictor and --predictor-from",
            )  # fmt: skip
        if self.predictor is not None and self.predictor_from is not None:
            raise UsageError(
                "--predictor --predictor-from", found="both", expected="one: predictors are fitted, or taken",
                remedy="leave one out",
            )  # fmt: skip
        if self.record_predicted is not None and not self.predicts:
            raise UsageError(
                "--record-predicted", found="no predictors", expected="--predictor RANK or --predictor-from PROFILE",
                remedy="add one of them",
            )  # fmt: skip
        if self.record_predicted is not None and self.predictor is not None:
            place_of_recall(self.record_predicted, self.predictor.recalls)

    @property
    def named_rule(self) -> ActivityRule | None:
        """The rule that was named, or is the default of the unit; None where model and text are to choose."""
        if self.unit == EXPERT:
            return EXPERT_RULE
        return DEFAULT_COLUMN_RULE if self.rule is None and self.unit == COLUMN else self.rule
