"""The decorator of every kernel: numba's compiler, whose machine code is kept between runs where that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from numba import config, njit

from ripple_place.kernels.code_store import CodeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

F = TypeVar("F", bound="Callable[..., Any]")


@overload
def compiled(function: F) -> F: ...


@overload
def compiled(*, parallel: bool = ..., name: str = ..., made_of: Iterable[Any] = ...) -> Callable[[F], F]: ...


def compiled(function: Any = None, *, parallel: bool = False, name: str = "", made_of: Iterable[Any] = ()) -> Any:
    """Compile a function at its first call; it holds no interpreter lock while it runs.

    What was compiled is kept by `ripple_place.kernels.code_store`, not by numba's own cache: that one ends the process
    where no folder can be written, where a file of it is damaged, and where the disk is full. It also runs code of
    before where a function that the kernel calls has changed in another file.

    Parameters
    ----------
    function : callable
        Its body is what numba compiles, or Python where ``NUMBA_DISABLE_JIT=1``.
    parallel : bool
        ``prange`` loops run on all threads.
    name : str
        Of a kernel that a function makes out of others, which tells it from the others that the same function makes.
    made_of : iterable of compiled functions
        Those others.
    """

    def decorate(body: Any) -> Any:
        dispatcher: Any = njit(nogil=True, parallel=parallel)(body)
        if not config.DISABLE_JIT:  # type: ignore[attr-defined]
            store = CodeStore(body, name, [part.py_func for part in made_of])
            dispatcher._cache = store  # noqa: SLF001 numba knows no other way to bring a cache of one's own
        return dispatcher

    return decorate if function is None else decorate(function)
