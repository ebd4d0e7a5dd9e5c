"""Rules at work inside a model: each drops what it drops, and both the loss and the reads come from the same run."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ripple_place.blocks import COLUMN, NEURON, unit_metadata
from ripple_place.capture.extra import require_capture_extra
from ripple_place.capture.loss import ScoredModel, check_scorable, measure_loss
from ripple_place.capture.loss_run import DroppedMeans, Run
from ripple_place.capture.params import DEFAULT_RULE
from ripple_place.capture.recorder import Recorder
from ripple_place.capture.setup import set_up
from ripple_place.capture.whole import forward
from ripple_place.capture.writer import TraceWriter
from ripple_place.errors import UnsupportedError
from ripple_place.flash.block_tally import RowTokens
from ripple_place.paths import as_paths
from ripple_place.select.registry import check_units
from ripple_place.select.shared_choice import SharedChoice
from ripple_place.select.simulate import gather_result, selected_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ripple_place.arrays import Float32Array
    from ripple_place.capture.adapter import ModelAdapter
    from ripple_place.capture.loss_result import LossResult
    from ripple_place.capture.params import CaptureParams
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.select.rule import Rule, Tuning
    from ripple_place.select.sight import Sight
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track


@dataclass(frozen=True, eq=False)
class RuleRun:
    """A rule on a layout.

    Attributes
    ----------
    rule : Rule
    layout : Layout
        Its blocks are those in which the rule works.
    tuning : Tuning
    params : SimulationParams or None
        How its reader works; None as the others' does.
    choice : str
        Runs with the same one, if it is not empty, serve what the first of them chooses. Runs of a rule that looks
        neither at what is in DRAM nor at where neurons lie do so anyway.
    """

    rule: Rule
    layout: Layout
    tuning: Tuning
    params: SimulationParams | None = None
    choice: str = ""


@dataclass(frozen=True, eq=False)
class RuleOutcome:
    """What a rule cost.

    Attributes
    ----------
    flash : LayoutResult
        With its selection.
    loss : LossResult
    dropped : mapping of str to ndarray of shape (n_neurons,), float32
        By block, the mean of what was dropped; empty where that was not asked for.
    """

    flash: LayoutResult
    loss: LossResult
    dropped: Mapping[str, Float32Array]


@dataclass(frozen=True, eq=False)
class ModelText:
    """A model that reads a text.

    Attributes
    ----------
    scored : ScoredModel
    n_parts : mapping of str to int
        By block, the parts of a neuron's weights: 3 with a gate, else 2.
    bundle_bytes : mapping of str to int
        Bytes of a unit's weights by block; empty where no family describes the model.
    unit : str
        One of `ripple_place.blocks.UNITS`.
    adapter : ModelAdapter or None
        Applied to the model.
    """

    scored: ScoredModel
    n_parts: Mapping[str, int]
    bundle_bytes: Mapping[str, int]
    unit: str = NEURON
    adapter: ModelAdapter | None = None

    @classmethod
    def load(cls, model: Path, params: CaptureParams) -> ModelText:
        """Load a model that can be scored, and the text.

        Raises
        ------
        UnsupportedError
            If torch is missing, the model's FFNs cannot be seen, or it does not predict text.
        UsageError, CheckpointError, OSError
            If text or model cannot be read or do not fit each other.
        """
        require_capture_extra(model)
        setup = set_up(model, replace(params, rule=DEFAULT_RULE), None)
        check_scorable(setup)
        if any(site.n_experts for site in setup.chosen.sites):
            raise UnsupportedError(
                model, found="a mixture of experts", expected="dense FFNs, which every token passes",
                remedy="record its trace with --magnitudes, and simulate that",
            )  # fmt: skip
        scored = ScoredModel.from_setup(setup)
        parts = {site.block: 3 if site.gated else 2 for site in scored.sites}
        described = {} if setup.weights.ffn is None else setup.weights.ffn.blocks
        sizes = {name: block.bundle_bytes for name, block in described.items()}
        if params.unit == COLUMN:
            columns = [half for block in described.values() if block.components for half in block.by_column()]
            sizes = {half.name: half.bundle_bytes for half in columns}
        return cls(scored, parts, sizes, params.unit, setup.adapter)

    @property
    def n_tokens(self) -> int:
        """Tokens of the text."""
        return sum(batch.n_recorded for batch in self.scored.batches)

    @contextmanager
    def recorded(self, params: CaptureParams, name: str, track: Track) -> Iterator[ActivationTrace]:
        """Give the trace of the exact model on the text; its files are gone afterwards."""
        import torch

        with TemporaryDirectory(prefix="ripple-place-") as directory:
            writer = TraceWriter(Path(directory) / "trace", {}, resume=False)
            recorder = Recorder(DEFAULT_RULE, writer, self.scored.sites)
            with torch.inference_mode(), recorder.attach(self.scored.device):
                for batch in track(self.scored.batches, "recording what fires"):
                    recorder.recording(batch.rows())
                    forward(self.scored.model, batch, self.scored.device, logits=False)
            writer.commit({})
            blocks = {block: layout for site in self.scored.sites for block, layout in site.layouts().items()}
            metadata = {
                **unit_metadata(self.unit),
                "activity": str(DEFAULT_RULE), "model": name,
                **({} if self.adapter is None else self.adapter.metadata),
                "dataset": " + ".join(path.name for path in as_paths(params.texts)),
            }  # fmt: skip
            yield writer.trace(blocks, self.scored.text, metadata)

    def run_rules(
        self, runs: Mapping[str, RuleRun], device: DeviceProfile, params: SimulationParams, sight: Sight, track: Track,
        *, with_dropped: bool = False,
    ) -> dict[str, RuleOutcome]:  # fmt: skip
        """Run rules inside the model, each with a cache of its own, beside the exact model.

        Parameters
        ----------
        runs : mapping of str to RuleRun
            By any name.
        device : DeviceProfile
        params : SimulationParams
        sight : Sight
            What rules see of what neurons put out.
        track : Track
            Receives progress updates.
        with_dropped : bool
            Whether to collect what is dropped, a pass over all outputs.

        Raises
        ------
        UsageError, UnsupportedError, TraceFormatError
            As `measure_loss`, and if a rule lacks something.

        Notes
        -----
        Cost: a forward of the text for each run and one more, and about 20 us for each token and block of 4096
        neurons. Layouts share the run of a rule that looks neither at what is in DRAM nor at where neurons lie.
        """
        n_tokens = self.n_tokens
        check_units([run.rule for run in runs.values()], self.unit)
        blocks = {
            name: selected_blocks(
                {block: RowTokens(n_tokens, None, n_tokens) for block in run.layout.blocks}, run.layout, device,
                run.params or params, run.rule, run.tuning, sight, self.n_parts, self.unit,
            )
            for name, run in runs.items()
        }  # fmt: skip
        # By the first name, those that run together.
        together: dict[str, list[str]] = {}
        first_of: dict[object, str] = {}
        for name, run in runs.items():
            can_share = sight.is_the_same and all(block.sees_outputs_alone for block in blocks[name].values())
            same_rule = (run.rule, id(run.tuning), tuple(blocks[name])) if can_share else name
            together.setdefault(first_of.setdefault(run.choice or same_rule, name), []).append(name)
        inside = {
            first: Run(
                {block: SharedChoice([blocks[name][block] for name in names]) for block in blocks[first]},
                {block: added for block, added in runs[first].tuning.compensation.items() if block in blocks[first]},
                DroppedMeans() if with_dropped else None,
            )
            for first, names in together.items()
        }
        losses = measure_loss(self.scored, inside, track=track)
        outcomes = {}
        for first, names in together.items():
            dropped = inside[first].dropped
            for name in names:
                run = runs[name]
                flash = gather_result(
                    run.layout.name, blocks[name], run.params or params, run.rule, run.tuning, n_tokens, self.unit
                )
                assert flash.selection is not None
                flash = replace(flash, selection=flash.selection.with_loss(losses[first].to_json()))
                outcomes[name] = RuleOutcome(flash, losses[first], {} if dropped is None else dropped.means())
        return outcomes
