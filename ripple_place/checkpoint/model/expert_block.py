"""The experts of a layer as a block: which bytes of which files belong to each expert, whatever they mean.

Bytes are opaque: nothing here depends on dtype or quantisation, so that experts can be packed whose neurons could not
be moved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ripple_place.checkpoint.fileio import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ripple_place.checkpoint.model.shards import Checkpoint

PART_ALIGNMENT_BYTES = 64
"""Parts of an expert start on a multiple of it: a cache line, and what vector loads ask for. GGUF aligns to 32."""


class Runs(NamedTuple):
    """Equally long stretches of a file: all that one expert has of one tensor.

    Attributes
    ----------
    file : Path
    offset_bytes : int
        Of the first.
    run_bytes, n_runs : int
        One run where the expert axis comes first.
    step_bytes : int
        From one run to the next.
    """

    file: Path
    offset_bytes: int
    run_bytes: int
    n_runs: int = 1
    step_bytes: int = 0

    @property
    def length_bytes(self) -> int:
        """Bytes of all runs together."""
        return self.run_bytes * self.n_runs


@dataclass(frozen=True)
class ExpertPart:
    """What every expert of a layer has of one tensor, or of one tensor of its own.

    Attributes
    ----------
    role : str
        ``gate``, ``up``, ``down`` or ``gate_up``; behind a dot what belongs to it: ``gate.weight_scale``.
    tensor : str
        Its name; ``{expert}`` stands for the number where each expert has its own.
    dtype : str
        As the source names it.
    shape : tuple of int
        Of one expert's part.
    experts : tuple of Runs
        Where each expert's bytes lie, by number; all of one length.
    """

    role: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    experts: tuple[Runs, ...]

    @property
    def length_bytes(self) -> int:
        """Bytes of one expert's part."""
        return self.experts[0].length_bytes

    @property
    def is_gathered(self) -> bool:
        """Whether an expert's bytes lie apart in the source."""
        return self.experts[0].n_runs > 1


@dataclass(frozen=True)
class ExpertBlock:
    """The experts of one layer.

    Attributes
    ----------
    name : str
        ``layers.3``.
    n_neurons : int
        Units of the block: experts.
    parts : tuple of ExpertPart
        In the order in which they lie in an expert.
    """

    name: str
    n_neurons: int
    parts: tuple[ExpertPart, ...]

    @property
    def part_offsets(self) -> tuple[int, ...]:
        """Where each part begins in an expert, in bytes: on multiples of `PART_ALIGNMENT_BYTES`."""
        offsets, position = [], 0
        for part in self.parts:
            position += -position % PART_ALIGNMENT_BYTES
            offsets.append(position)
            position += part.length_bytes
        return tuple(offsets)

    @property
    def bundle_bytes(self) -> int:
        """Bytes of an expert, up to the end of its last part."""
        return self.part_offsets[-1] + self.parts[-1].length_bytes

    @property
    def stride_bytes(self) -> int:
        """Bytes from one expert to the next in a pack: whole pages."""
        return -(-self.bundle_bytes // PAGE_BYTES) * PAGE_BYTES

    @property
    def dtype(self) -> str | None:
        """The parts' dtype, None where they differ."""
        dtypes = {part.dtype for part in self.parts}
        return dtypes.pop() if len(dtypes) == 1 else None


class Resident(NamedTuple):
    """A tensor that belongs to no expert."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    place: Runs


@dataclass(frozen=True)
class Routers:
    """What a layer has that counts its experts and belongs to none of them.

    Attributes
    ----------
    parts : tuple of ExpertPart
        A slice for each expert: the router's weight first.
    unknown : tuple of str
        Tensors that may count experts, and that the family does not name.
    """

    parts: tuple[ExpertPart, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExpertModel:
    """A mixture of experts on storage: a checkpoint directory, or a GGUF file and the other files of its split.

    Attributes
    ----------
    path : Path
        As it was given.
    root : Path
        The directory that its files lie in.
    family, model_type : str
    blocks : mapping of str to ExpertBlock
        In model order.
    weight_files : mapping of str to int
        Size in bytes of each, by name below `root`.
    tensors : tuple of str
        Names of all tensors, in file order.
    residents : tuple of Resident
        What a pack has beside the experts: nothing of a GGUF file, which stays where it is.
    checkpoint : Checkpoint or None
        None for GGUF.
    notes : tuple of str
        What the user should know of how the model was read.
    routers : mapping of str to Routers
        What counts the experts of each layer beside their own tensors, as far as the family says.
    """

    path: Path
    root: Path
    family: str
    model_type: str
    blocks: Mapping[str, ExpertBlock]
    weight_files: Mapping[str, int]
    tensors: tuple[str, ...]
    residents: tuple[Resident, ...] = ()
    checkpoint: Checkpoint | None = None
    notes: tuple[str, ...] = field(default=())
    routers: Mapping[str, Routers] = field(default_factory=dict)
