"""Lay out a language model's FFN neurons for flash, prove the checkpoint unchanged, and simulate the gain.

The functions `profile`, `reorder`, `simulate`, `run`, `verify` and `calibrate` do what the commands of the same names
do, with the same defaults (docs/python.md). Each name is imported when it is first used, so that `ripple-place --help`
starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ripple_place.version import __version__

if TYPE_CHECKING:
    from ripple_place.capture.params import CaptureParams
    from ripple_place.checkpoint.writing import WritingParams
    from ripple_place.errors import RipplePlaceError
    from ripple_place.flash.device.conditions import ReadConditions
    from ripple_place.flash.device.files import list_devices, load_device
    from ripple_place.flash.pipeline.params import PipelineParams
    from ripple_place.flash.storage.calibration_params import CalibrateParams
    from ripple_place.flash.token_time import ComputeParams
    from ripple_place.graph.profile import read_profile
    from ripple_place.placement import read_placement, write_placement
    from ripple_place.placing.params import PlacingParams
    from ripple_place.predict.params import PredictorParams
    from ripple_place.scoring.extras import SimulateExtras
    from ripple_place.scoring.params import SimulateParams
    from ripple_place.scoring.system_params import SystemParams
    from ripple_place.systems.plan_params import PlanParams
    from ripple_place.trace.files import read_trace
    from ripple_place.verdict.judge import VerdictParams
    from ripple_place.workflows.calibrate import calibrate
    from ripple_place.workflows.pack import PackParams, pack_experts
    from ripple_place.workflows.profile import profile
    from ripple_place.workflows.profile_params import ProfileParams
    from ripple_place.workflows.reorder import apply_placement, reorder
    from ripple_place.workflows.run import run
    from ripple_place.workflows.run_params import RunParams
    from ripple_place.workflows.simulate import simulate
    from ripple_place.workflows.simulate_systems import simulate_systems
    from ripple_place.workflows.verify import verify

__all__ = [
    "CalibrateParams", "CaptureParams", "ComputeParams", "PackParams", "PipelineParams", "PlacingParams", "PlanParams",
    "PredictorParams", "ProfileParams", "ReadConditions", "RipplePlaceError", "RunParams", "SimulateExtras",
    "SimulateParams", "SystemParams", "VerdictParams", "WritingParams", "__version__", "apply_placement", "calibrate",
    "list_devices", "load_device", "pack_experts", "profile", "read_placement", "read_profile", "read_trace", "reorder",
    "run", "simulate", "simulate_systems", "verify", "write_placement",
]  # fmt: skip

_MODULE_OF = {
    "CalibrateParams": "flash.storage.calibration_params",
    "CaptureParams": "capture.params",
    "ComputeParams": "flash.token_time",
    "PackParams": "workflows.pack",
    "PipelineParams": "flash.pipeline.params",
    "PlacingParams": "placing.params",
    "PlanParams": "systems.plan_params",
    "PredictorParams": "predict.params",
    "ProfileParams": "workflows.profile_params",
    "ReadConditions": "flash.device.conditions",
    "RipplePlaceError": "errors",
    "RunParams": "workflows.run_params",
    "SimulateExtras": "scoring.extras",
    "SimulateParams": "scoring.params",
    "SystemParams": "scoring.system_params",
    "VerdictParams": "verdict.judge",
    "WritingParams": "checkpoint.writing",
    "apply_placement": "workflows.reorder",
    "calibrate": "workflows.calibrate",
    "list_devices": "flash.device.files",
    "load_device": "flash.device.files",
    "pack_experts": "workflows.pack",
    "profile": "workflows.profile",
    "read_placement": "placement",
    "read_profile": "graph.profile",
    "read_trace": "trace.files",
    "reorder": "workflows.reorder",
    "run": "workflows.run",
    "simulate": "workflows.simulate",
    "simulate_systems": "workflows.simulate_systems",
    "verify": "workflows.verify",
    "write_placement": "placement",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
