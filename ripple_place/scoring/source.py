"""What is simulated: traces that were recorded, or a model that reads a text now."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ripple_place.checkpoint.names import MANIFEST_FILE
from ripple_place.errors import UsageError
from ripple_place.trace.sources import read_sources

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ripple_place.capture.rules_in_model import ModelText
    from ripple_place.scoring.params import SimulateParams
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track


@contextmanager
def open_source(
    paths: Sequence[Path], params: SimulateParams, track: Track
) -> Iterator[tuple[ActivationTrace, ModelText | None]]:
    """Give the trace of the sources, and the model if there is one among them; its trace is gone afterwards.

    Raises
    ------
    UsageError
        If a model has no text to read, a text no model, or there is more than one source with it.
    """
    models = [path for path in paths if path.is_dir()]
    if not models:
        if params.capture is not None:
            raise UsageError(
                "--text", found="traces, which were recorded before", expected="a model that reads the text",
                remedy="leave --text out, or name the model instead of traces",
            )  # fmt: skip
        yield read_sources(list(paths)), None
        return
    if len(paths) > 1 or params.capture is None:
        raise UsageError(
            models[0], found="a model and other sources" if len(paths) > 1 else "a model and no text",
            expected="one model and --text FILE", remedy="name the model alone, with --text",
        )  # fmt: skip
    if (models[0] / MANIFEST_FILE).is_file():
        raise UsageError(
            models[0], found="an output of `reorder`, whose neurons are in another order than importance and layouts "
            "name them in", expected="the checkpoint that it was made from",
            remedy="name that, and the output as --layout",
        )  # fmt: skip
    from ripple_place.capture.rules_in_model import ModelText

    model = ModelText.load(models[0], params.capture)
    with model.recorded(params.capture, models[0].resolve().name, track) as trace:
        yield trace, model
