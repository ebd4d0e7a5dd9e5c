"""`make demo` where a machine is unlike a developer's: each run must end well and write the same bytes.

    python -m tests.hostile.environments

Each run has a copy of the package of its own, with compiled code beside it only where that is not what is tried: it
takes a minute to compile. What needs root or a mount is left out, and named, where that is not to be had.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
# Somebody who can read what we can, so that he finds Python wherever it lies, and write nothing of ours.
STRANGER = (
    "setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)  # fmt: skip
READ_ONLY = ("unshare", "-m", "sh", "-c", 'mount --bind -o ro "$PYTHONPATH" "$PYTHONPATH" && exec "$@"', "sh")
FULL = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=64k none "$NUMBA_CACHE_DIR" && exec "$@"', "sh")
IN_THE_WAY = ("sh", "-c", 'touch "$TMPDIR/ripple-place-kernels-4242" && exec "$@"', "sh")


class Environment(NamedTuple):
    """What is unusual about it.

    Attributes
    ----------
    prefix : tuple of str
        Commands before ``make``.
    variables : dict
        Environment variables beside PATH; ``{tmp}`` is a folder that can be written.
    code : callable or None
        Changes each file of compiled code before the run; without, there is none.
    says : str
        What must be printed, beside the results.
    """

    prefix: tuple[str, ...] = ()
    variables: dict[str, str] = {"HOME": "{tmp}"}  # noqa: RUF012 never changed
    code: Callable[[bytes], bytes] | None = lambda content: content
    says: str = ""


def flipped(content: bytes) -> bytes:
    """Change one bit somewhere."""
    place = random.Random(len(content)).randrange(len(content))
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


COMPILING = "Compiling for this machine"
UNKEPT = "Warning: no folder takes the compiled kernels"
ENVIRONMENTS = {
    "for the first time": Environment(code=None, says=COMPILING),
    "C locale, no terminal, no UTF-8": Environment(
        ("setsid",), {"HOME": "{tmp}", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ),
    "output in Latin-1": Environment(variables={"HOME": "{tmp}", "PYTHONIOENCODING": "latin-1"}),
    "no HOME, another user's install": Environment(STRANGER, {"TMPDIR": "{tmp}"}, None, COMPILING),
    "no HOME, read-only install": Environment((*READ_ONLY, *STRANGER), {"TMPDIR": "{tmp}"}, None, COMPILING),
    "no folder for compiled code": Environment(
        (*IN_THE_WAY, *READ_ONLY, *STRANGER), {"TMPDIR": "{tmp}", "HOME": "/nowhere"}, None, UNKEPT
    ),
    "files of at most 8 MB": Environment(("sh", "-c", 'ulimit -f 16384; exec "$@"', "sh")),
    "empty files of compiled code": Environment(code=lambda content: b"", says=COMPILING),
    "damaged files of compiled code": Environment(code=flipped, says=COMPILING),
    "a full folder for compiled code": Environment(
        FULL, {"HOME": "{tmp}", "NUMBA_CACHE_DIR": "{tmp}/code"}, None, "Warning: NUMBA_CACHE_DIR takes no compiled"
    ),
}


def run(environment: Environment, folder: Path, code: dict[str, bytes]) -> tuple[int, str, Path]:
    """Run the demo on a copy of the package; return its exit code, what it printed, and where it wrote."""
    folder.chmod(0o1777)
    (folder / "code").mkdir()
    install = folder / "install"
    shutil.copytree(ROOT / "ripple_place", install / "ripple_place", ignore=shutil.ignore_patterns("__pycache__"))
    if environment.code is not None:
        code_folder(install).mkdir()
        for name, content in code.items():
            (code_folder(install) / name).write_bytes(environment.code(content))
    variables = {name: value.format(tmp=folder) for name, value in environment.variables.items()}
    done = subprocess.run(
        [*environment.prefix, "make", "--silent", "demo", f"OUT={folder / 'out'}"], cwd=ROOT, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(install), **variables}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(errors="backslashreplace"), folder / "out"


def code_folder(install: Path) -> Path:
    """Return where a package that can be written keeps its code."""
    return install / "ripple_place" / "kernels" / "__pycache__"


def digests_of(out: Path) -> dict[str, str]:
    """Return the digest of each output, which must be the same everywhere; pages name the folder they lie in."""
    patterns = ("*.placement", "*.profile", "*.html", "*.svg", "**/*.safetensors")
    paths = [path for pattern in patterns for path in out.glob(pattern)]
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes().replace(bytes(out), b"out")).hexdigest()
        for path in paths
    }


def main() -> int:
    """Run the demo everywhere; return 1 where one run went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="run the environments whose names contain this, and the usual one")
    only = parser.parse_args().only
    expected: dict[str, str] = {}
    code: dict[str, bytes] = {}
    n_wrong = 0
    for name, environment in ENVIRONMENTS.items():
        if expected and only not in name:
            continue
        program = environment.prefix[0] if environment.prefix else "make"
        needs_root = program in ("setpriv", "unshare")
        if not shutil.which(program) or (needs_root and os.geteuid() != 0):
            print(f"{name}: left out, it needs {program}" + " and root" * needs_root)
            continue
        with tempfile.TemporaryDirectory() as temporary:
            start_s = time.monotonic()
            status, output, out = run(environment, Path(temporary), code)
            digests = digests_of(out)
            if "mount:" in output or "unshare:" in output:
                print(f"{name}: left out, nothing can be mounted here")
                continue
            expected = expected or digests
            compiled = code_folder(Path(temporary) / "install")
            code = code or {path.name: path.read_bytes() for path in compiled.glob("*.code")}
            is_well = status == 0 and "Traceback" not in output and digests == expected and environment.says in output
            n_wrong += not is_well
            print(f"{name}: {'well' if is_well else 'WRONG'} in {time.monotonic() - start_s:.0f} s", flush=True)
            if not is_well:
                changed = sorted(path for path in expected if digests.get(path) != expected[path])
                print(f"  exit code {status}; other bytes in {changed}\n{output}")
    return int(n_wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
