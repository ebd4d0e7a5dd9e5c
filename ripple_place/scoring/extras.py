"""What `simulate` does beside scoring: further simulations, real reads, and files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.outputs import check_output_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.scoring.measure import MeasureParams
    from ripple_place.scoring.params import SimulateParams
    from ripple_place.scoring.sweep import Sweep


@dataclass(frozen=True)
class SimulateExtras:
    """What to do beside scoring; by default nothing.

    Parameters
    ----------
    html : Path or str, optional
        Page with scores and pictures to write.
    svg : Path or str, optional
        The page's first picture alone, to write.
    command : str
        What the page shows as having made it.
    sweep : Sweep, optional
        Simulate at each of these values, too.
    transfer : bool
        Score every layout on every trace by itself, too.
    measure : MeasureParams, optional
        Replay the reads on real storage, or write them for fio.
    force : bool
        Replace files that exist.
    timeline : Path or str, optional
        Picture of what each thread does in one layer of one token, to write; for the pipeline.
    """

    html: Path | str | None = None
    svg: Path | str | None = None
    command: str = "ripple_place.workflows.simulate"
    sweep: Sweep | None = None
    transfer: bool = False
    measure: MeasureParams | None = None
    force: bool = False
    timeline: Path | str | None = None

    def check(self, traces: Sequence[Path | str], layouts: Sequence[str | Path], params: SimulateParams) -> None:
        """Check files and values before the work starts.

        Raises
        ------
        UsageError
            If a file to write exists, is an input, or has no directory to lie in; if the file to measure is not
            there; if a value of the sweep does not parse; if reads that a rule chose, or those of several sequences
            at once, are to be replayed; or if there is a timeline without a pipeline.
        """
        if self.timeline is not None and (params.compute is None or not params.compute.is_pipeline):
            raise UsageError(
                f"--timeline {self.timeline}", found="no pipeline, whose threads it shows", expected="one",
                remedy="add --overlap pipeline",
            )  # fmt: skip
        inputs = [Path(path) for path in (*traces, *layouts, *([params.profile] if params.profile else []))]
        written: list[Path] = []
        for path in (self.html, self.svg, self.timeline):
            if path is not None:
                check_output_file(Path(path), force=self.force, apart_from=[*inputs, *written])
                written.append(Path(path))
        if self.measure is not None:
            option = "--measure" if self.measure.file is not None else "--emit-fio"
            if params.is_batched:
                raise UsageError(
                    f"--batch {','.join(map(str, params.batch))}", found=option,
                    expected="one sequence there: times are compared by its tokens",
                    remedy=f"leave out --batch, or {option}",
                )  # fmt: skip
            if params.select:
                raise UsageError(
                    f"--select {params.select[0]}", found=option,
                    expected="no rule there: the reads that are replayed are those of all that fires",
                    remedy=f"leave out --select, or {option}",
                )  # fmt: skip
            if params.gate_first is not None or params.bundle_form is not None:
                option = "--measure" if self.measure.file is not None else "--emit-fio"
                raise UsageError(
                    option, found="--gate-first or --bundle-form", expected="bundles that are read whole, as they lie",
                    remedy=f"leave {option} out, or both others",
                )  # fmt: skip
            self.measure.check(len(layouts), inputs, force=self.force)
        if self.sweep is not None:
            self.sweep.settings(params)
