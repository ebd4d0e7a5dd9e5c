"""How to write a reordered checkpoint: the parameters, and what they make impossible."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.checkpoint.output.bundle_layout import GATES, INSIDE
from ripple_place.checkpoint.output.gguf_export import check_exportable
from ripple_place.checkpoint.output.plan import FORMATS, plan_rewrite
from ripple_place.errors import UsageError
from ripple_place.outputs import check_output_file

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.output.plan import RewritePlan
    from ripple_place.placement import ModelPlacement

STRIDES = ("auto", "packed", "page")


@dataclass(frozen=True)
class WritingParams:
    """How to write.

    Parameters
    ----------
    formats : sequence of str
        Of `ripple_place.checkpoint.output.plan.FORMATS`.
    stride : str
        One of `STRIDES`: distance of bundles in the bundled file. ``auto`` takes the one that the simulator finds
        cheaper on the profile's trace, with the DRAM that it is placed for.
    gates : str
        One of `ripple_place.checkpoint.output.bundle_layout.GATES`: whether the bundled file has the gates of a block
        in a region of their own.
    adapter : path, optional
        Directory of a LoRA adapter that is permuted along.
    carriers : sequence of paths
        Importance matrices, predictors and counts that are permuted along.
    gguf : path, optional
        Where the FFNs also go as GGUF.
    family : path, optional
        Family file that describes the checkpoint, or the name of a family that ships (`read_family`); by default, the
        family that ships for its model type.
    dry_run, force, resume : bool
        Stop before writing; replace an earlier output; continue a run that was killed.

    Raises
    ------
    UsageError
        If a format, a stride or a place of gates is unknown.
    """

    formats: Sequence[str] = FORMATS
    stride: str = "auto"
    adapter: str | os.PathLike[str] | None = None
    carriers: Sequence[str | os.PathLike[str]] = ()
    gguf: str | os.PathLike[str] | None = None
    family: str | os.PathLike[str] | None = None
    dry_run: bool = False
    force: bool = False
    resume: bool = False
    gates: str = INSIDE

    def __post_init__(self) -> None:
        for what, values, known in (
            ("format", self.formats, FORMATS), ("stride", (self.stride,), STRIDES), ("gates", (self.gates,), GATES),
        ):  # fmt: skip
            for value in values:
                if value not in known:
                    raise UsageError(
                        what, found=repr(value), expected=f"one of {', '.join(known)}", remedy="name one of them"
                    )

    @property
    def gguf_path(self) -> Path | None:
        """Where the FFNs also go as GGUF."""
        return None if self.gguf is None else Path(self.gguf)

    def plan(self, model: FfnModel, placement: ModelPlacement, out: Path, stride: str | None = None) -> RewritePlan:
        """Return the plan of writing a model in some order; nothing is written yet.

        Raises
        ------
        UsageError, CheckpointError, UnsupportedError, PlacementError
            As `ripple_place.checkpoint.output.plan.plan_rewrite`.
        """
        self.check_gguf(model, out)
        stride = stride or ("packed" if self.stride == "auto" else self.stride)
        return plan_rewrite(
            model, placement, out, formats=tuple(self.formats), stride=stride, force=self.force, gates=self.gates,
            adapter=None if self.adapter is None else Path(self.adapter),
            carriers=tuple(Path(carrier) for carrier in self.carriers),
        )  # fmt: skip

    def check_gguf(self, model: FfnModel, out: Path) -> None:
        """Raise unless the GGUF file that was asked for, if any, can be written."""
        gguf = self.gguf_path
        if gguf is None:
            return
        check_exportable(model)
        if out.resolve() in gguf.resolve().parents:
            raise UsageError(
                gguf, found="a file inside the output", expected="one beside it: the output is verified as a whole",
                remedy="name it elsewhere",
            )  # fmt: skip
        shards = [shard.path for shard in model.checkpoint.shards.values()]
        check_output_file(gguf, force=self.force, apart_from=shards)

    def check_needs_checkpoint(self) -> None:
        """Raise if something was asked for that only a checkpoint gives."""
        if self.carriers or (self.adapter, self.gguf, self.family) != (None, None, None):
            raise UsageError(
                "--adapter, --carrier, --gguf and --family", found="no checkpoint",
                expected="the one that they belong to",
                remedy="name the checkpoint as well",
            )  # fmt: skip
