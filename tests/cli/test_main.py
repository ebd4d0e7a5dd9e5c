"""Exit codes: what each kind of failure ends in, what it says, and that it leaves nothing behind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ripple_place import __version__, errors
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.cli.main import EXIT_CODES
from ripple_place.placement import write_placement
from tests.builders import contents, random_placement
from tests.failing_call import FailingCall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]


def run_process(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m ripple_place`` as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "ripple_place", *arguments], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "stdout", "stderr"),
    [
        (["--version"], 0, f"ripple-place, version {__version__}", ""),
        (["profile", "bad.safetensors", "--out", "p"], 1, "", "Error: bad.safetensors: found 4 bytes; expected a"),
        (["profile", "none.npy", "--out", "p"], 2, "", "Error: none.npy: found nothing there; expected a trace"),
        (["profile"], 2, "", "Error: Missing argument 'SOURCE...'"),
        (["nonsense"], 2, "", "Error: No such command 'nonsense'"),
        (["profile", ".", "--out", "p"], 2, "", "Error: .: found a directory without config.json; expected a Hugging"),
    ],
)
def test_as_a_process(tmp_path: Path, arguments: list[str], code: int, stdout: str, stderr: str) -> None:
    """The module runs, its streams are the right ones, and the code reaches the shell; no traceback is shown."""
    (tmp_path / "bad.safetensors").write_bytes(b"bad\n")
    before = contents(tmp_path)
    done = run_process(tmp_path, *arguments)
    assert (done.returncode, contents(tmp_path)) == (code, before)
    assert done.stdout.startswith(stdout)
    assert stderr in done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == bool(code)


def test_every_error_has_a_code() -> None:
    """Unsupported before malformed, since an unsupported architecture is both; nothing of ours is a bug."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    codes = {kind.__name__: next(code for base, code in EXIT_CODES if issubclass(kind, base)) for kind in kinds}
    assert codes == {
        "RipplePlaceError": 1, "TensorFileError": 1, "TraceFormatError": 1, "PlacementError": 1,
        "CheckpointError": 1, "DeviceConfigError": 1, "UsageError": 2, "UnsupportedError": 3,
        "UnsupportedArchitectureError": 3, "VerificationError": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["profile", "empty.npy", "--out", "p"], 2, "rename the file"),
        (["profile", "{trace}", "--out", "{trace}", "--force"], 2, "choose another name"),
        (["profile", "{trace}", "--out", "none/p"], 2, "make the directory first"),
        (["profile", "{trace}", "--out", "p", "--neighbors", "0"], 2, "0 is not in the range"),
        (["reorder", "--profile", "{trace}", "--out", "p"], 1, "run `ripple-place profile {trace} --out"),
        (["reorder", "--profile", "{profile}", "--out", "{profile}", "--force"], 2, "choose another name"),
        (["reorder", "--profile", "{profile}", "--out", "p", "--break-even-gap", "nan"], 2, "--break-even-gap"),
        (["reorder", "--profile", "{profile}", "--out", "p", "--layers", "0-5"], 2, "name layers that exist"),
        (["reorder", "--profile", "{profile}", "--out", "p", "--bundle-bytes", "4QB"], 2, "such as 4kib"),
        (["reorder", "--profile", "{profile}", "--out", "p", "--ordering", "magic"], 2, "'magic' is not one of"),
        (["reorder", "--profile", "{profile}", "--out", "p", "--device", "ufs9"], 2, "expected one of"),
        (
            ["reorder", "--profile", "{profile}", "--out", "p", "--device", "m1-max", "--break-even-gap", "1"], 2,
            "leave one out",
        ),
        (["reorder", "none", "--profile", "{profile}", "--out", "out"], 2, "give the directory that holds config.json"),
        (["reorder", "hub/model", "--profile", "{profile}", "--out", "out"], 2, "hf download hub/model"),
        (["reorder", "mystery", "--profile", "{profile}", "--out", "out"], 3, "mystery"),
        (["simulate", "{trace}", "--layout", "original"], 2, "add --bundle-bytes"),
        (["simulate", "{trace}"], 2, "found no layout and no system"),
        (["simulate", "{trace}", "--layout", "{trace}"], 1, "give a file that `ripple-place reorder` wrote"),
        (["simulate", "{trace}", "--layout", "original", "--dram-budget", "0.1"], 2, "add the unit"),
        (["simulate", "{trace}", "--layout", "original", "--dram-budget", "20"], 2, "20% for a share, or 20mib or 20b"),
        (["reorder", "--profile", "{profile}", "--out", "out", "--dram-budget", "20"], 2, "20% for a share, or 20mib"),
        (["simulate", "{trace}", "--layout", "original", "--bundle-bytes", "4096", "--sweep", "dram-budget=0,10,20"], 2,
         "10% for a share, or 10mib or 10b"),
        (["simulate", "{trace}", "--layout", "original", "--cache", "lru"], 2, "add --dram-budget 10%"),
        (["simulate", "{trace}", "--layout", "original", "--collapse", "-1"], 2, "found '-1'; expected auto, off"),
        (["simulate", "{trace}", "--layout", "original", "--collapse", "9" * 30], 2, "expected auto, off"),
        (["simulate", "{trace}", "--layout", "original", "--html", "{trace}", "--force"], 2, "choose another name"),
        (["simulate", "{trace}", "--layout", "original", "--html", "x", "--svg", "x"], 2, "choose another name"),
        (["simulate", "{trace}", "--layout", "original", "--threads", "0"], 2, "0 is not in the range"),
        (["verify", "mystery", "none"], 2, "give the directory that was named with --out"),
    ],
)  # fmt: skip
def test_refusals(
    run: Run, tmp_path: Path, trace: str, profile: str, arguments: list[str], code: int, message: str
) -> None:
    """Each ends in its code and says what to do, on stderr, and changes no file."""
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "mystery").mkdir()
    (tmp_path / "mystery" / "config.json").write_text('{"model_type": "mystery"}')
    from safetensors.numpy import save_file

    save_file({}, tmp_path / "mystery" / "model.safetensors")
    before = contents(tmp_path)
    outcome = run(*(argument.format(trace=trace, profile=profile) for argument in arguments))
    assert (outcome.code, outcome.stdout) == (code, ""), outcome.stderr
    assert message.format(trace=trace) in outcome.stderr.lower()
    assert outcome.stderr.splitlines()[-1].startswith("Error: ")
    assert contents(tmp_path) == before


def test_verification_failed(run: Run, tmp_path: Path, pico_opt: Path, profile: str) -> None:
    """Code 4 if a byte of the output is another than it was; the message says in which file."""
    assert run("reorder", pico_opt, "--profile", profile, "--out", "out").code == 0
    assert run("verify", pico_opt, "out").code == 0
    path = tmp_path / "out" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    outcome = run("verify", pico_opt, "out")
    assert (outcome.code, outcome.stdout) == (4, "")
    assert "model.safetensors" in outcome.stderr


def test_truncated_weights(run: Run, tmp_path: Path, pico_opt: Path, profile: str) -> None:
    """A source that was not downloaded to its end is bad data."""
    path = pico_opt / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    outcome = run("reorder", pico_opt, "--profile", profile, "--out", "out")
    assert outcome.code == 1
    assert "truncated" in outcome.stderr
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("code", "remedy"),
    [(errno.ENOSPC, "Make room"), (errno.EIO, "Check the storage"), (errno.EACCES, "Check the permissions")],
)
@pytest.mark.parametrize("command", ["profile", "placement", "checkpoint", "html"])
def test_storage_fails(
    run: Run, tmp_path: Path, trace: str, profile: str, pico_opt: Path, monkeypatch: pytest.MonkeyPatch,
    command: str, code: int, remedy: str,
) -> None:  # fmt: skip
    """Code 5, the system's words, what to do, and nothing left: neither the output nor a part of it."""
    arguments = {
        "profile": ["profile", trace, "--out", "out"],
        "placement": ["reorder", "--profile", profile, "--out", "out"],
        "checkpoint": ["reorder", pico_opt, "--profile", profile, "--out", "out"],
        "html": ["simulate", trace, "--layout", "original", "--bundle-bytes", "4KiB", "--html", "out"],
    }[command]

    def fails(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    before = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", fails)
    outcome = run(*arguments)
    assert outcome.code == 5
    assert os.strerror(code) in outcome.stderr
    assert remedy in outcome.stderr
    assert contents(tmp_path) == before
    assert not (tmp_path / "out.partial").exists()


def test_a_name_too_long(run: Run, trace: str) -> None:
    """The system's own refusals are no usage errors of ours to foresee."""
    outcome = run("profile", trace, "--out", "x" * 300)
    assert outcome.code == 5
    assert "File name too long" in outcome.stderr


def test_an_interrupted_rewrite_says_how_to_go_on(
    run: Run, tmp_path: Path, pico_opt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does go on, to an output that verifies."""
    model = describe_ffn(Checkpoint.open(pico_opt))
    write_placement(tmp_path / "p", random_placement(model))
    arguments = ["reorder", pico_opt, "--placement", "p", "--out", "out"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", FailingCall(os.fsync, 5, KeyboardInterrupt()))
        outcome = run(*arguments)
    assert outcome.code == 130
    assert "out.partial stays: the same command with --resume goes on from it." in outcome.stderr
    assert run(*arguments, "--resume").code == 0
    assert run("verify", pico_opt, "out").code == 0
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.parametrize("command", ["profile", "reorder", "simulate", "verify"])
def test_interrupted(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, profile: str) -> None:
    """Ctrl-C ends in 130, without a traceback."""

    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    arguments = {
        "profile": [profile, "--out", "p"],
        "reorder": ["--profile", profile, "--out", "p"],
        "simulate": [profile, "--layout", "original"],
        "verify": ["a", "b"],
    }
    monkeypatch.setattr(f"ripple_place.workflows.{command}.{command}", interrupted)
    before = contents(tmp_path)
    outcome = run(command, *arguments[command])
    assert (outcome.code, outcome.stdout) == (130, "")
    assert outcome.stderr.strip() == "Interrupted."
    assert contents(tmp_path) == before


def test_interrupted_while_writing(run: Run, tmp_path: Path, trace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of a file leaves no part of it."""

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    before = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", interrupted)
    assert run("profile", trace, "--out", "p").code == 130
    assert contents(tmp_path) == before


def test_bugs_keep_their_traceback(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str) -> None:
    """What is none of our errors is not dressed up as one."""
    from ripple_place.cli.main import main

    def bug(*args: object, **more: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("ripple_place.workflows.simulate.simulate", bug)
    monkeypatch.setattr(sys, "argv", ["ripple-place", "simulate", profile, "--layout", "original"])
    with pytest.raises(ZeroDivisionError, match="oops"):
        main()
