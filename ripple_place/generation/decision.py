"""What an activity says of some tokens: which units each of them uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import BoolArray, Float32Array, UInt8Array


@dataclass(frozen=True, eq=False)
class Decision:
    """Which units some tokens use.

    Attributes
    ----------
    is_wanted : ndarray of shape (n_tokens, n_units), bool
        By slot.
    known : mapping of str to ndarray of shape (n_tokens, n_units), float32
        By role, products that are known already, biases included.
    is_hit : ndarray of shape (n_wanted,), uint8, or None
        Of a single token, which of the wanted slots the cache had, where it was asked already.
    """

    is_wanted: BoolArray
    known: Mapping[str, Float32Array] = field(default_factory=dict)
    is_hit: UInt8Array | None = None


class Activity(Protocol):
    """Decides in one block."""

    @property
    def n_bytes(self) -> int:
        """Memory that deciding takes."""
        ...

    @property
    def is_one_by_one(self) -> bool:
        """Whether tokens of a prompt are decided and read one after the other."""
        ...

    @property
    def added(self) -> Float32Array | None:
        """What is added to the FFN's output in place of what is dropped, shape (hidden,); None where nothing is."""
        ...

    def decide(self, inputs: Float32Array) -> Decision:
        """Return which units tokens use, from the inputs of the FFN, shape (n_tokens, hidden), float32."""
        ...
