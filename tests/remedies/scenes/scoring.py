"""Simulations: what they score, and under which DRAM."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ripple_place.capture.params import CaptureParams
from ripple_place.scoring.batch import parse_batch
from ripple_place.scoring.collapse import parse_collapse
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import score
from ripple_place.scoring.sweep import Sweep
from tests.remedies.bench import clusters, placement_at, profile_at, trace_at
from tests.remedies.cases import case, instead, run
from tests.trace_builders import write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts

instead(
    "scoring/collapse.py:parse_collapse", "", "a collapse that is not known: one that is",
    lambda: parse_collapse("some"), lambda: parse_collapse("auto"),
)  # fmt: skip
instead(
    "scoring/sweep.py:Sweep.parse", "", "a sweep of what cannot be swept: of the DRAM budget",
    lambda: Sweep.parse("seed=1,2"), lambda: Sweep.parse("dram-budget=0%,5%,10%"),
)  # fmt: skip
instead(
    "scoring/dram.py:check_dram", "write 10% or 512MiB", "a budget that is none: a share",
    lambda: SimulateParams(dram_budget="much"), lambda: SimulateParams(dram_budget=0.1),
)  # fmt: skip


def simulated_otherwise(where: str, words: str, story: str, bad: str, *good: str) -> None:
    """List a case of options of simulate that are refused, and of those to give instead.

    ``P`` is a placement without a bundle size, ``R10``, ``R20`` and ``L10`` placements made for DRAM under two
    policies, and ``O`` a placement of another model, ``C`` one of columns. With ``--batch``, of two texts.
    """

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        trace = trace_at(folder / "trace")
        names = set(" ".join((bad, *good)).split())
        if "P" in names:
            placement_at(folder / "P")
        if "O" in names:
            placement_at(folder / "O", names=("layers.7",))
        if "C" in names:
            placement_at(folder / "C", unit="column")
        if "W" in names:
            placement_at(folder / "W", n_neurons=23)
        learned = profile_at(folder / "profile")
        for name in names & {"R10", "R20", "L10"}:
            cache = "lru" if name == "L10" else "s3fifo"
            options = ("--dram-budget", f"{name[1:]}%", "--cache", cache, "--break-even-gap", 5, "--effort", 0)
            run("reorder", "--profile", learned, "--out", folder / name, *options)
        texts = (trace, trace_at(folder / "other")) if "--batch" in names else (trace,)
        for options in (bad, *good):
            yield partial(run, "simulate", *texts, *options.split())


SIZE = "--bundle-bytes 4KiB"
_CHECK = "scoring/dram.py:check_dram"
_PARAMS, _DRAM, _LAYOUTS = (
    "scoring/params.py:SimulateParams.__post_init__", "scoring/dram.py:_dram_of_placements", "scoring/layouts.py"
)  # fmt: skip
simulated_otherwise(
    "scoring/extras.py:SimulateExtras.check", "leave out --select, or", "a rule's reads for fio: one without the other",
    f"--layout original {SIZE} --select exact --emit-fio a.iolog",
    f"--layout original {SIZE} --emit-fio a.iolog", f"--layout original {SIZE} --select exact",
)  # fmt: skip
simulated_otherwise(
    "scoring/extras.py:SimulateExtras.check", "add --overlap pipeline", "a timeline without a pipeline: with one",
    f"--layout original {SIZE} --timeline a.svg", f"--layout original {SIZE} --timeline a.svg --overlap pipeline",
)  # fmt: skip
simulated_otherwise(
    _CHECK, "no DRAM cache; one. add --dram-budget", "a bound on no cache: on one",
    f"--layout original {SIZE} --bound",
    f"--layout original {SIZE} --bound --dram-budget 10%",
)  # fmt: skip
simulated_otherwise(
    _CHECK, "name another --cache", "a bound on --cache none: on a cache",
    f"--layout original {SIZE} --bound --cache none", f"--layout original {SIZE} --bound --cache lru --dram-budget 10%",
)  # fmt: skip
simulated_otherwise(
    "select/simulate.py:refuse_pool", "", "a rule with one pool of all blocks: one without the other",
    f"--layout original {SIZE} --select threshold=1 --dram-budget 50% --dram-pool",
    f"--layout original {SIZE} --select exact --dram-budget 50%", f"--layout original {SIZE} --dram-budget 50% "
    "--dram-pool",
)  # fmt: skip
simulated_otherwise(
    "scoring/params.py:SimulateParams._check_rules", "leave --batch or --select out",
    "a rule with several sequences: one without the other",
    f"--layout original {SIZE} --select exact --batch 2", f"--layout original {SIZE} --select exact",
    f"--layout original {SIZE} --batch 2",
)  # fmt: skip
simulated_otherwise(
    "scoring/extras.py:SimulateExtras.check", "leave out --batch, or", "several sequences for fio: one without the "
    "other",
    f"--layout original {SIZE} --batch 2 --emit-fio a.iolog",
    f"--layout original {SIZE} --emit-fio a.iolog", f"--layout original {SIZE} --batch 2",
)  # fmt: skip
instead(
    "scoring/params.py:SimulateParams._check_rules", "leave --batch out, or record", "a model for a batch: one "
    "sequence, or a trace",
    lambda: SimulateParams(batch=(2,), capture=CaptureParams("text.txt")),
    lambda: SimulateParams(capture=CaptureParams("text.txt")), lambda: SimulateParams(batch=(2,)),
)  # fmt: skip
instead(
    "scoring/batch.py:check_batch", "", "batch sizes that are no numbers: numbers",
    lambda: parse_batch("4,two"), lambda: parse_batch("4"), lambda: parse_batch("4,2,1"),
)  # fmt: skip
simulated_otherwise(
    _CHECK, "leave --cache out", "a cache of no size: with a budget, or none",
    f"--layout original {SIZE} --cache lru", f"--layout original {SIZE} --cache lru --dram-budget 10%",
    f"--layout original {SIZE}",
)  # fmt: skip
simulated_otherwise(
    _PARAMS, "leave --collapse out", "access collapse of page faults: none",
    f"--layout original {SIZE} --access mmap --collapse 4", f"--layout original {SIZE} --access mmap",
)  # fmt: skip
simulated_otherwise(
    _DRAM, "give a share or a size, or reorder", "the placements' budget, of which none has one: a share, or one made "
    "for a budget",
    f"--layout original {SIZE} --dram-budget placement", f"--layout original {SIZE} --dram-budget 10%",
    f"--layout R10 {SIZE} --dram-budget placement",
)  # fmt: skip
simulated_otherwise(
    _DRAM, "give it as a share", "the placements' budget, of which they have two: a share",
    f"--layout R10 --layout R20 {SIZE} --dram-budget placement", f"--layout R10 --layout R20 {SIZE} --dram-budget 10%",
)  # fmt: skip
simulated_otherwise(
    _DRAM, "name one, such as", "the placements' policy, of which they have two: one is named",
    f"--layout R10 --layout L10 {SIZE} --dram-budget placement",
    f"--layout R10 --layout L10 {SIZE} --dram-budget placement --cache s3fifo",
)  # fmt: skip
simulated_otherwise(
    f"{_LAYOUTS}:read_layouts", "", "a layout twice: once", f"--layout P --layout P {SIZE}", f"--layout P {SIZE}"
)
simulated_otherwise(
    f"{_LAYOUTS}:read_layout", "", "a layout of other widths: of this model", f"--layout W {SIZE}", f"--layout P {SIZE}"
)
simulated_otherwise(
    f"{_LAYOUTS}:_find", "correct the path", "a layout that is not there: one that is", f"--layout Q {SIZE}",
    f"--layout P {SIZE}",
)  # fmt: skip
simulated_otherwise(
    f"{_LAYOUTS}:_find", "none of the trace's blocks", "a layout of other layers: of this model", f"--layout O {SIZE}",
    f"--layout P {SIZE}",
)  # fmt: skip
simulated_otherwise(
    f"{_LAYOUTS}:_check_unit", "", "a layout of columns, and a trace of neurons: a layout of neurons",
    f"--layout C {SIZE}", f"--layout P {SIZE}",
)  # fmt: skip
simulated_otherwise(
    f"{_LAYOUTS}:existing_profile", "", "a profile that is not there: without", f"--layout P {SIZE} --profile profil",
    f"--layout P {SIZE}",
)  # fmt: skip
simulated_otherwise(
    f"{_LAYOUTS}:_complete", "", "neurons of unknown size: with their size", "--layout P", f"--layout P {SIZE}"
)
simulated_otherwise(
    "scoring/score.py:_place_of_baseline", "", "a baseline that is not scored: one that is",
    f"--layout original {SIZE} --baseline P", f"--layout original --layout P {SIZE} --baseline P",
)  # fmt: skip


@case("scoring/sweep.py:Sweep.check_unit")
def sizes_of_columns_are_swept(folder: Path) -> Attempts:
    """One size for columns: a run with two."""
    trace = write_stock_trace(folder / "trace", clusters(names=("layers.0.input", "layers.0")), unit="column")
    command = ("simulate", trace, "--layout", "original", "--bundle-bytes", "8KiB,4KiB")
    yield partial(run, *command, "--sweep", "bundle-bytes=4KiB,8KiB")
    yield partial(run, *command)


@case("scoring/score.py:score")
def nothing_to_score(folder: Path) -> Attempts:
    """No layout: one."""
    trace = trace_at(folder / "trace")
    yield lambda: score([trace], [], SimulateParams(bundle_bytes=4096))
    yield lambda: score([trace], ["original"], SimulateParams(bundle_bytes=4096))


@case("scoring/measure.py:MeasureParams.check")
def measured_file_is_missing(folder: Path) -> Attempts:
    """A file to measure that is not there: a large one that is."""
    trace, large = trace_at(folder / "trace"), folder / "large"
    large.write_bytes(bytes(1 << 20))
    options = ("--layout", "original", "--bundle-bytes", "4KiB", "--measure-tokens", 1, "--measure")
    yield lambda: run("simulate", trace, *options, folder / "absent")
    yield lambda: run("simulate", trace, *options, large)
