"""The cache policies by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ripple_place.errors import UsageError
from ripple_place.flash.caches.lru import Lru
from ripple_place.flash.caches.none import NoCache
from ripple_place.flash.caches.pinned import Pinned
from ripple_place.flash.caches.s3fifo import S3Fifo

if TYPE_CHECKING:
    import numpy.typing as npt

    from ripple_place.placement import NeuronPlacement


class Cache(Protocol):
    """What keeps some of one block's neurons in DRAM."""

    policy: str

    def __init__(self, capacity: int, placement: NeuronPlacement) -> None: ...

    def replay(self, neurons: npt.NDArray[Any], is_hit: npt.NDArray[Any]) -> None:
        """Get, then admit, each of `neurons` in order; write 1 to `is_hit` where one was in DRAM, else 0."""
        ...


POLICIES: dict[str, type[Cache]] = {cache.policy: cache for cache in (NoCache, Lru, S3Fifo, Pinned)}


def find_policy(policy: str) -> type[Cache]:
    """Return the class of a cache policy.

    Raises
    ------
    UsageError
        If there is none by that name.
    """
    if policy not in POLICIES:
        raise UsageError(
            f"cache {policy}", found="no policy by that name", expected=f"one of {', '.join(POLICIES)}",
            remedy="name one of them",
        )  # fmt: skip
    return POLICIES[policy]
