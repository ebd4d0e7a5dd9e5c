"""Functions of the system that say no, and how many files may be opened."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class FailingCall:
    """Stands in for a function, and lets its n-th call fail."""

    def __init__(self, function: Callable[..., Any], n: int, error: BaseException) -> None:
        self.function, self.calls_left, self.error = function, n, error

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Fail, or call the function."""
        self.calls_left -= 1
        if self.calls_left == 0:
            raise self.error
        return self.function(*arguments, **options)


def next_descriptor() -> int:
    """Return the number that the next file will get: with it as the limit, none can be opened."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor
