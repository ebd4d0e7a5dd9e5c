"""What to simulate, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ripple_place.bundle_sizes import check_bundle_bytes
from ripple_place.errors import UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.segmented import Segmented
from ripple_place.flash.device.conditions import ReadConditions
from ripple_place.flash.device.files import DEFAULT_DEVICE
from ripple_place.flash.gate_first import GateFirst
from ripple_place.predict.params import TRUE, check_activity
from ripple_place.scoring.batch import check_batch
from ripple_place.scoring.bundle_forms import FormChoice
from ripple_place.scoring.dram import check_dram
from ripple_place.select.registry import parse_rule
from ripple_place.select.sight import check_told
from ripple_place.select.simulate import refuse_pool

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.bundle_sizes import BundleBytes
    from ripple_place.capture.params import CaptureParams
    from ripple_place.flash.caches.segments import HotSegments
    from ripple_place.flash.token_time import ComputeParams

MAX_NOISE = 10.0
"""Standard deviation of the logarithm: outputs that are wrong by a factor of 20,000 either way."""


@dataclass(frozen=True)
class SimulateParams:
    """What to simulate.

    Parameters
    ----------
    device : str or Path
        Name of a shipped device profile, or path of one.
    layers : str, optional
        Layers to simulate (``0-3,7``).
    bundle_bytes : int or (int, int), optional
        Bytes of a neuron's weights in every block, or of an input column and of a down column, packed; overrides what
        layouts know.
    dram_budget : float, int or str, optional
        DRAM for neurons: a share of each block's neurons (float), or bytes shared evenly by the blocks (int); split as
        recorded instead, if a layout was made for this very budget. ``placement``: what the layouts were made for.
    cache : str, optional
        Policy; default what the layouts were made for with ``placement``, else S3-FIFO where there is a budget and
        none where there is not.
    gap : int or str, optional
        Unwanted neurons to read through; None takes the device's break-even gap; ``adaptive`` or ``optimal`` lets a
        planner decide token by token.
    baseline : str or Path, optional
        Layout that speedups are against, as named among the layouts; default the first. With rules, it is against that
        layout with the first rule.
    profile : Path or str, optional
        Profile whose firing counts decide what is pinned, and what `greedydual` expects; default those that the
        layouts record.
    conditions : ReadConditions
        Core, queue depth, heat and access mode of the reader; default those of the profile.
    compute : ComputeParams, optional
        What computing a layer costs, and how reading overlaps with it.
    n_threads : int, optional
        Blocks simulated at a time; default the number of cores. Results do not depend on it.
    admission : str
        Which misses may enter the cache (`ripple_place.flash.admission.Admission.parse`).
    reset_at_segments : bool
        Empty the cache where a segment of the trace begins.
    bound : bool
        Count the hits of Belady's replacement beside those of the cache; simulating takes about twice as long.
    seed : int
        Of what admission draws, of the noise of magnitudes, and of where a measured file is looked at for caches.
    select : tuple of str
        Rules that choose what a token uses (`ripple_place.select.registry.parse_rule`); each is scored on each layout.
        Empty: everything that fires is used, and nothing is said of loss.
    magnitude_noise : float
        What a predictor of magnitudes gets wrong: rules see each output times ``exp(sigma z)``, z standard normal.
    capture : CaptureParams, optional
        How a model reads a text; for a model among the sources.
    activity : str
        ``predicted``: what predictors say is served in place of what fires. Of traces that is what they recorded; in a
        model, rules see what the predictors of the profile say, or of the first output among the layouts that has some.
    recall : float, optional
        One of those that the predictors' thresholds were set for; for a model. Default: 0.99, or else the highest.
    gate_first : str, optional
        How gates are read before the rest (`ripple_place.flash.gate_first.GateFirst.parse`). Neurons have a gate
        unless an output among the layouts, or the model, says otherwise.
    bundle_form : str, optional
        Form that bundles are supposed to have (`ripple_place.scoring.bundle_forms.FormChoice.parse`); default that of
        an output's bundled file, else gate row, up row and down column side by side.
    dram_pool : bool
        All blocks share one cache, of as many neurons as their own would have in all.
    batch : tuple of int
        Sequences that run together; several numbers are a schedule (`ripple_place.trace.union.batch_steps`).
    segments : HotSegments, optional
        Plan of the policy ``segmented``, whose caches are a pool: what is hot is then asked for whether it fires or
        not. Default: that of the first layout that was made by a plan (`ripple_place.scoring.hot_rows.HotRows`).

    Raises
    ------
    UsageError
        If a cache or an admission is named without a budget for it, a budget is neither share nor bytes, access
        collapse is asked for a mapped file, a rule is unknown, stands twice, or looks at what is not predicted, or a
        rule meets a pool or a batch.
    """

    device: str | Path = DEFAULT_DEVICE
    layers: str | None = None
    bundle_bytes: BundleBytes | None = None
    dram_budget: float | int | str | None = None
    cache: str | None = None
    gap: int | str | None = None
    baseline: str | Path | None = None
    profile: Path | str | None = None
    conditions: ReadConditions = field(default_factory=ReadConditions)
    compute: ComputeParams | None = None
    n_threads: int | None = None
    admission: str = "all"
    reset_at_segments: bool = False
    bound: bool = False
    seed: int = 0
    select: tuple[str, ...] = ()
    magnitude_noise: float = 0.0
    capture: CaptureParams | None = None
    activity: str = TRUE
    recall: float | None = None
    gate_first: str | None = None
    bundle_form: str | None = None
    dram_pool: bool = False
    batch: tuple[int, ...] = (1,)
    segments: HotSegments | None = None

    def __post_init__(self) -> None:
        Admission.parse(self.admission)
        uses = {
            f"--admission {self.admission}": self.admission != "all", "--reset-at-segments": self.reset_at_segments,
            "--bound": self.bound, "--dram-pool": self.dram_pool,
        }  # fmt: skip
        check_dram(self.dram_budget, self.cache, uses)
        if self.conditions.access == "mmap" and self.gap is not None:
            raise UsageError(
                "--access mmap", found=f"access collapse {self.gap}",
                expected="none: the kernel decides what a page fault fetches", remedy="leave --collapse out",
            )  # fmt: skip
        check_bundle_bytes(self.bundle_bytes)
        check_batch(self.batch)
        self._check_rules()
        self._check_activity()
        self._check_gates()

    def _check_gates(self) -> None:
        """Refuse gates first, and forms, that do not parse or do not go with the rest."""
        if self.gate_first is None and self.bundle_form is None:
            return
        if self.gate_first is not None:
            GateFirst.parse(self.gate_first)
        if self.bundle_form is not None:
            FormChoice.parse(self.bundle_form)
        if self.select:
            raise UsageError(
                f"--select {self.select[0]}", found="--gate-first or --bundle-form", expected="no rule there: what "
                "fires is used", remedy="leave out --select, or both others",
            )  # fmt: skip
        if self.gate_first is not None and self.activity != TRUE:
            raise UsageError(
                f"--activity {self.activity}", found="--gate-first, which asks for what was predicted itself",
                expected="one of them", remedy="leave --activity out",
            )  # fmt: skip

    @property
    def is_pooled(self) -> bool:
        """Whether all blocks share one cache: as asked for, or as the policy has it."""
        return self.dram_pool or self.cache == Segmented.policy

    @property
    def is_batched(self) -> bool:
        """Whether sequences run together."""
        return set(self.batch) != {1}

    def _check_rules(self) -> None:
        """Refuse rules that do not parse, or stand twice, and noise that nothing sees."""
        rules = [str(parse_rule(text)) for text in self.select]
        if twice := {rule for rule in rules if rules.count(rule) > 1}:
            raise UsageError("--select", found=f"{min(twice)} twice", expected="each once", remedy="leave one out")
        if rules and self.bound:
            raise UsageError(
                "--bound", found="rules, which ask for what is in DRAM",
                expected="accesses that do not depend on the cache", remedy="leave --bound or --select out",
            )  # fmt: skip
        for rule in map(parse_rule, self.select):
            # On a trace, a rule that drops nothing of what fires asks for the same whatever DRAM holds.
            drops = rule.changes_output or rule.knowledge.sees != "predictor"
            if self.is_pooled and (self.capture is not None or drops):
                refuse_pool(rule)
            if self.is_batched:
                raise UsageError(
                    f"--batch {','.join(map(str, self.batch))} --select {rule}", found="a rule, which looks at the "
                    "tokens of one sequence", expected="one of the two", remedy="leave --batch or --select out",
                )  # fmt: skip
        if self.is_batched and self.capture is not None:
            raise UsageError(
                f"--batch {','.join(map(str, self.batch))}", found="a model, in which one sequence runs",
                expected="a trace", remedy="leave --batch out, or record a trace with `ripple-place profile`",
            )  # fmt: skip
        if not 0 <= self.magnitude_noise <= MAX_NOISE:
            raise UsageError(
                "--magnitude-noise", found=f"{self.magnitude_noise:g}", expected=f"0 to {MAX_NOISE:g}",
                remedy="give the standard deviation of the logarithm, such as 0.5",
            )  # fmt: skip
        if self.magnitude_noise > 0 and not rules:
            raise UsageError(
                "--magnitude-noise",
                found="no rule that looks at magnitudes",
                expected="one",
                remedy="add --select RULE",
            )

    def _check_activity(self) -> None:
        """Refuse what does not go with predictions, as far as no file says it."""
        check_activity(self.activity, self.recall)
        if self.activity == TRUE:
            return
        if self.magnitude_noise > 0:
            raise UsageError(
                f"--magnitude-noise {self.magnitude_noise:g}", found="--activity predicted, whose predictors have "
                "errors of their own", expected="one of them", remedy="leave one out",
            )  # fmt: skip
        rules = [parse_rule(text) for text in self.select]
        check_told(rules)
        if self.capture is not None and not rules:
            raise UsageError(
                "--activity predicted", found="a model and no rule to run in it", expected="at least one",
                remedy="add --select exact",
            )  # fmt: skip
        if self.capture is None and self.recall is not None:
            raise UsageError(
                f"--recall {self.recall:g}", found="traces, whose predictions were recorded at one recall",
                expected="a model and --text FILE", remedy="leave --recall out, or name the model with --text",
            )  # fmt: skip
        blind = [rule for rule in rules if rule.knowledge.of != "activity"]
        if self.capture is None and blind:
            raise UsageError(
                f"--activity predicted --select {blind[0]}", found="traces, which say which neurons were predicted, "
                "not how much of each", expected="--select exact, or a model", remedy="name the model with --text",
            )  # fmt: skip
