"""What a row of a block holds: which weights lie where in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.errors import UnsupportedError
from ripple_place.generation.refusal import other_model
from ripple_place.kernels.sparse_ffn import BF16, F16, F32

if TYPE_CHECKING:
    from collections.abc import Mapping

FORM_OF_DTYPE = {"F32": F32, "F16": F16, "BF16": BF16}
GATE, UP, DOWN = ROLES = ("gate", "up", "down")


@dataclass(frozen=True)
class Component:
    """Weights of a unit that lie side by side.

    Attributes
    ----------
    role : str
        One of `ROLES`.
    tensor : str
        The tensor of the checkpoint that they are of.
    at_bytes, length_bytes : int
        Where they lie in a row.
    form : int
        One of `ripple_place.kernels.sparse_ffn.FORMS`.
    """

    role: str
    tensor: str
    at_bytes: int
    length_bytes: int
    form: int


@dataclass(frozen=True)
class RowForm:
    """What the rows of a block hold.

    Attributes
    ----------
    block : str
    n_units, hidden : int
    components : mapping of str to Component
        By role, in the order in which they lie.
    row_bytes : int
    """

    block: str
    n_units: int
    hidden: int
    components: Mapping[str, Component]
    row_bytes: int

    @property
    def is_gated(self) -> bool:
        """Whether units have gates, in the row or apart from it."""
        return GATE in self.components

    def without_gate(self) -> RowForm:
        """Return the form of rows in which the gate, which comes first, is left out."""
        skipped = self.components[GATE].length_bytes
        rest = {
            role: Component(role, part.tensor, part.at_bytes - skipped, part.length_bytes, part.form)
            for role, part in self.components.items()
            if role != GATE
        }
        return RowForm(self.block, self.n_units, self.hidden, rest, self.row_bytes - skipped)


def regions_of(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return where the index says that a block's rows lie, in the order of their parts: gates first, if apart."""
    return [entry["gates"], entry] if "gates" in entry else [entry]


def form_of_block(block: str, entry: Mapping[str, Any]) -> RowForm:
    """Return the form of whole rows, gates first.

    Parameters
    ----------
    block : str
    entry : mapping
        Of the bundled file's index (docs/formats.md).

    Raises
    ------
    UnsupportedError
        If units are not neurons, or their weights are of another kind.
    """
    if entry.get("unit", "neuron") != "neuron":
        raise UnsupportedError(
            block, found=f"units that are {entry['unit']}s", expected="neurons",
            remedy="reorder the checkpoint with --unit neuron",
        )  # fmt: skip
    components: dict[str, Component] = {}
    at_bytes = 0
    for region in regions_of(entry):
        for part in region["components"]:
            role, dtype, n_bytes = part["role"], part["dtype"], part["length_bytes"]
            if role not in ROLES or role in components or dtype not in FORM_OF_DTYPE:
                raise other_model(block, f"{role} in {dtype}")
            components[role] = Component(role, part["tensor"], at_bytes, n_bytes, FORM_OF_DTYPE[dtype])
            at_bytes += n_bytes
    if not {UP, DOWN} <= components.keys():
        raise other_model(block, " and ".join(components) or "nothing")
    up = components[UP]
    return RowForm(block, entry["n_neurons"], up.length_bytes // (4 if up.form == F32 else 2), components, at_bytes)
