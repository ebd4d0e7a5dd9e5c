"""Generate text from outputs whose FFN weights stay on storage, and measure what that takes."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.capture.extra import require_capture_extra
from ripple_place.capture.text import read_texts
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import load_device
from ripple_place.flash.layout import Layout
from ripple_place.flash.simulation_params import SimulationParams
from ripple_place.generation.generator import Generator
from ripple_place.generation.params import GATE
from ripple_place.generation.reference import run_reference
from ripple_place.generation.report import OutputRun, RunReport, agreement_with
from ripple_place.generation.text_stream import TextStream
from ripple_place.placing.recorded_dram import RecordedDram
from ripple_place.runtime.block_parts import REST, WHOLE
from ripple_place.runtime.layout_reader import DEFAULT_DEPTH, LayoutReader, ReaderParams
from ripple_place.runtime.output_layout import read_output_layout
from ripple_place.scoring.dram import choose_dram
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ripple_place.flash.device.conditions import ConditionedDevice
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.generation.step import Step
    from ripple_place.workflows.run_params import RunParams

    Listen = Callable[["Heard"], object]


@dataclass(frozen=True, eq=False)
class Heard:
    """What a listener hears after each step.

    Attributes
    ----------
    name : str
        Of the output.
    place : int
        0 for the first output, whose text is the one to show.
    step : Step
    piece : str
        Text that the step completed.
    n_done, n_wanted : int
        Tokens.
    """

    name: str
    place: int
    step: Step
    piece: str
    n_done: int
    n_wanted: int


@dataclass(eq=False)
class _Running:
    """An output at work."""

    name: str
    reader: LayoutReader
    generator: Generator
    stream: TextStream
    steps: list[Step] = field(default_factory=list)


def run(
    outs: Sequence[Path | str],
    params: RunParams,
    track: Track = no_track,
    listen: Listen = lambda heard: None,
) -> RunReport:
    """Run outputs of `reorder`, token by token in turn, so that whatever disturbs one disturbs all.

    Parameters
    ----------
    outs : sequence of Path or str
        With a bundled file each; of one model, which is not checked.
    params : RunParams
    track : Track
        Receives progress of checking and loading.
    listen : callable
        Hears of each step as it is done.

    Returns
    -------
    RunReport
        Measured times, counts, and what the simulator charges for the very same reads.

    Raises
    ------
    UsageError
        If an output stands twice, is not there or lacks what the activity needs, or the text does not fit the model.
    UnsupportedError
        If torch is missing, an output has no bundled file, or transformers does not know the model.
    CheckpointError, PlacementError, DeviceConfigError
        If a file is malformed, or not the one that was written.
    OSError
        If storage refuses a read; the tokens before are what `listen` heard.
    """
    names = [str(out) for out in outs]
    if len(set(names)) < len(names):
        raise UsageError("--compare", found="an output twice", expected="each once", remedy="leave one out")
    require_capture_extra(names[0])
    if params.n_threads is not None:
        import torch

        torch.set_num_threads(params.n_threads)
    device = load_device(str(params.device))
    depth = params.queue_depth or _saturating_depth(device)
    conditioned = under(device, _conditions(device, params.queue_depth))
    with ExitStack() as stack:
        running = [_open(name, params, conditioned, depth, track, stack) for name in names]
        token_ids = _tokens(running[0].generator.tokenizer, params)
        _take_turns(running, token_ids, params, listen)
        runs = [_outcome(each) for each in running]
        dtype, ending = running[0].generator.dtype, running[0].generator.eos_token_ids
        cache = running[0].reader.simulation.cache
    if params.against is not None:
        n_new = None if params.prompt is None else params.n_tokens
        reference = run_reference(Path(params.against), token_ids, dtype=dtype, n_new=n_new, ending=ending)
        runs = [
            run.compared(agreement_with(reference, run.steps, is_text=params.text is not None)) for run in runs
        ]  # fmt: skip
    return RunReport(
        tuple(runs), device.name, params.activity, params.select, cache, depth,
        tuple(_warnings(runs, device)),
    )  # fmt: skip


def _open(
    name: str, params: RunParams, device: ConditionedDevice, depth: int, track: Track, stack: ExitStack
) -> _Running:
    """Open an output for reading, and load what stays in memory."""
    manifest = read_manifest(name)
    output = read_output_layout(name, manifest)
    layout = Layout.from_extents(name, output.placement, output.extents, output.forms)
    recorded = RecordedDram.of(name, output.placement)
    dram = choose_dram(layout, {} if recorded is None else {name: recorded}, params.dram_budget, params.cache)
    pool_neurons = sum(dram.capacity_neurons.values()) if params.dram_pool else None
    simulation = SimulationParams(
        dram.cache, dram.capacity_neurons if pool_neurons is None else {}, params.gap,
        admission=Admission.parse(params.admission, params.seed), pool_neurons=pool_neurons,
    )  # fmt: skip
    device = replace(device, span_bytes=layout.span_bytes)
    is_apart = bool(layout.blocks) and all(block.is_apart for block in layout.blocks.values())
    # Gates that are in memory need not be read, where the rest lies by itself.
    parts = REST if params.activity == GATE and is_apart else WHOLE
    reader = stack.enter_context(
        LayoutReader.open(name, device, simulation, ReaderParams(depth, params.check, parts), track)
    )
    generator = Generator.open(name, reader, params.generation, track)
    return _Running(name, reader, generator, TextStream(generator.tokenizer))


def _tokens(tokenizer: Any, params: RunParams) -> list[int]:
    """Return the tokens of the prompt, as the tokenizer begins texts; or the first ones of the text."""
    if params.prompt is not None:
        return list(tokenizer(params.prompt)["input_ids"])
    assert params.text is not None
    (text,) = read_texts([Path(params.text)], tokenizer)
    return [int(token) for token in text[: params.n_tokens + 1]]


def _take_turns(running: Sequence[_Running], token_ids: Sequence[int], params: RunParams, listen: Listen) -> None:
    """Let each output do a step, one after the other, until all are done."""
    is_text = params.text is not None
    wanted = min(params.n_tokens, len(token_ids) - 1) if is_text else params.n_tokens
    turns: list[Iterator[Step] | None] = [
        each.generator.score(token_ids) if is_text else each.generator.generate(token_ids) for each in running
    ]
    while any(turn is not None for turn in turns):
        for place, (each, turn) in enumerate(zip(running, turns, strict=True)):
            if turn is None:
                continue
            step = next(turn, None)
            if step is None:
                turns[place] = None
                continue
            each.steps.append(step)
            piece = "" if is_text or step.token_id is None else each.stream.add(step.token_id)
            n_done = sum(done.token_id is not None for done in each.steps)
            listen(Heard(each.name, place, step, piece, n_done, wanted))


def _outcome(each: _Running) -> OutputRun:
    each.stream.end()
    return OutputRun(
        each.name, tuple(each.steps), each.stream.text, each.reader.is_direct, each.reader.dram_bytes,
        each.generator.resident_bytes,
    )  # fmt: skip


def _saturating_depth(device: DeviceProfile) -> int:
    """Return how many reads are kept in flight unless a user says it: as many as the profile's times are for."""
    full = [depth for depth, factor in zip(device.queue_depths, device.queue_factor, strict=True) if factor >= 1]
    return min(full, default=DEFAULT_DEPTH)


def _conditions(device: DeviceProfile, depth: int | None) -> ReadConditions:
    """Return under which the simulator predicts: the depth that was asked for, where the profile knows depths."""
    is_known = depth is not None and device.queue_depths and depth >= device.queue_depths[0]
    return ReadConditions(queue_depth=depth if is_known else None)


def _warnings(runs: Sequence[OutputRun], device: DeviceProfile) -> list[str]:
    """Return what may mislead."""
    warnings = [device.warning] if device.warning else []
    for each in runs:
        if not each.is_direct:
            warnings.append(
                f"{each.name}: this file system takes no direct reads; times are those of the page cache as well"
            )
    return warnings
