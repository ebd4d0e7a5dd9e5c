"""What the bytes of an expert hold: which of its matrices and biases lie where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.generation.bare_model import TORCH_OF_DTYPE
from ripple_place.generation.refusal import other_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import UInt8Array

_INNER = (("gate", "up"), ("gate_up",), ("up",))
"""What stands before down: gate and up by themselves, or fused; or up alone."""


@dataclass(frozen=True)
class ExpertPart:
    """A matrix or a bias.

    Attributes
    ----------
    tensor : str
        As the checkpoint calls it; ``{expert}`` stands for the number where each expert has a tensor of its own.
    at_bytes, length_bytes : int
        Where it lies in an expert.
    dtype : str
        Of torch.
    shape : tuple of int
    """

    tensor: str
    at_bytes: int
    length_bytes: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ExpertForm:
    """What the bytes of an expert hold.

    Attributes
    ----------
    block : str
    n_experts : int
    parts : mapping of str to ExpertPart
        By role.
    inner : tuple of str
        Roles of what stands before down.
    is_single : bool
        Whether each expert has tensors of its own, ``[out, in]`` as linear layers have them. Otherwise they are cut out
        of tensors of all experts, and lie as these do.
    """

    block: str
    n_experts: int
    parts: Mapping[str, ExpertPart]
    inner: tuple[str, ...]
    is_single: bool

    def weights(self, row: UInt8Array, role: str, dtype: Any) -> Any:
        """Return a part of an expert as a tensor of a dtype; a view where that is its own.

        Parameters
        ----------
        row : ndarray of shape (bundle_bytes,), uint8
        role : str
        dtype : torch.dtype
        """
        import torch

        part = self.parts[role]
        piece = torch.from_numpy(row[part.at_bytes : part.at_bytes + part.length_bytes])
        return piece.view(getattr(torch, part.dtype)).view(part.shape).to(dtype)

    def bias(self, row: UInt8Array, role: str, dtype: Any) -> Any:
        """Return the bias of a projection, None where it has none."""
        name = f"{role}.bias"
        return self.weights(row, name, dtype) if name in self.parts else None


def form_of_experts(block: str, entry: Mapping[str, Any]) -> ExpertForm:
    """Return what the experts of a block hold.

    Parameters
    ----------
    block : str
    entry : mapping
        Of the bundled file's index (docs/formats.md).

    Raises
    ------
    UnsupportedError
        If weights are packed or quantised, or of an unknown role.
    """
    parts = {}
    for each in entry["components"]:
        role, dtype = each["role"], each["dtype"]
        if dtype not in TORCH_OF_DTYPE:
            raise other_model(block, f"experts whose {role} is in {dtype}")
        parts[role] = ExpertPart(
            each["tensor"], each["offset_bytes"], each["length_bytes"], TORCH_OF_DTYPE[dtype], tuple(each["shape"])
        )
    projections = {role.removesuffix(".bias") for role in parts}
    inner = next((roles for roles in _INNER if projections == {*roles, "down"}), None)
    if inner is None or not projections <= parts.keys():
        raise other_model(block, f"experts of {', '.join(parts)}")
    is_single = ["{expert}" in part.tensor for part in parts.values()]
    if any(is_single) != all(is_single):
        raise other_model(block, "experts of which some tensors are fused and others are not")
    return ExpertForm(block, entry["n_neurons"], parts, inner, all(is_single))
