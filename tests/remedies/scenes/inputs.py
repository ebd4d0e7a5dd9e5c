"""Remedies for files that are no files of data, claim more than they hold, or change while they are read."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from ripple_place.flash.layout import BlockExtent, BlockLayout
from ripple_place.flash.storage.calibration_params import CalibrateParams
from ripple_place.inputfile import read_input
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.scoring.layouts import read_layout
from ripple_place.trace.files import read_trace
from tests.builders import adjust_manifest, opt_config, opt_tensors, write_checkpoint
from tests.hostile.special import make_special
from tests.remedies.cases import case, instead
from tests.trace_builders import trace_of, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts

ACTIVE = np.ones((4, 24), bool)


@case("inputfile.py:_irregular", "save what comes out")
def read_a_pipe(folder: Path) -> Attempts:
    """A trace out of a pipe: saved as a file."""
    path = make_special(folder / "pipe", "pipe")
    yield lambda: read_trace(path)
    write_stock_trace(folder / "file", {"layers.0": ACTIVE})
    yield lambda: read_trace(folder / "file")


@case("inputfile.py:_irregular", "name a regular file")
def read_a_device(folder: Path) -> Attempts:
    """A trace out of a device that never ends: a file."""
    (folder / "zeros").symlink_to("/dev/zero")
    yield lambda: read_trace(folder / "zeros")
    write_stock_trace(folder / "file", {"layers.0": ACTIVE})
    yield lambda: read_trace(folder / "file")


@case("inputfile.py:read_input")
def read_what_is_no_config(folder: Path) -> Attempts:
    """Weights in place of a config: the config."""
    (folder / "weights").touch()
    os.truncate(folder / "weights", 1 << 30)
    (folder / "config.json").write_text("{}")
    yield lambda: read_input(folder / "weights")
    yield lambda: read_input(folder / "config.json")


@case("storedarray.py:StoredArray.__array__")
def read_what_is_cut_short(folder: Path) -> Attempts:
    """A trace that is written while it is read: read once it is whole."""
    path = write_stock_trace(folder / "trace", {"layers.0": ACTIVE})
    active = read_trace(path).blocks["layers.0"].active
    data = path.read_bytes()
    os.truncate(path, len(data) - 1)
    yield lambda: np.asarray(active)
    path.write_bytes(data)
    yield lambda: np.asarray(read_trace(path).blocks["layers.0"].active)


@case("trace/files.py:_count_tokens")
def claim_many_tokens(folder: Path) -> Attempts:
    """Two rows of two billion tokens: of as many as there are; or with the ids of a text of millions."""
    index = {"layers.0.experts.0.token_index": np.array([0, 5], np.int32)}
    rows = {"layers.0.experts.0": ACTIVE[:2]}

    def claim(n_tokens: int, n_ids: int | None = None) -> None:
        ids = {} if n_ids is None else {"tokens": np.zeros(n_ids, np.int32)}
        read_trace(write_stock_trace(folder / "trace", rows, tensors=index | ids, n_tokens=str(n_tokens)))

    yield lambda: claim(2**31)
    yield lambda: claim(6)
    yield lambda: claim(2**21, 2**21)


instead(
    "flash/layout.py:BlockLayout.__post_init__", "", "neurons of a gibibyte: of 4 KiB",
    lambda: BlockLayout(NeuronPlacement.original(100), BlockExtent.packed(2**30)),
    lambda: BlockLayout(NeuronPlacement.original(100), BlockExtent.packed(4096)),
)  # fmt: skip
instead(
    "flash/storage/calibration_params.py:CalibrateParams.__post_init__", "repeats", "a million repeats: five",
    lambda: CalibrateParams(n_repeats=10**6), lambda: CalibrateParams(n_repeats=5),
)  # fmt: skip
instead(
    "flash/storage/calibration_params.py:CalibrateParams.__post_init__", "a queue of", "a queue of thousands: of 128",
    lambda: CalibrateParams(max_depth=4096), lambda: CalibrateParams(max_depth=128),
)  # fmt: skip
instead(
    "flash/storage/calibration_params.py:CalibrateParams.__post_init__", "--time", "years of measuring: 50 s",
    lambda: CalibrateParams(time_us=1e15), lambda: CalibrateParams(time_us=50e6),
)  # fmt: skip


@case("runtime/output_layout.py:read_output_layout")
def claim_many_neurons(folder: Path) -> Attempts:
    """An output whose manifest claims billions of neurons: written again."""
    model = describe_ffn(Checkpoint.open(write_checkpoint(folder / "m", opt_tensors(), opt_config())))
    plan = plan_rewrite(model, ModelPlacement({}), folder / "out")
    execute(plan)
    trace = trace_of(ACTIVE)
    blocks = json.loads((folder / "out/ripple_place/manifest.json").read_text())["blocks"]
    blocks["layers.1"]["n_neurons"] = 2**30
    adjust_manifest(folder / "out", blocks=blocks)
    yield lambda: read_layout(str(folder / "out"), trace)
    execute(plan_rewrite(model, ModelPlacement({}), folder / "again"))
    yield lambda: read_layout(str(folder / "again"), trace)
