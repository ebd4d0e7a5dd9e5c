"""What reading gates first cost, and what it spared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.flash.bundle_form import WHOLE
from ripple_place.flash.gate_first import PREDICTED

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class GateTotals:
    """Counts over the tokens of one block, or of several, whose gates are read first.

    Attributes
    ----------
    mode, form : str
        Out of `ripple_place.flash.gate_first.MODES` and `ripple_place.flash.bundle_form.FORMS`.
    n_reads, n_requests, bytes_read : int
        Of the gates alone; they are part of those of `ripple_place.flash.results.FlashTotals`.
    flash_time_us : float
        Of the gates alone, under the device's own form.
    n_candidates, n_fired : int
        Neurons that were asked for, and those of them that fire.
    n_unpredicted : int
        Neurons that fire and were not asked for, so that they are missing in the result.
    n_looked_at, n_rest : int
        Candidates outside DRAM, and those of them that fire, so that their up row and down column are read.
    """

    mode: str
    form: str
    n_reads: int
    n_requests: int
    bytes_read: int
    flash_time_us: float
    n_candidates: int
    n_fired: int
    n_unpredicted: int
    n_looked_at: int
    n_rest: int

    @classmethod
    def sum(cls, parts: Iterable[GateTotals | None]) -> GateTotals | None:
        """Return the totals over several blocks; None if in none of them gates are read first."""
        counted = [part for part in parts if part is not None]
        if not counted:
            return None
        first = counted[0]
        return cls(
            first.mode,
            first.form,
            n_reads=sum(part.n_reads for part in counted),
            n_requests=sum(part.n_requests for part in counted),
            bytes_read=sum(part.bytes_read for part in counted),
            flash_time_us=sum(part.flash_time_us for part in counted),
            n_candidates=sum(part.n_candidates for part in counted),
            n_fired=sum(part.n_fired for part in counted),
            n_unpredicted=sum(part.n_unpredicted for part in counted),
            n_looked_at=sum(part.n_looked_at for part in counted),
            n_rest=sum(part.n_rest for part in counted),
        )

    @property
    def rest_saved_share(self) -> float | None:
        """Candidates outside DRAM whose up and down rows are not read; None without candidates that may not fire."""
        if self.mode != PREDICTED or not self.n_looked_at:
            return None
        return 0.0 if self.form == WHOLE else 1 - self.n_rest / self.n_looked_at

    def scores(self, n_tokens: int) -> dict[str, Any]:
        """Return the entry ``gate`` of ``simulate --json``."""
        return {
            "mode": self.mode,
            "form": self.form,
            "reads_per_token": self.n_reads / n_tokens,
            "requests_per_token": self.n_requests / n_tokens,
            "bytes_read_per_token": self.bytes_read / n_tokens,
            "flash_time_us_per_token": self.flash_time_us / n_tokens,
            "candidates_per_token": self.n_candidates / n_tokens,
            "fired_per_token": self.n_fired / n_tokens,
            "unpredicted_per_token": self.n_unpredicted / n_tokens,
            "rest_saved_share": self.rest_saved_share,
        }
