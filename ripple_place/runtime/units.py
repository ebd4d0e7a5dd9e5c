"""What a reader of units does, whatever it reads from: the weights of some units of a block, in DRAM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, UInt8Array


class UnitReader(Protocol):
    """Gives the weights of units."""

    def serve(self, block: str, slots: AnyArray) -> UInt8Array:
        """Return the bundles of some units of a block.

        Parameters
        ----------
        block : str
        slots : ndarray of shape (n,), int32
            Of the units; ascending, none twice.

        Returns
        -------
        ndarray of shape (n, bundle_bytes), uint8
            Row i is the bundle in ``slots[i]``. It may be memory of the reader's, valid until the block is next asked.

        Raises
        ------
        RipplePlaceError, OSError
            If the file is not what it was, or storage refuses. Nothing is returned then.
        """
        ...
