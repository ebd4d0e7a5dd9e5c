"""Names of FFN blocks: their grammar, their order, and selections such as ``0-3,7``.

A block is what is reordered as a whole: ``layers.3``, ``layers.3.experts.7``, ``layers.3.shared_expert``,
``encoder.layers.3``, ``decoder.layers.3``, or in a model of two towers ``text.layers.3``, ``vision.layers.3``. Layer
and expert numbers are compared as integers, so that layer 10 comes after layer 9.

The units of a block are neurons, as a rule: all weights of a neuron lie together. Where the unit is a column, an FFN is
two blocks with an order each: ``layers.3.input``, one column of up and of gate for each input of the FFN, and
``layers.3``, one column of down for each neuron. Where the unit is an expert, a layer's mixture is one block: all bytes
of an expert lie together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_NUMBER = "(0|[1-9][0-9]{0,8})"
_BLOCK = re.compile(
    rf"(?:(encoder|decoder|text|vision)\.)?layers\.{_NUMBER}(?:\.experts\.{_NUMBER}|\.(shared_expert))?(\.input)?"
)
NEURON, COLUMN, EXPERT = "neuron", "column", "expert"
UNITS = (NEURON, COLUMN, EXPERT)
"""What a block is made of, as traces, profiles and placements say in their metadata; absent: neurons."""
WEIGHT_UNITS = (NEURON, COLUMN)
"""Those that a rule may choose among: parts of an FFN, not whole ones."""
UNITS_EXPECTED = f"{', '.join(UNITS)}, and blocks such as layers.0.input only where the unit is {COLUMN}"
_INPUT = ".input"


def is_block_name(name: str) -> bool:
    """Tell whether `name` follows the grammar of block names.

    >>> is_block_name("layers.3.experts.7"), is_block_name("layer3")
    (True, False)
    """
    return _BLOCK.fullmatch(name) is not None


def is_input_block(name: str) -> bool:
    """Tell whether a block holds the input columns of an FFN.

    >>> is_input_block("layers.3.input"), is_input_block("layers.3")
    (True, False)
    """
    return name.endswith(_INPUT)


def input_block_of(ffn: str) -> str:
    """Return the name of the block of an FFN's input columns.

    >>> input_block_of("layers.3")
    'layers.3.input'
    """
    return ffn + _INPUT


def ffn_of(name: str) -> str:
    """Return the FFN that a block belongs to: that of its down columns, or of its neurons.

    >>> ffn_of("layers.3.input"), ffn_of("layers.3")
    ('layers.3', 'layers.3')
    """
    return name.removesuffix(_INPUT)


def unit_problem(unit: str, names: Iterable[str]) -> str | None:
    """Return what is wrong with blocks of a unit; None if nothing is.

    >>> unit_problem("neuron", ["layers.0", "layers.0.input"])
    'layers.0.input among blocks of neurons'
    >>> unit_problem("column", ["layers.0.input"])
    >>> unit_problem("expert", ["layers.0"])
    """
    if unit not in UNITS:
        return f"unit {unit!r}"
    stray = next(filter(is_input_block, names), None)
    return f"{stray} among blocks of {unit}s" if stray is not None and unit != COLUMN else None


def unit_metadata(unit: str) -> dict[str, str]:
    """Return the metadata in which files say what their blocks are made of: nothing for neurons.

    >>> unit_metadata("column"), unit_metadata("neuron")
    ({'unit': 'column'}, {})
    """
    return {} if unit == NEURON else {"unit": unit}


def block_sort_key(name: str) -> tuple[str, int, int, int, int]:
    """Return the key that sorts block names as the model runs them.

    That is by stack, layer and expert (a shared expert after the others), and an FFN's input columns before the rest.

    >>> sorted(["layers.10", "layers.9", "layers.9.shared_expert", "layers.9.experts.2"], key=block_sort_key)
    ['layers.9', 'layers.9.experts.2', 'layers.9.shared_expert', 'layers.10']
    """
    match = _BLOCK.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not a block name such as layers.3 or layers.3.experts.7")
    stack, layer, expert, shared, is_input = match.groups()
    number = 10**9 if shared else -1 if expert is None else int(expert)  # Past all nine digits of a number.
    return stack or "", int(layer), number, 1 if shared else 0, 0 if is_input else 1


def layer_of(name: str) -> int:
    """Return the layer number in a block name.

    >>> layer_of("decoder.layers.12")
    12
    """
    return block_sort_key(name)[1]


def sorted_blocks(names: Iterable[str]) -> list[str]:
    """Return block names in the order in which the model runs them."""
    return sorted(names, key=block_sort_key)


def select_layers(names: Collection[str], selection: str | None) -> list[str]:
    """Return, in model order, the blocks whose layer is in `selection`.

    Parameters
    ----------
    names : collection of str
        Block names.
    selection : str or None
        Comma-separated layers and inclusive ranges, ``0-3,7``; None selects all.

    Raises
    ------
    UsageError
        If the selection is malformed or selects a layer that is not there.

    Examples
    --------
    >>> select_layers(["layers.10", "layers.2", "layers.1"], "2-10")
    Traceback (most recent call last):
    ...
    ripple_place.errors.UsageError: --layers 2-10: found layers 3-9; expected layers 1-2,10. Name layers that exist.
    >>> select_layers(["layers.10", "layers.2", "layers.1"], "2,10")
    ['layers.2', 'layers.10']
    """
    ordered = sorted_blocks(names)
    if selection is None:
        return ordered
    wanted: set[int] = set()
    for part in selection.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,6})(?:\s*-\s*([0-9]{1,6}))?\s*", part)
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            raise UsageError(
                f"--layers {selection}",
                found=repr(part),
                expected="layer numbers and ranges such as 0-3,7",
                remedy="write the selection that way",
            )
        wanted.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    present = {layer_of(name) for name in ordered}
    if absent := wanted - present:
        raise UsageError(
            f"--layers {selection}",
            found=f"layers {format_ranges(absent)}",
            expected=f"layers {format_ranges(present)}",
            remedy="name layers that exist",
        )
    return [name for name in ordered if layer_of(name) in wanted]


def format_ranges(numbers: Iterable[int]) -> str:
    """Write integers as comma-separated inclusive ranges.

    >>> format_ranges([3, 0, 1, 2, 7])
    '0-3,7'
    """
    runs: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
