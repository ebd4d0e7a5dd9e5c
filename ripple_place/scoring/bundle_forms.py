"""The forms of bundles in a simulation: as an output has them, or as --bundle-form supposes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import UsageError
from ripple_place.flash.bundle_form import (
    FORMS,
    GATE_FIRST,
    GATED_PARTS,
    GATES_APART,
    INT4,
    REGION_BYTES,
    BundleForm,
    int4_matrix_bytes,
    int4_weights,
)
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.scoring.parts import parts_of_layouts
from ripple_place.units import parse_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MAX_WEIGHTS = 2**24


@dataclass(frozen=True)
class FormChoice:
    """A form that layouts are supposed to have.

    Parameters
    ----------
    name : str
        One of `ripple_place.flash.bundle_form.FORMS`.
    n_weights : int, optional
        Of ``int4``: weights of a row; None: a third of the bundle, at 16 bits a weight.
    """

    name: str
    n_weights: int | None = None

    @classmethod
    def parse(cls, text: str) -> FormChoice:
        """Parse a form, ``int4`` perhaps with the weights of a row.

        >>> FormChoice.parse("int4:4096")
        FormChoice(name='int4', n_weights=4096)

        Raises
        ------
        UsageError
            If it is none.
        """
        name, has_number, number = text.partition(":")
        n_weights = parse_count(number) if has_number else None
        is_number = n_weights is not None and 1 <= n_weights <= _MAX_WEIGHTS
        if name not in FORMS or (has_number and not (name == INT4 and is_number)):
            raise UsageError(
                f"--bundle-form {text}", found="no form by that name",
                expected=f"one of {', '.join(FORMS)}, or int4:4096", remedy="name one of them",
            )  # fmt: skip
        return cls(name, n_weights)

    @property
    def bundle_bytes(self) -> int | None:
        """Bytes of a bundle with a gate, where the choice says them."""
        return None if self.n_weights is None else GATED_PARTS * int4_matrix_bytes(self.n_weights)


def with_forms(
    layouts: Sequence[Layout], choice: FormChoice | None, n_parts: Mapping[str, int] | None, page_bytes: int
) -> tuple[Layout, ...]:
    """Return layouts whose blocks say where gates and the rest lie, but for those whose neurons have no gate.

    Parameters
    ----------
    layouts : sequence of Layout
    choice : FormChoice or None
        None: the form that an output has, else ``gate-first``, which needs no other file.
    n_parts : mapping of str to int or None
        By block, 3 where a neuron has a gate; None: what the first output among the layouts says. Where nothing says
        it, a bundle has three equal parts.
    page_bytes : int
        Of the device.

    Raises
    ------
    UsageError
        If no block has a gate, or bundles are not of three equal parts.
    """
    parts = parts_of_layouts(layouts) if n_parts is None else n_parts
    gates = _recorded_gates(layouts)
    formed = tuple(
        Layout(layout.name, {
            name: _with_form(name, block, choice, parts.get(name, GATED_PARTS), gates.get(name), page_bytes)
            for name, block in layout.blocks.items()
        })
        for layout in layouts
    )  # fmt: skip
    if not any(parts.get(name, GATED_PARTS) == GATED_PARTS for layout in formed for name in layout.blocks):
        raise UsageError(
            "--gate-first and --bundle-form", found="FFNs without a gate", expected="gated ones, as in Llama",
            remedy="leave both out",
        )  # fmt: skip
    return formed


def _with_form(
    name: str, block: BlockLayout, choice: FormChoice | None, n_parts: int, recorded: tuple[int, int] | None,
    page_bytes: int,
) -> BlockLayout:  # fmt: skip
    """Return a block with its form."""
    extent, chosen = block.extent, None if choice is None else choice.name
    if chosen == INT4 and choice is not None:
        matrix_bytes = int4_matrix_bytes(choice.n_weights or int4_weights(extent.bundle_bytes * GATED_PARTS // n_parts))
        extent = BlockExtent.padded(n_parts * matrix_bytes, page_bytes)
        if n_parts != GATED_PARTS:
            return replace(block, extent=extent, form=None)
        form = BundleForm.in_bundle(INT4, matrix_bytes, extent.bundle_bytes, extent.stride_bytes)
        return replace(block, extent=extent, form=form)
    if n_parts != GATED_PARTS or (chosen is None and block.is_apart):
        return block
    if chosen == GATES_APART and block.is_apart:
        return block
    if recorded is not None and recorded[1] == extent.bundle_bytes:
        gate_bytes = recorded[0]
    elif extent.bundle_bytes % GATED_PARTS:
        raise UsageError(
            f"{name}: bundles of {extent.bundle_bytes} bytes", found="no three equal parts",
            expected="as many bytes for gate, up and down", remedy="correct --bundle-bytes (3 x hidden size x bytes "
            "per weight), or name an output of reorder as --layout",
        )  # fmt: skip
    else:
        gate_bytes = extent.bundle_bytes // GATED_PARTS
    # What lies apart in a file, and is supposed not to, lies packed.
    stride_bytes = extent.bundle_bytes if block.is_apart else extent.stride_bytes
    if chosen == GATES_APART:
        rest_bytes = extent.bundle_bytes - gate_bytes
        is_packed = stride_bytes == extent.bundle_bytes
        rest_stride = rest_bytes if is_packed else rest_bytes + -rest_bytes % REGION_BYTES
        form = BundleForm.apart(gate_bytes, rest_bytes, rest_stride, block.n_neurons)
        stride_bytes = gate_bytes + rest_stride
    else:
        form = BundleForm.in_bundle(chosen or GATE_FIRST, gate_bytes, extent.bundle_bytes, stride_bytes)
    return replace(block, extent=replace(extent, stride_bytes=stride_bytes), form=form)


def _recorded_gates(layouts: Sequence[Layout]) -> dict[str, tuple[int, int]]:
    """Return by block the bytes of a gate and of a bundle, as the first output with a bundled file records them."""
    for layout in layouts:
        if not Path(layout.name).is_dir():
            continue
        document = read_manifest(Path(layout.name)).document
        sizes: dict[str, tuple[int, int]] = {}
        for name, entry in (document["bundled"] or {}).items():
            parts: list[dict[str, Any]] = [*entry.get("gates", {}).get("components", []), *entry["components"]]
            gate_bytes = sum(part["length_bytes"] for part in parts if part["role"] == "gate")
            if gate_bytes:
                sizes[name] = (gate_bytes, sum(part["length_bytes"] for part in parts))
        if sizes:
            return sizes
    return {}
