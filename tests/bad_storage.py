"""Storage that fails: a library that stands between a process and its reads."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BAD_STORAGE = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Storage that refuses direct reads, fails at an offset, or is interrupted before each read. */
ssize_t pread64(int descriptor, void *target, size_t n_bytes, off_t offset) {
    static __thread int n_calls;
    if (getenv("NO_DIRECT") && (fcntl(descriptor, F_GETFL) & O_DIRECT)) return errno = EINVAL, -1;
    if (getenv("FAILS_AT") && offset == atoll(getenv("FAILS_AT"))) return errno = EIO, -1;
    if (getenv("INTERRUPTED") && ++n_calls % 2) return errno = EINTR, -1;
    return syscall(SYS_pread64, descriptor, target, n_bytes, offset);
}

ssize_t pread(int descriptor, void *target, size_t n_bytes, off_t offset) {
    return pread64(descriptor, target, n_bytes, offset);
}
"""
"""Environment variables say what it does: ``NO_DIRECT``, ``FAILS_AT`` (a byte of the file), ``INTERRUPTED``."""


def build_bad_storage(folder: Path) -> str:
    """Compile the library; return its path, for ``LD_PRELOAD``."""
    (folder / "storage.c").write_text(BAD_STORAGE)
    line = ["cc", "-shared", "-fPIC", "-o", folder / "storage.so", folder / "storage.c"]
    subprocess.run(line, check=True)
    return str(folder / "storage.so")
