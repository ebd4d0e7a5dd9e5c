"""How a capture tells of its progress without knowing who listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

T = TypeVar("T")


class Track(Protocol):
    """Passes items through while showing how many are done."""

    def __call__(self, items: Collection[T], what: str) -> Iterable[T]:
        """Yield `items` one by one; `what` says what is done with them."""
        ...
