"""Where the machine code of kernels lies between runs: a convenience, never a condition.

One file holds one kernel for one list of argument types. Its name tells the kernel, the Python, and a digest of what
the code was made from: the sources, numba's version, the processor, the types. A digest before the content
tells damage. A file that is missing, of another origin or damaged means compiling again; a folder that takes no files
means the next folder: ``NUMBA_CACHE_DIR`` where it is set, ``__pycache__`` beside the kernels, the user's cache folder,
the temporary folder. Where no folder takes the code, each run compiles, after one warning.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import pickle
import re
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
from numba.core.compiler import CompileResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_log = logging.getLogger("ripple_place.kernels")

_CONFIG: Any = numba.config
_PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(rb"^ *from ripple_place\.?([\w.]*) import \(?([\w, ]*)", re.MULTILINE)
_DIGEST_BYTES = 32
_SECONDS_BETWEEN_LINES = 10.0


class CodeStore:
    """Loads and saves the machine code of one kernel; numba calls it where it would call its own cache.

    numba holds its compiler lock around both calls, so that no two threads of a process are in them at a time. Of two
    processes that save the same code, one replaces the file of the other, whole.

    Parameters
    ----------
    function : callable
        The kernel as Python.
    name : str
        What tells it from other kernels that are made by the same function.
    made_of : iterable of callable
        The functions that it was made of, if it is one of these.
    """

    def __init__(
        self, function: Callable[..., Any], name: str = "", made_of: Iterable[Callable[..., Any]] = ()
    ) -> None:
        self._sources = tuple(Path(part.__code__.co_filename) for part in (function, *made_of))
        full_name = f"{function.__module__}.{function.__qualname__}{name and '.'}{name}".replace("<locals>.", "")
        self._name = f"{full_name}.{sys.implementation.cache_tag}"

    @property
    def cache_path(self) -> str:
        """The folder that code is saved to; empty where there is none. numba shows it in a dispatcher's `stats`."""
        return str(next(writable_folders(), ""))

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the compiled function for a signature, or None: numba compiles it then."""
        target.refresh()
        key = self._key(signature, target.codegen())
        for folder in _folders():
            with contextlib.suppress(OSError):
                content = (folder / self._file_name(key)).read_bytes()
                # Whatever is wrong with a file that is as it was written: compiling anew is right.
                with contextlib.suppress(Exception):
                    if content[:_DIGEST_BYTES] == _digest(content[_DIGEST_BYTES:]):
                        return CompileResult._rebuild(target, *pickle.loads(content[_DIGEST_BYTES:]))  # noqa: SLF001
        _tell.compiling()
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled function in the first folder that takes it."""
        _tell.compiled()
        if result.lifted or result.library.has_dynamic_globals:
            return  # numba's own conditions: such code is good for this process only.
        key = self._key(signature, result.library.codegen)
        content = pickle.dumps(result._reduce())  # noqa: SLF001
        for folder in writable_folders():
            try:
                self._remove_former(folder, key)
                _write_whole(folder / self._file_name(key), _digest(content) + content)
            except OSError as error:
                _give_up(folder, error)
            else:
                return

    def flush(self) -> None:
        """Remove the code of this kernel from every folder; numba calls this from `Dispatcher.recompile`."""
        for folder in _folders():
            for path in folder.glob(f"{self._name}.*"):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _key(self, signature: Any, codegen: Any) -> tuple[str, str]:
        """Return the digest of the sources, and that of what else the code depends on."""
        made_for = (numba.__version__, _CONFIG.OPT, _CONFIG.BOUNDSCHECK, codegen.magic_tuple(), signature)
        return _sources_digest(self._sources), _digest(repr(made_for).encode()).hex()[:16]

    def _file_name(self, key: tuple[str, str]) -> str:
        return f"{self._name}.{key[0]}.{key[1]}.code"

    def _remove_former(self, folder: Path, key: tuple[str, str]) -> None:
        """Remove the code of sources that are no more, which nothing will ask for again."""
        for path in folder.glob(f"{self._name}.*.code"):
            if not path.name.startswith(f"{self._name}.{key[0]}."):
                path.unlink(missing_ok=True)


class _Tell:
    """Says once that kernels are being compiled, and from time to time how far that is."""

    def __init__(self) -> None:
        self._n_compiled = 0
        self._started_s = self._told_s = 0.0

    def compiling(self) -> None:
        if not self._started_s:
            self._started_s = self._told_s = time.monotonic()
            _log.info("Compiling for this machine: the first run takes up to a minute longer, later ones start at once")

    def compiled(self) -> None:
        self._n_compiled += 1
        now_s = time.monotonic()
        if now_s - self._told_s >= _SECONDS_BETWEEN_LINES:
            self._told_s = now_s
            _log.info("Compiled %d functions in %.0f s so far", self._n_compiled, now_s - self._started_s)


_tell = _Tell()
_refused: dict[Path, str] = {}
"""The folders that took no file in this process, and why."""


def writable_folders() -> Iterator[Path]:
    """Yield the folders that have taken every file so far, best first; what does not exist yet is made.

    Where there is none, a warning says so, once.
    """
    for folder in _folders():
        if folder not in _refused:
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                _give_up(folder, error)
            else:
                yield folder


@functools.lru_cache(maxsize=1)
def _folders() -> tuple[Path, ...]:
    """Return the folders that may hold code, best first. Code is run: of folders that others can write, none."""
    chosen = _CONFIG.CACHE_DIR
    caches = os.environ.get("XDG_CACHE_HOME") or ("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    folders = [Path(chosen)] if chosen else []
    folders += [_PACKAGE / "kernels" / "__pycache__", Path(os.path.expanduser(caches)) / "ripple-place" / "kernels"]
    with contextlib.suppress(OSError):  # no temporary folder at all
        folders.append(Path(tempfile.gettempdir()) / f"ripple-place-kernels-{os.getuid()}")
    return tuple(folder for folder in folders if folder.is_absolute() and (str(folder) == chosen or _is_ours(folder)))


def _is_ours(folder: Path) -> bool:
    """Return whether nobody but us, or whoever installed us, can put a file into a folder; true of one that is not."""
    try:
        found = folder.lstat()
    except OSError:
        return True
    installer = _PACKAGE.stat().st_uid
    return stat.S_ISDIR(found.st_mode) and found.st_uid in (os.geteuid(), installer, 0) and not found.st_mode & 0o002


def _give_up(folder: Path, error: OSError) -> None:
    """Use a folder no more, and warn where it was the user's choice or the last one."""
    _refused[folder] = error.strerror or str(error)
    is_last = all(other in _refused for other in _folders())
    if is_last:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in _refused.items())
        _log.warning(
            "no folder takes the compiled kernels (%s), so that each run compiles them anew. "
            "Set NUMBA_CACHE_DIR to a folder that can be written", reasons,
        )  # fmt: skip
    elif str(folder) == numba.config.CACHE_DIR:  # type: ignore[attr-defined]
        _log.warning(
            "NUMBA_CACHE_DIR takes no compiled kernels (%s: %s), so that they are kept elsewhere", folder,
            _refused[folder],
        )  # fmt: skip


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


@functools.cache
def _sources_digest(files: tuple[Path, ...]) -> str:
    """Return the digest of a kernel's files and of all of ours that they import, however far: numba inlines them."""
    sources = {}
    waiting = [*files]
    while waiting:
        path = waiting.pop()
        if path not in sources:
            sources[path] = path.read_bytes()
            waiting += [found for match in _IMPORT.finditer(sources[path]) for found in _imported_files(match)]
    return _digest(b"".join(_digest(sources[path]) for path in sorted(sources))).hex()[:16]


def _imported_files(match: re.Match[bytes]) -> Iterator[Path]:
    """Yield the files that one line ``from ripple_place.x import y`` reads: x.py, or x/y.py."""
    module = _PACKAGE.joinpath(*match[1].decode().split("."))
    for path in (module.with_suffix(".py"), *(module / f"{name.strip()}.py" for name in match[2].decode().split(","))):
        if path.is_file():
            yield path
