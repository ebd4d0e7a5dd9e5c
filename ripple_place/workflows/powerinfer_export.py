"""Whether a profile will have predictors that can be written in PowerInfer's layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.capture.powerinfer_files import check_powerinfer_directory
from ripple_place.errors import UsageError
from ripple_place.predict.powerinfer import powerinfer_layers
from ripple_place.workflows.profile_sources import last_predictor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.workflows.profile_params import ProfileParams


def check_export(params: ProfileParams, sources: Sequence[Path], out: Path, *, force: bool) -> None:
    """Refuse an export that cannot be written, or of predictors that there will not be, before the work starts.

    Parameters
    ----------
    params : ProfileParams
        With `powerinfer`.
    sources : sequence of Path
    out : Path
        The profile; if it is appended to, its predictors are exported where no source has others.
    force : bool
        Whether files of an earlier export may be replaced.

    Raises
    ------
    UsageError
        If nothing has predictors and none are fitted, or as `check_powerinfer_directory`.
    UnsupportedError
        As `powerinfer_layers` and `check_powerinfer_directory`.
    TraceFormatError, OSError
        If a source is malformed, or cannot be read.
    """
    assert params.powerinfer is not None
    others = [Path(path) for path in (params.graphml, params.html) if path is not None]
    check_powerinfer_directory(Path(params.powerinfer), force=force, apart_from=[*sources, out, *others])
    if params.capture is not None and params.capture.predictor is not None:
        return
    predictor = last_predictor([out, *sources] if params.append else sources)
    if predictor is None:
        raise UsageError(
            "--powerinfer", found="no predictors", expected="those of a profile, or of a model and --predictor",
            remedy="profile a model with --predictor RANK, or name a profile that was made so",
        )  # fmt: skip
    powerinfer_layers(predictor)
