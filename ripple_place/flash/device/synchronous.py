"""Synchronous reads: one thread, one read at a time, each waiting for the one before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ripple_place.flash.device.forms.table import TableForm, table_problems
from ripple_place.flash.device.part import ProfilePart

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class SyncNumbers(ProfilePart):
    """What a read takes on its own, by its size; see `ripple_place.flash.device.profile.DeviceProfile`.

    Parameters
    ----------
    sync_size_bytes : tuple of int
        Ascending; both empty where the profile does not have them.
    sync_latency_us : tuple of float
        One a size, interpolated as in the table form (`ripple_place.flash.device.forms.table.TableForm`).

    Notes
    -----
    At a full queue the device works on many reads at once, so that its time a read is the inverse of its throughput.
    A lone read pays its whole latency: about ten times as much on a phone (PowerInfer-2's first steps, read one
    bundle after the other, arXiv 2406.06282, against the same phone's asynchronous reads).
    """

    sourced_with_another: ClassVar[frozenset[str]] = frozenset({"sync_size_bytes"})

    sync_size_bytes: tuple[int, ...] = ()
    sync_latency_us: tuple[float, ...] = ()

    def problems(self) -> Iterator[str]:
        """Name each number that is missing or out of range."""
        if self.sync_size_bytes or self.sync_latency_us:
            yield from table_problems("sync_", self.sync_size_bytes, self.sync_latency_us)

    def form(self) -> TableForm | None:
        """Return the times as a form; None where the profile has none."""
        return TableForm(self.sync_size_bytes, self.sync_latency_us) if self.sync_size_bytes else None
