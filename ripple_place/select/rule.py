"""What a selection rule is: which units a token uses, what it must know for that, and how it looks at a block.

A rule is one file here and a line of `ripple_place.select.registry.RULES`. Rules that look at outputs alone give a mask
(`MaskedBlock`); rules that also look at what is in DRAM and at what reads cost give a kernel (`PricedBlock`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ripple_place.blocks import NEURON, is_input_block

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ripple_place.arrays import AnyArray, BoolArray, Float32Array
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.select.knowledge import Knowledge


@dataclass(frozen=True, eq=False)
class Tuning:
    """What was fitted for a rule on a text other than the one it is judged on.

    Attributes
    ----------
    price : float or None
        Nats per microsecond of flash time, or whatever the rule prices in.
    thresholds : mapping of str to float
        By block, of rules that are fitted.
    importance : mapping of str to ndarray of shape (n_neurons,), float32
        Nats per squared output, by block; empty: outputs count by the size of what they add to the residual stream.
    sensitivity : mapping of str to ndarray of shape (hidden + 2,), float32
        Weights of a token's sensitivity (`ripple_place.trace.sensitivity`), by block.
    compensation : mapping of str to ndarray of shape (hidden,), float32
        What the dropped neurons put out on average, by block.
    """

    price: float | None
    thresholds: Mapping[str, float]
    importance: Mapping[str, Float32Array]
    sensitivity: Mapping[str, Float32Array]
    compensation: Mapping[str, Float32Array]

    @classmethod
    def nothing(cls) -> Tuning:
        """Return that nothing was fitted."""
        return cls(None, {}, {}, {}, {})


@dataclass(frozen=True, eq=False)
class BlockView:
    """What a rule sees of a block before its first token.

    Attributes
    ----------
    name : str
    n_neurons : int
    cost : ReadCost
        What reads cost, in microseconds.
    tuning : Tuning
    unit : str
        One of `ripple_place.blocks.UNITS`.
    is_gated : bool
        Whether the FFN has a gate; true where that is unknown.
    n_opposite : int or None
        Units of the FFN's other block, where the unit is a column: the width of a column.
    """

    name: str
    n_neurons: int
    cost: ReadCost
    tuning: Tuning
    unit: str = NEURON
    is_gated: bool = True
    n_opposite: int | None = None

    @property
    def is_input(self) -> bool:
        """Whether the block holds the input columns of an FFN."""
        return is_input_block(self.name)


@dataclass(frozen=True, eq=False)
class MaskedBlock:
    """A rule that looks at outputs alone.

    Attributes
    ----------
    mask : callable
        Takes outputs (n_rows, n_neurons) and those of the activation function, or None; returns which are used.
    """

    mask: Callable[[Float32Array, Float32Array | None], BoolArray]


@dataclass(frozen=True, eq=False)
class PricedBlock:
    """A rule that sees what is in DRAM, where the active neurons lie, and what reads cost.

    Attributes
    ----------
    choose : compiled function
        ``choose(slots, worth, is_resident, arguments, is_used)`` for one row.
    arguments : tuple
    weight : ndarray of shape (n_neurons,), float32
        Worth of a neuron per squared output, or per absolute output.
    is_squared : bool
    sensitivity : ndarray of shape (hidden + 2,), float32, or None
        Weights by which the worths of a token are scaled.
    state : tuple of ndarray
        What the kernel remembers of earlier rows: set to 0 where the cache is emptied.
    foresees_reads : bool
        Whether it counts on how the reader plans its reads.
    """

    choose: Any
    arguments: Any
    weight: Float32Array
    is_squared: bool = True
    sensitivity: Float32Array | None = None
    state: tuple[AnyArray, ...] = ()
    foresees_reads: bool = True


class Rule(Protocol):
    """Which units a token uses."""

    @property
    def name(self) -> str:
        """The name by which it is registered."""
        ...

    @property
    def knowledge(self) -> Knowledge:
        """What must be known of a token before its units are chosen."""
        ...

    @property
    def changes_output(self) -> bool:
        """Whether it may drop what puts out something."""
        ...

    @property
    def uses_gate(self) -> bool:
        """Whether it looks at the output of the activation function."""
        ...

    @property
    def units(self) -> tuple[str, ...]:
        """Those of `ripple_place.blocks.UNITS` for which the rule means something."""
        ...

    @property
    def target(self) -> float | None:
        """The wanted rise of the loss, in nats a token, for which it is to be tuned; None if it needs no tuning."""
        ...

    def of_block(self, block: BlockView) -> MaskedBlock | PricedBlock:
        """Return how the rule looks at a block.

        Raises
        ------
        UsageError
            If something that is fitted is missing.
        """
        ...

    def __str__(self) -> str:
        """Write the rule as it is parsed."""
        ...
