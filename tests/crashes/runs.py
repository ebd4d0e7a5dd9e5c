"""Runs that are killed, or whose storage fails, and what they leave: the loops behind the tests of crash safety.

    python -m tests.crashes.runs --kills 50

Each rewrite is `ripple-place reorder` in a process of its own, forked from one that has imported everything but has
never run a kernel: a fork costs milliseconds, a start more than a second.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import ripple_place.checkpoint.rewrite
import ripple_place.workflows.reorder  # Imported before the forks, not by each.
from ripple_place.blocks import sorted_blocks
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output import outdir
from ripple_place.checkpoint.output.journal import JOURNAL_FILE
from ripple_place.placement import ModelPlacement, NeuronPlacement, write_placement
from tests.builders import contents, llama_config, llama_tensors, write_checkpoint
from tests.crashes import forks
from tests.crashes.profiles import run_profile_kills

if TYPE_CHECKING:
    from collections.abc import Callable

Files = dict[str, str]
_SWAP_STEPS = 30
"""Renames, removals and flushes of a swap, about."""


class Case:
    """A checkpoint in several shards, a placement, and where the output goes."""

    def __init__(self, root: Path) -> None:
        self.root, self.source, self.out = root, root / "source", root / "out"
        tensors = llama_tensors(n_layers=6, n_neurons=512, hidden=128, vocab=1024)
        shards = {name: f"model-{place // 6:05}.safetensors" for place, name in enumerate(tensors)}
        write_checkpoint(self.source, tensors, llama_config(n_layers=6, n_neurons=512), shards=shards)
        model = describe_ffn(Checkpoint.open(self.source))
        for name, seed in (("one", 1), ("two", 2)):
            rng = np.random.default_rng(seed)
            blocks = {block: NeuronPlacement(rng.permutation(512)) for block in sorted_blocks(model.blocks)}
            write_placement(root / name, ModelPlacement(blocks))
        self.before = hashes(self.source)
        assert self.finish("one") == 0
        self.old = hashes(self.out)
        start = time.perf_counter()
        assert self.finish("two", "--force") == 0
        self.seconds = time.perf_counter() - start
        self.new = hashes(self.out)
        assert self.old.keys() == self.new.keys()
        assert self.old != self.new

    def start(self, placement: str, *options: str, prepare: Callable[[], object] = lambda: None) -> int:
        """Fork a rewrite; return its process id."""
        arguments = ["reorder", str(self.source), "--placement", str(self.root / placement), "--out", str(self.out)]
        return forks.start([*arguments, *options], self.root / "stderr", prepare)

    def finish(self, placement: str, *options: str, prepare: Callable[[], object] = lambda: None) -> int:
        """Run a rewrite to its end; return its exit code."""
        return forks.finish(self.start(placement, *options, prepare=prepare))

    def kill(self, placement: str, *options: str, after_seconds: float) -> bool:
        """Kill a rewrite after some time; tell whether it was still running."""
        return forks.kill(self.start(placement, *options), self.root / "stderr", after_seconds)

    def kill_in_swap(self, placement: str, rng: random.Random) -> bool:
        """Kill a rewrite at a random moment of replacing the old output; tell whether it was still running."""
        told, tells = os.pipe()

        def slow_down() -> None:
            """Say when the swap begins, and let each of its steps take a millisecond: it is over too soon otherwise."""
            install = outdir._install

            def slowly(function: Callable[..., object]) -> Callable[..., object]:
                def slow(*arguments: object, **options: object) -> object:
                    time.sleep(0.001)
                    return function(*arguments, **options)

                return slow

            def told_install(partial: Path, out: Path) -> None:
                for name in ("rename", "replace", "unlink", "rmdir", "fsync"):
                    setattr(os, name, slowly(getattr(os, name)))
                os.write(tells, b"x")
                install(partial, out)

            outdir._install = told_install

        process = self.start(placement, "--force", prepare=slow_down)
        os.close(tells)
        assert os.read(told, 1) == b"x", (self.root / "stderr").read_text()
        os.close(told)
        time.sleep(rng.random() * 0.001 * _SWAP_STEPS)
        os.kill(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0

    def remove_output(self) -> None:
        """Go back to a source without an output."""
        for entry in (*self.root.glob("out*"), *self.root.glob(".out*")):
            subprocess.run(["rm", "-rf", str(entry)], check=True)

    def check_killed(self, *allowed: Files | None) -> None:
        """Check what a kill leaves: the source as it was, an output that is whole or none, and nothing unforeseen."""
        assert hashes(self.source) == self.before, "the source has changed"
        found = hashes(self.out) if self.out.exists() else None
        assert found in allowed or (found is None and hashes(self.root / ".out.replaced") in allowed), "half an output"
        names = {entry.name for entry in self.root.iterdir()}
        known = {"source", "one", "two", "stderr", "out", "out.partial", ".out.lock", ".out.replaced"}
        assert names <= known, names

    def check_failed(self) -> None:
        """Check what an error leaves: the source as it was, and nothing else."""
        assert hashes(self.source) == self.before, "the source has changed"
        assert {entry.name for entry in self.root.iterdir()} == {"source", "one", "two", "stderr"}
        text = (self.root / "stderr").read_text()
        assert text.startswith("Error: "), text
        assert text.count("\n") == 1, text


def hashes(path: Path) -> Files:
    """Return the hash of every file under a directory."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents(path).items()}


def run_kills(case: Case, n_kills: int, seed: int) -> tuple[int, int]:
    """Kill rewrites at random moments and continue them; return how many were hit, and how many had files finished."""
    rng = random.Random(seed)
    n_hit = n_finished = 0
    while n_hit < n_kills:
        case.remove_output()
        replacing = rng.random() < 0.25
        options = ["--force"] if replacing else []
        if replacing:
            assert case.finish("one") == 0
        allowed = (case.old, case.new) if replacing else (None, case.new)
        if not case.kill("two", *options, after_seconds=rng.random() * case.seconds):
            continue
        n_hit += 1
        case.check_killed(*allowed)
        journal = case.root / "out.partial" / JOURNAL_FILE
        n_finished += journal.exists() and journal.read_bytes().count(b"\n") > 1
        # A kill between the last rename and the end leaves the whole output: there is nothing to continue then.
        while (replacing or not case.out.exists()) and rng.random() < 0.4:
            if not case.kill("two", *options, "--resume", after_seconds=rng.random() * case.seconds):
                break
            n_hit += 1
            case.check_killed(*allowed)
        if not case.out.exists() or hashes(case.out) != case.new:
            assert case.finish("two", *options, "--resume") == 0, (case.root / "stderr").read_text()
        assert hashes(case.out) == case.new, "other bytes after --resume"
        if not replacing:
            # A kill in the instant between the last rename and the end leaves the lock file, which binds nobody.
            assert {entry.name for entry in case.root.iterdir()} - {".out.lock"} == {
                "source", "one", "two", "stderr", "out",
            }  # fmt: skip
    return n_hit, n_finished


def run_swap_kills(case: Case, n_kills: int, seed: int) -> tuple[int, int]:
    """Kill rewrites while they replace an old output; return how many were hit, and how many left something beside it.

    The old or the new output is whole after each, also where it is moved elsewhere then, and the next run leaves
    nothing but its output.
    """
    rng = random.Random(seed)
    case.remove_output()
    assert case.finish("one") == 0
    outputs = {"one": case.old, "two": case.new}
    other = "two"
    n_hit = n_left = 0
    moved = case.root / "moved"
    while n_hit < n_kills:
        if not case.kill_in_swap(other, rng):
            other = "one" if other == "two" else "two"
            continue
        n_hit += 1
        n_left += (case.root / ".out.replaced").exists()
        case.check_killed(case.old, case.new)
        if case.out.exists() and rng.random() < 0.5:
            case.out.rename(moved)
        placement = rng.choice(["one", "two"])
        if case.out.exists() or case.finish(placement) != 0:
            # Where it was killed between the renames, the old output is back in its place.
            assert hashes(case.out) in (case.old, case.new), "half an output was put back"
            assert case.finish(placement, "--force") == 0, (case.root / "stderr").read_text()
        assert hashes(case.out) == outputs[placement], "other bytes after a kill of the swap"
        if moved.exists():
            assert hashes(moved) in (case.old, case.new), "half an output"
            subprocess.run(["rm", "-rf", str(moved)], check=True)
        assert {entry.name for entry in case.root.iterdir()} == {"source", "one", "two", "stderr", "out"}
        other = "two" if placement == "one" else "one"
    return n_hit, n_left


def run_size_limits(case: Case, n_runs: int, seed: int) -> None:
    """Rewrite under limits on the size of a file, at which the system refuses to write on."""
    rng = random.Random(seed)
    largest = max(path.stat().st_size for path in case.source.rglob("*"))
    for _ in range(n_runs):
        case.remove_output()
        limit = rng.randrange(2000, largest - 1)
        code = case.finish("two", prepare=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit)))
        assert code == 5, (code, (case.root / "stderr").read_text())
        case.check_failed()


def run_full_disk(n_runs: int, seed: int) -> bool:
    """Rewrite on small file systems that fill up; tell whether any could be mounted."""
    command = [sys.executable, "-m", "tests.crashes.runs", "--on-tmpfs", "--kills", str(n_runs), "--seed", str(seed)]
    with tempfile.TemporaryDirectory() as name:
        mount = 'mount -t tmpfs -o size=20m none "$0" && exec "$@"'
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", mount, name, *command, name], capture_output=True, text=True, check=False
        )
        if "unshare" in done.stderr or "mount" in done.stderr:
            return False
        assert done.returncode == 0, done.stderr
        return True


def _fill(case: Case, n_runs: int, seed: int) -> None:
    """Leave too little room on the file system, at random, and rewrite as if nobody had looked beforehand."""
    rng = random.Random(seed)

    def look_away() -> None:
        ripple_place.checkpoint.rewrite.check_free_space = lambda *given, **more: None
        ripple_place.workflows.reorder.check_free_space = lambda *given, **more: None

    for _ in range(n_runs):
        case.remove_output()
        needed = sum(file.stat().st_size for file in case.source.rglob("*") if file.is_file())
        status = os.statvfs(case.root)
        room = rng.randrange(4096, int(1.7 * needed))
        filler = case.root.parent / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            file.write(bytes(max(0, status.f_bavail * status.f_frsize - room)))
        code = case.finish("two", prepare=look_away)
        filler.unlink()
        assert code == 5, (code, (case.root / "stderr").read_text())
        case.check_failed()


def main() -> None:
    """Run all loops and say what they went through."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--on-tmpfs", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        case = Case(Path(name))
        if options.on_tmpfs:
            _fill(case, options.kills, options.seed)
            return
        n_hit, n_finished = run_kills(case, options.kills, options.seed)
        print(f"killed {n_hit} times ({n_finished} with files finished), continued to the same bytes each time")
        n_hit, n_left = run_swap_kills(case, options.kills, options.seed)
        print(
            f"killed {n_hit} times while the old output made way ({n_left} with it aside), old or new whole each time"
        )
        run_size_limits(case, max(4, options.kills // 5), options.seed)
        print("limits on the size of a file: exit code 5 and nothing left")
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        hit = run_profile_kills(Path(name), max(1, options.kills // 2), options.seed)
        print(
            f"profile --append killed {hit['killed']} times ({hit['capturing']} with rows of a capture, "
            f"{hit['in the verdict']} with the profile in place): the old profile or the new one, and no strays"
        )
    mounted = run_full_disk(max(4, options.kills // 5), options.seed)
    print("full disk: " + ("exit code 5 and nothing left" if mounted else "not tried, nothing can be mounted here"))


if __name__ == "__main__":
    main()
