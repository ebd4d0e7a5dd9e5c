"""What running outputs came to: the tokens, what they cost, and what was predicted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.results import PERCENTILES, percentiles_us

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.arrays import Float64Array
    from ripple_place.generation.reference import Reference
    from ripple_place.generation.step import Step

_COUNTS = {
    "units_per_token": "n_asked", "reads_per_token": "n_reads", "requests_per_token": "n_requests",
    "bytes_read_per_token": "bytes_read",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far a run says the same as the model in memory.

    Attributes
    ----------
    n_equal, n_compared : int
        Tokens: of a text, those that both would choose next; of a continuation, those before the first difference
        count as equal, as what follows it answers another text.
    nll : float or None
        Of the model in memory, in nats a token of a text; None where text was generated.
    """

    n_equal: int
    n_compared: int
    nll: float | None = None


@dataclass(frozen=True, eq=False)
class OutputRun:
    """What one output did.

    Attributes
    ----------
    name : str
        As it was given.
    steps : tuple of Step
        All of them, parts of the prompt first.
    text : str
        What was generated; of a text that was read, nothing.
    is_direct : bool
        Whether reads passed the page cache by.
    dram_bytes, resident_bytes : int
        Bundles in DRAM; and these with whatever else stays in memory.
    agreement : Agreement or None
        With the model in memory, where that ran.
    """

    name: str
    steps: tuple[Step, ...]
    text: str
    is_direct: bool
    dram_bytes: int
    resident_bytes: int
    agreement: Agreement | None = None

    @property
    def token_ids(self) -> list[int]:
        """Tokens that were generated, or followed in the text."""
        return [step.token_id for step in self.steps if step.token_id is not None]

    @property
    def token_steps(self) -> list[Step]:
        """Steps of one token each: those after the prompt."""
        return [step for step in self.steps if not step.is_prefill]

    @property
    def nll(self) -> float | None:
        """Mean over the tokens of a text, in nats; None of a continuation, which the model chose itself."""
        if any(step.is_prefill for step in self.steps):
            return None
        nlls = [step.nll for step in self.steps if step.nll is not None]
        return float(np.mean(nlls)) if nlls else None

    @property
    def hit_ratio(self) -> float | None:
        """Share of what tokens after the prompt asked for that was in DRAM."""
        asked = sum(step.n_asked for step in self.token_steps)
        return sum(step.n_hits for step in self.token_steps) / asked if asked else None

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens after the prompt, by the time that their steps took."""
        elapsed_us = sum(step.elapsed_us for step in self.token_steps)
        return 1e6 * len(self.token_steps) / elapsed_us if elapsed_us else None

    def compared(self, agreement: Agreement) -> OutputRun:
        """Return it with how far it agrees with the model in memory."""
        return replace(self, agreement=agreement)

    def times_us(self, of: Callable[[Step], float]) -> Float64Array:
        """Return a time of each step after the prompt."""
        return np.array([of(step) for step in self.token_steps], np.float64)

    def recall_and_precision(self) -> tuple[float | None, float | None]:
        """Return how much of what fires was predicted, and the other way round; None where that was not counted."""
        true, predicted, both = (
            sum(getattr(step, name) or 0 for step in self.steps) for name in ("n_true", "n_predicted", "n_both")
        )
        return both / true if true else None, both / predicted if predicted else None

    def prediction_errors(self) -> tuple[float, float] | None:
        """Return median and 90th percentile of how far the time of a token's reads is from the predicted one.

        Relative to what was measured; tokens that read nothing do not count. None if none did.
        """
        read_us, predicted_us = self.times_us(lambda step: step.read_us), self.times_us(lambda step: step.predicted_us)
        did_read = read_us > 0
        if not did_read.any():
            return None
        errors = np.abs(predicted_us - read_us)[did_read] / read_us[did_read]
        return float(np.median(errors)), float(np.percentile(errors, 90))

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``run --json``."""
        n = len(self.token_steps)
        recall, precision = self.recall_and_precision()
        errors, agreement = self.prediction_errors(), self.agreement
        prefill = [step for step in self.steps if step.is_prefill]
        return {
            "name": self.name,
            "text": self.text,
            "token_ids": self.token_ids,
            "nll": self.nll,
            "tokens_per_s": self.tokens_per_s,
            "token_us": summary(self.times_us(lambda step: step.elapsed_us)),
            "io_us": summary(self.times_us(lambda step: step.read_us)),
            "io_waited_us": summary(self.times_us(lambda step: step.waited_us)),
            "io_predicted_us": summary(self.times_us(lambda step: step.predicted_us)),
            "io_prediction_error": None if errors is None else {"p50": errors[0], "p90": errors[1]},
            "compute_us": summary(self.times_us(lambda step: step.elapsed_us - step.waited_us)),
            **{
                key: sum(getattr(step, name) for step in self.token_steps) / n if n else None
                for key, name in _COUNTS.items()
            },
            "cache_hit_ratio": self.hit_ratio,
            "recall": recall,
            "precision": precision,
            "prefill": {
                "n_tokens": sum(step.n_rows for step in prefill),
                "us": sum(step.elapsed_us for step in prefill),
                "io_us": sum(step.read_us for step in prefill),
                "io_predicted_us": sum(step.predicted_us for step in prefill),
                "bytes_read": sum(step.bytes_read for step in prefill),
            },
            "dram_bytes": self.dram_bytes,
            "resident_bytes": self.resident_bytes,
            "direct": self.is_direct,
            "agreement": None if agreement is None else {
                "n_equal": agreement.n_equal, "n_compared": agreement.n_compared, "nll": agreement.nll,
            },
        }  # fmt: skip


def summary(times_us: Float64Array) -> dict[str, float] | None:
    """Return mean and percentiles of times; None if there are none."""
    if not times_us.size:
        return None
    named = zip(PERCENTILES, percentiles_us(times_us), strict=True)
    return {"mean": float(times_us.mean()), **{f"p{share}": value for share, value in named}}


@dataclass(frozen=True, eq=False)
class RunReport:
    """What `run` found.

    Attributes
    ----------
    runs : tuple of OutputRun
    device : str
        Name of the profile that predicted.
    activity : str
        Who said what a token uses.
    rule : str or None
    cache : str
        Policy.
    queue_depth : int
    warnings : tuple of str
    """

    runs: tuple[OutputRun, ...]
    device: str
    activity: str
    rule: str | None
    cache: str
    queue_depth: int
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``run --json``: the first output's text and tokens, and the figures of all."""
        return {
            "text": self.runs[0].text,
            "token_ids": self.runs[0].token_ids,
            "device": self.device,
            "activity": self.activity,
            "select": self.rule,
            "cache": self.cache,
            "queue_depth": self.queue_depth,
            "outputs": [run.to_json() for run in self.runs],
        }


def agreement_with(reference: Reference, steps: Sequence[Step], *, is_text: bool) -> Agreement:
    """Return how far steps agree with the model in memory.

    Parameters
    ----------
    reference : Reference
        Of the same tokens.
    steps : sequence of Step
    is_text : bool
        Whether a text was read.
    """
    if is_text:
        equal = sum(step.best_id == best for step, best in zip(steps, reference.best_ids, strict=True))
        return Agreement(equal, len(steps), reference.nll)
    chosen = [step.token_id for step in steps if step.token_id is not None]
    pairs = list(zip(chosen, reference.best_ids, strict=False))
    equal = next((place for place, (ours, theirs) in enumerate(pairs) if ours != theirs), len(pairs))
    return Agreement(equal, max(len(chosen), len(reference.best_ids)))
