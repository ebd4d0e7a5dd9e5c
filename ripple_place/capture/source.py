"""A model as a source of a profile: its trace is recorded in a directory beside the profile, which can be resumed.

An interruption leaves the directory; ``--append`` goes on with it, and with the thresholds of the profile it adds to.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.blocks import unit_metadata
from ripple_place.capture.extra import require_capture_extra
from ripple_place.capture.run import run_capture
from ripple_place.capture.text import read_text_file
from ripple_place.capture.writer import is_capture
from ripple_place.checkpoint.carriers.lora import adapter_files, digest_of_adapter, label_of_adapter, read_lora
from ripple_place.checkpoint.model.shards import read_config
from ripple_place.errors import CheckpointError, RipplePlaceError, TraceFormatError, UsageError
from ripple_place.hub import CONFIG_FILE, directory_error
from ripple_place.inputfile import read_input
from ripple_place.jsontext import parse_json
from ripple_place.paths import as_paths
from ripple_place.trace.activity_rules import ActivityRule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.run import Capture
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track


def capture_source(
    models: Sequence[Path], params: CaptureParams | None, out: Path, earlier: ActivationTrace | None, *, append: bool,
    force: bool, track: Track,
) -> Capture:  # fmt: skip
    """Record the trace of the one model among the sources of a profile.

    Parameters
    ----------
    models : sequence of Path
        Directories among the sources; at least one.
    params : CaptureParams or None
        None if there is no text for the model to read.
    out : Path
        The profile; rows are written in the directory ``OUT.partial``.
    earlier : ActivationTrace or None
        The profile's trace so far: its rule must be the same, and its thresholds are used again.
    append : bool
        Go on with a capture that was interrupted.
    force : bool
        Discard a capture that was interrupted.
    track : Track
        Receives progress updates.

    Returns
    -------
    Capture
        Its files are the caller's to remove.

    Raises
    ------
    UsageError
        If there is no config, no text or more than one model; if an interrupted capture, or something that is not ours,
        is in the way; or if `earlier` has another unit, rule or adapter.
    UnsupportedError, TraceFormatError, CheckpointError, OSError
        As for `ripple_place.capture.run.run_capture` and `fitted_thresholds`.
    """
    model, params = _model_and_params(models, params)
    if earlier is not None and earlier.unit != params.unit:
        raise UsageError(
            f"{out} --append", found=f"a profile of {earlier.unit}s", expected=f"one of {params.unit}s",
            remedy=f"add --unit {earlier.unit}, or choose another --out",
        )  # fmt: skip
    if earlier is not None and earlier.metadata.get("activity") != str(params.named_rule):
        raise UsageError(
            f"{out} --append", found=f"a profile by the rule {earlier.metadata.get('activity')!r}",
            expected="a rule of --active" if params.named_rule is None else f"{params.named_rule}",
            remedy="give the same --active, or another --out",
        )  # fmt: skip
    _check_adapter(out, earlier, params)
    directory = capture_directory(out)
    if (directory.exists() or directory.is_symlink()) and not is_capture(directory):
        raise UsageError(
            directory, found="something that is no interrupted capture of ours", expected="nothing there",
            remedy="remove or rename it, or choose another --out",
        )  # fmt: skip
    resume = append and directory.exists()
    if directory.exists() and not append and not force:
        raise UsageError(
            directory, found="an interrupted capture", expected="none",
            remedy="go on with it by --append, or begin anew by --force",
        )  # fmt: skip
    thresholds = None if earlier is None else fitted_thresholds(str(out), earlier)
    try:
        return run_capture(model, params, directory, resume=resume, thresholds=thresholds, track=track)
    except RipplePlaceError:
        # A capture that could not run left nothing worth going on with; one that is resumed stays as it was.
        if not resume:
            shutil.rmtree(directory, ignore_errors=True)
        raise


def _check_adapter(out: Path, earlier: ActivationTrace | None, params: CaptureParams) -> None:
    """Raise unless the adapter can be read, and is that of the profile to append to."""
    label = ""
    if params.adapter is not None:
        read_lora(params.adapter)
        label = label_of_adapter(params.adapter.resolve().name, digest_of_adapter(params.adapter))
    held = label if earlier is None else earlier.metadata.get("adapter", "")
    # A directory may have another name by now.
    if held.rpartition("@")[2] != label.rpartition("@")[2]:
        raise UsageError(
            f"{out} --append", found=f"a profile with the adapter {held}" if held else "a profile without an adapter",
            expected=f"one with {label}" if label else "one without an adapter",
            remedy="give the same --adapter, or another --out",
        )  # fmt: skip


def with_rule_of(earlier: ActivationTrace | None, params: CaptureParams | None) -> CaptureParams | None:
    """Return parameters by which a capture fits the profile that it is added to, if they name no rule themselves."""
    if earlier is None or params is None or params.rule is not None:
        return params
    try:
        return replace(params, rule=ActivityRule.parse(earlier.metadata.get("activity", "")))
    except UsageError:  # Recorded by another tool's rule.
        return params


def capture_directory(out: Path) -> Path:
    """Return the directory in which the rows for a profile are written."""
    return out.with_name(out.name + ".partial")


def capture_origin(model: Path, params: CaptureParams | None, rule: ActivityRule | None = None) -> tuple[str, ...]:
    """Return the SHA-256 of what a capture records: model, adapter, text, windows and rule.

    Parameters
    ----------
    model : Path
        Its configuration counts, and names and sizes of its weights' files.
    params : CaptureParams or None
    rule : ActivityRule, optional
        The rule that was chosen, where `params` have none.

    Returns
    -------
    tuple of str
        Empty if model, text or adapter is not there, of which `capture_source` says more.
    """
    config, texts = model / "config.json", () if params is None else as_paths(params.texts)
    adapter = None if params is None else params.adapter
    files = [config, *texts, *(() if adapter is None else adapter_files(adapter))]
    if params is None or not all(path.is_file() for path in files):
        return ()
    windows = params.windows
    content = {
        "model": hashlib.sha256(read_input(config)).hexdigest(),
        "weights": [[file.name, file.stat().st_size] for file in sorted(model.glob("*.safetensors"))],
        "texts": [hashlib.sha256(read_text_file(text)).hexdigest() for text in texts],
        "windows": [windows.max_tokens, windows.length_of_segments, windows.sequence_length],
        "rule": str(rule or params.named_rule),
        **unit_metadata(params.unit),
        **({} if adapter is None else {"adapter": digest_of_adapter(adapter)}),
    }
    return (hashlib.sha256(json.dumps(content).encode()).hexdigest(),)


def _model_and_params(models: Sequence[Path], params: CaptureParams | None) -> tuple[Path, CaptureParams]:
    """Return the one model and its parameters, or raise if the model, the extra or the text is missing."""
    if (error := directory_error(models[0])) is not None:
        raise error
    try:
        read_config(models[0])
    except CheckpointError as cause:
        if (models[0] / CONFIG_FILE).exists():
            raise
        raise UsageError(
            models[0], found=f"a directory without {CONFIG_FILE}",
            expected="a Hugging Face checkpoint, or a trace file",
            remedy=f"give trace files by their names; for a model, {cause.remedy}",
        ) from cause  # fmt: skip
    require_capture_extra(models[0])
    if len(models) > 1:
        raise UsageError(
            ", ".join(map(str, models)), found="several models", expected="one", remedy="profile each by itself"
        )
    if params is None:
        raise UsageError(
            models[0], found="a model and no text", expected="--text FILE, text for the model to read",
            remedy="give some, of the kind that the model will meet",
        )  # fmt: skip
    return models[0], params


def fitted_thresholds(where: str, trace: ActivationTrace) -> dict[str, float] | None:
    """Return the thresholds that were fitted when a trace was recorded, by block; None if there were none to fit.

    Parameters
    ----------
    where : str
        The trace's file, for messages.
    trace : ActivationTrace

    Raises
    ------
    TraceFormatError
        If its metadata have something else in their place.
    """
    try:
        thresholds = parse_json(trace.metadata.get("thresholds", "null"))
        if thresholds is None:
            return None
        if not isinstance(thresholds, dict) or not all(
            type(value) in (int, float) and math.isfinite(value) for value in thresholds.values()
        ):
            raise ValueError(repr(thresholds))
    except (ValueError, OverflowError) as cause:
        raise TraceFormatError(
            f"{where}: thresholds", found=str(cause), expected="a number for each block", remedy="record it again"
        ) from cause
    return thresholds
