"""How a workflow tells of its progress without knowing who listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

T = TypeVar("T")


class Track(Protocol):
    """Passes items through while showing how many are done."""

    def __call__(self, items: Collection[T], what: str) -> Iterable[T]:
        """Yield `items` one by one; `what` says what is done with them."""
        ...

    def bytes(self, total_bytes: int, what: str) -> Callable[[int], object]:
        """Return a function to be called with the bytes done since the last call."""
        ...

    def searches(self, n_searches: int, what: str) -> Callable[[str, float, float], object]:
        """Return a function to be called, from any thread, with a search's name, its share done, and its gain."""
        ...


class _NoTrack:
    def __call__(self, items: Collection[T], what: str) -> Iterable[T]:
        return items

    def bytes(self, total_bytes: int, what: str) -> Callable[[int], object]:
        return lambda n_bytes: None

    def searches(self, n_searches: int, what: str) -> Callable[[str, float, float], object]:
        return lambda name, done_share, gain_share: None


no_track = _NoTrack()
