"""Admission: which of the neurons that a token reads from flash may enter the DRAM cache, whatever its policy."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.kernels.admission import admit_outside_runs
from ripple_place.units import parse_count

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, UInt8Array

DEFAULT_CUTOFF = 4
"""Consecutive active slots that make a run. Ripple gives no number; docs/caches.md says what this one was chosen by."""
DEFAULT_PROBABILITY = 0.25
"""With which a run's member is admitted: "a lower probability" in Ripple, without a number; see `DEFAULT_CUTOFF`."""


@dataclass(frozen=True)
class Admission:
    """Who may enter: everyone, or by Ripple's linking-aligned rule.

    Parameters
    ----------
    cutoff : int, optional
        Active neurons of a token that lie in a run of at least so many consecutive active slots are admitted with
        `probability`, all others always. None admits all.
    probability : float
        From 0 to 1.
    seed : int
        Of the draws, which depend on nothing but the seed, the block, the row and the neuron.

    Raises
    ------
    UsageError
        If a number is out of range.

    References
    ----------
    .. [1] Wang et al., Ripple / Neuralink, arXiv:2410.19274, section 5 ("linking-aligned cache"): neurons of
       continuous segments enter with a lower probability, because a segment that is half in DRAM is read in pieces.
    """

    cutoff: int | None = None
    probability: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.cutoff is not None and self.cutoff < 1) or not 0 <= self.probability <= 1:
            raise UsageError(
                "admission linking", found=f"cut-off {self.cutoff}, probability {self.probability}",
                expected="a cut-off of at least 1, a probability from 0 to 1", remedy="correct the number",
            )  # fmt: skip

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> Admission:
        """Return the rule that ``all``, ``linking`` or ``linking:CUTOFF,PROBABILITY`` names.

        Raises
        ------
        UsageError
            If it is none of them.

        Examples
        --------
        >>> Admission.parse("linking:3,0.25")
        Admission(cutoff=3, probability=0.25, seed=0)
        """
        if text == "all":
            return cls(seed=seed)
        if text == "linking":
            return cls(DEFAULT_CUTOFF, DEFAULT_PROBABILITY, seed)
        name, _, numbers = text.partition(":")
        cutoff_text, _, probability_text = numbers.partition(",")
        cutoff, probability = parse_count(cutoff_text), _parse_probability(probability_text)
        if name != "linking" or cutoff is None or probability is None:
            raise UsageError(
                f"--admission {text}", found="no such rule", expected="all, linking, or linking:CUTOFF,PROBABILITY",
                remedy="write, for instance, linking:4,0.25",
            )  # fmt: skip
        return cls(cutoff, probability, seed)

    def __str__(self) -> str:
        """Return the rule as `parse` reads it."""
        return "all" if self.cutoff is None else f"linking:{self.cutoff},{self.probability:g}"

    def key(self, block: str) -> np.uint64:
        """Return the key of the draws in a block."""
        return np.uint64((self.seed * 0x100000001 ^ zlib.crc32(block.encode())) % 2**64)

    def admit(
        self,
        block: str,
        slots: AnyArray,
        neurons: AnyArray,
        row_starts: AnyArray,
        first_row: int,
        admitted: UInt8Array,
    ) -> None:
        """Write 1 to `admitted` for each access that may enter, else 0; arrays as in `Accesses`.

        Parameters
        ----------
        block : str
            Name of the block.
        slots, neurons, row_starts : ndarray
            Accesses of consecutive rows.
        first_row : int
            Number of the first of them.
        admitted : ndarray of shape (n_accesses,), uint8
        """
        if self.cutoff is None:
            admitted[:] = 1
            return
        threshold = round(self.probability * 2**32)
        admit_outside_runs(slots, neurons, row_starts, first_row, self.cutoff, threshold, self.key(block), admitted)


def _parse_probability(text: str) -> float | None:
    try:
        probability = float(text)
    except ValueError:
        return None
    return probability if math.isfinite(probability) else None
