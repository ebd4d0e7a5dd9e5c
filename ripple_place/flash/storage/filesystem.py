"""Which file system a file lies on, and what that means for measurements."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "afs", "gfs2", "ocfs2", "vboxsf"}
)
_OWN_CACHE = frozenset({"zfs", "bcachefs"})  # serve or stage O_DIRECT reads from a cache of their own
_LAYERED = frozenset({"overlay", "aufs", "ecryptfs", "squashfs", "erofs", "sdcardfs"})


@dataclass(frozen=True)
class FileSystem:
    """A mounted file system.

    Attributes
    ----------
    kind : str
        As the kernel names it (``ext4``); ``unknown`` where it does not say.
    device : str
        What is mounted (``/dev/nvme0n1p2``).
    """

    kind: str
    device: str

    @property
    def warning(self) -> str | None:
        """How a measurement on it may mislead; None if nothing is known to."""
        kind = self.kind.partition(".")[0]
        if kind in _MEMORY:
            return f"{self.kind} is memory: times on it say nothing of flash. Name a directory on the storage itself"
        if kind in _NETWORK:
            return f"{self.kind} is a network or shared file system: times are those of the way there as well"
        if kind in ("fuse", "fuseblk"):
            return f"{self.kind} passes reads through a process, which may cache: measure on the file system below"
        if kind in _OWN_CACHE:
            return f"{self.kind} keeps a cache of its own, which O_DIRECT may not bypass: compare with a cold start"
        if kind in _LAYERED:
            return f"{self.kind} lies on another file system and may cache or unpack: measure on the one below"
        return None


def file_system(descriptor: int) -> FileSystem:
    """Return the file system of an open file or directory, as Linux lists it in /proc."""
    try:
        mount = re.search(r"^mnt_id:\s*(\d+)", Path(f"/proc/self/fdinfo/{descriptor}").read_text(), re.MULTILINE)
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return FileSystem("unknown", "unknown")
    for line in mounts:
        # proc_pid_mountinfo(5): id parent major:minor root point options [tags] - type source super-options
        head, _, tail = line.partition(" - ")
        if mount and head.split()[0] == mount[1]:
            kind, device, *_ = tail.split()
            return FileSystem(kind, device)
    return FileSystem("unknown", "unknown")


def file_system_of(path: Path) -> FileSystem:
    """Return the file system of a file or directory by path.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return file_system(descriptor)
    finally:
        os.close(descriptor)
