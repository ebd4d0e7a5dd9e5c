"""What every form of a device is: numbers, and the time of requests that follows from them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ripple_place.flash.device.part import ProfilePart

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array
    from ripple_place.flash.device.latency import LatencyLine


@dataclass(frozen=True)
class Form(ProfilePart):
    """The numbers of a form, and what requests cost by them.

    Attributes
    ----------
    name : str
        What device files call the form.
    times_add_up : bool
        Whether the time of a token is the sum over its requests. Where it is not, all requests of a token and block
        are charged together, under the ceiling of the device.
    """

    name: ClassVar[str]
    times_add_up: ClassVar[bool] = True

    @abstractmethod
    def request_us(self, size_bytes: Float64Array, extra_us: Float64Array | float) -> Float64Array:
        """Return the time of single requests that each take `extra_us` in addition, none of it for their bytes."""

    def own_line(self) -> LatencyLine | None:
        """Return the line that the form is by definition, None if it is none."""
        return None

    def shortest_bytes(self, page_bytes: int) -> int:
        """Return the size of a request that is bound by requests a second: one page, unless a form knows better."""
        return page_bytes


def least_request_us(max_iops: float | None) -> float:
    """Return the time that no request goes below.

    >>> least_request_us(100_000), least_request_us(None)
    (10.0, 0.0)
    """
    return 0.0 if max_iops is None else 1e6 / max_iops
