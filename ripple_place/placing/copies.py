"""What second copies are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.placing.block_report import known

if TYPE_CHECKING:
    from collections.abc import Mapping

GIB = 1 << 30


@dataclass(frozen=True)
class BlockCopies:
    """What a block costs on the rows that judge, from one copy and from two.

    Attributes
    ----------
    one, two : float
        lambda x reads + neurons read, over all those rows.
    n_rows : int
    """

    one: float
    two: float
    n_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return the block's entry in ``reorder --json``: costs per row."""
        n_rows = self.n_rows or math.nan
        return {"one": known(self.one / n_rows), "two": known(self.two / n_rows)}


@dataclass(frozen=True)
class CopiesReport:
    """What a second copy buys, all blocks together.

    Attributes
    ----------
    blocks : mapping of str to BlockCopies
    n_tokens : int
        Tokens that judge.
    held_out : bool
        False if the trace is too short to hold any out: then they are those that were searched.
    extra_bytes : int or None
        Flash that the second copy takes; None where the size of a neuron's weights is unknown.
    """

    blocks: Mapping[str, BlockCopies]
    n_tokens: int
    held_out: bool
    extra_bytes: int | None

    @property
    def one(self) -> float:
        """Cost per token from one copy."""
        return sum(block.one for block in self.blocks.values()) / max(1, self.n_tokens)

    @property
    def two(self) -> float:
        """Cost per token from two copies."""
        return sum(block.two for block in self.blocks.values()) / max(1, self.n_tokens)

    @property
    def gain(self) -> float:
        """Share of the cost that the second copy saves; 0 where there is none to save."""
        return 1 - self.two / self.one if self.one else 0.0

    @property
    def gain_per_gib(self) -> float | None:
        """`gain` by GiB of flash."""
        return self.gain * GIB / self.extra_bytes if self.extra_bytes else None

    def to_json(self) -> dict[str, Any]:
        """Return the ``copies`` entry of ``reorder --json``."""
        return {
            "n_tokens": self.n_tokens,
            "held_out": self.held_out,
            "cost_per_token": {"one": self.one, "two": self.two},
            "gain": self.gain,
            "extra_bytes": self.extra_bytes,
            "gain_per_gib": self.gain_per_gib,
            "blocks": {name: block.to_json() for name, block in self.blocks.items()},
        }


def copy_bytes(n_neurons: Mapping[str, int], bundle_bytes: Mapping[str, int]) -> int | None:
    """Return the flash that second copies of some blocks take, packed, each up to a full page of 4096 bytes.

    None where the sizes of bundles are unknown.
    """
    if not bundle_bytes:
        return None
    sizes = [n * bundle_bytes[name] for name, n in n_neurons.items()]
    return sum(size + -size % 4096 for size in sizes)
