"""Commands that end before their time: signals, a second one, Ctrl-C while the program still loads, limits."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

import pytest

from ripple_place import __main__ as entry
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.cli.ending import EndedBySignal, orderly_end
from ripple_place.flash import simulator
from ripple_place.placement import write_placement
from ripple_place.placing.search_clock import SearchClock
from tests.builders import contents, random_placement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]

ENDS = [
    (signal.SIGINT, 130, "Interrupted."), (signal.SIGTERM, 143, "Ended by SIGTERM."),
    (signal.SIGHUP, 129, "Ended by SIGHUP."), (signal.SIGXCPU, 152, "Ended by SIGXCPU."),
]  # fmt: skip
NUMBERS = [number for number, _, _ in ENDS]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Give tests the handlers that a program starts with, whatever pytest was started under."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    for number in NUMBERS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class SignalAtCall:
    """Stands in for a function, and sends this process a signal at its n-th call."""

    def __init__(self, function: Callable[..., Any], n: int, number: int) -> None:
        self.function, self.calls_left, self.number = function, n, number

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Send the signal, or call the function."""
        self.calls_left -= 1
        if self.calls_left == 0:
            os.kill(os.getpid(), self.number)
        return self.function(*arguments, **options)


@pytest.mark.parametrize(("number", "code", "text"), ENDS)
def test_a_rewrite_can_go_on(
    run: Run, tmp_path: Path, pico_opt: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int, text: str
) -> None:
    """What Ctrl-C leaves, every signal that asks for the end leaves: no lock, a partial output, and the hint."""
    model = describe_ffn(Checkpoint.open(pico_opt))
    write_placement(tmp_path / "p", random_placement(model))
    arguments = ["reorder", pico_opt, "--placement", "p", "--out", "out"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", SignalAtCall(os.fsync, 5, number))
        outcome = run(*arguments)
    assert (outcome.code, outcome.stdout) == (code, "")
    hint = f"{tmp_path / 'out.partial'} stays: the same command with --resume goes on from it."
    assert outcome.stderr.strip() == f"{text} {hint}"
    assert not list(tmp_path.glob(".*"))
    assert run(*arguments, "--resume").code == 0
    assert run("verify", pico_opt, "out").code == 0


def test_a_rewrite_begun_anew_says_so(
    run: Run, tmp_path: Path, pico_opt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever did not know of --resume learns of it; a restored checkpoint is simply written again."""
    write_placement(tmp_path / "p", random_placement(describe_ffn(Checkpoint.open(pico_opt))))
    rewrite, restore = ["reorder", pico_opt, "--placement", "p", "--out", "out"], ["verify", "out", "--restore", "back"]
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", SignalAtCall(os.fsync, 5, signal.SIGTERM))
        assert run(*rewrite).code == 143
    outcome = run(*rewrite)
    assert outcome.code == 0
    assert "out.partial was there, of a run that did not end: begun anew (--resume would" in outcome.stderr
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", SignalAtCall(os.fsync, 3, signal.SIGTERM))
        outcome = run(*restore)
    assert outcome.code == 143
    assert outcome.stderr.strip().endswith("back.partial stays: the same command replaces it, or remove it.")
    assert run(*restore).code == 0
    assert {path.name for path in tmp_path.iterdir()} == {pico_opt.name, "p", "out", "back"}


@pytest.mark.parametrize(("number", "code", "text"), ENDS)
def test_a_file_half_written_is_gone(
    run: Run, tmp_path: Path, trace: str, monkeypatch: pytest.MonkeyPatch, number: int, code: int, text: str
) -> None:
    """And its lock too."""
    before = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", SignalAtCall(os.fsync, 1, number))
    outcome = run("profile", trace, "--out", "p")
    assert (outcome.code, outcome.stderr.strip()) == (code, text)
    assert contents(tmp_path) == before


def test_searches_on_threads_end_too(run: Run, profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal to the main thread stops a search of hours in compiled code on two threads."""
    monkeypatch.setattr(SearchClock, "begin", begin := SignalAtCall(SearchClock.begin, 2, signal.SIGTERM))
    monkeypatch.setattr(SearchClock, "begin", lambda *arguments: begin(*arguments))
    outcome = run("reorder", "--profile", profile, "--out", "p", "--ordering", "flash-time", "--bundle-bytes", "4KiB",
                  "--effort", 10**8, "--threads", 2)  # fmt: skip
    assert (outcome.code, outcome.stderr.strip()) == (143, "Ended by SIGTERM.")


def test_simulations_on_threads_end_too(run: Run, trace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search on another thread stops before its next rows."""
    began, stopped = threading.Event(), []

    def simulate_block(name: str, *arguments: Any) -> Any:
        if name == "layers.0":
            began.wait(60)
            raise EndedBySignal(signal.SIGTERM)
        began.set()
        assert arguments[-1].wait(60)
        with pytest.raises(CancelledError):
            original(name, *arguments)
        stopped.append(name)

    original = simulator.simulate_block
    monkeypatch.setattr(simulator, "simulate_block", simulate_block)
    outcome = run("simulate", trace, "--layout", "original", "--bundle-bytes", "4KiB", "--threads", 2)
    assert outcome.code == 143
    assert stopped == ["layers.1"]


def test_the_second_signal_kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system does, with nothing of Python's in between; afterwards, handlers are what they were."""
    before = [signal.getsignal(number) for number in NUMBERS]
    with pytest.raises(EndedBySignal), orderly_end():  # noqa: PT012
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            assert {signal.getsignal(number) for number in NUMBERS} == {signal.SIG_DFL}
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_the_limit_on_processor_time_is_told_once() -> None:
    """The system repeats the signal each second: putting things right may take longer."""
    with pytest.raises(EndedBySignal), orderly_end():  # noqa: PT012
        try:
            signal.raise_signal(signal.SIGXCPU)
        finally:
            signal.raise_signal(signal.SIGXCPU)


@pytest.mark.parametrize("number", NUMBERS)
def test_what_is_ignored_stays_ignored(number: int) -> None:
    """As SIGHUP under nohup, and Ctrl-C in the background."""
    signal.signal(number, signal.SIG_IGN)
    with orderly_end():
        signal.raise_signal(number)
    assert signal.getsignal(number) is signal.SIG_IGN


def test_on_other_threads_nothing_changes() -> None:
    """Python takes handlers from the main thread alone."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with orderly_end():
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []


def test_interrupted_while_it_loads(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C in the first half second, while modules are imported, is no traceback either."""

    class Interrupted:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "ripple_place.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "ripple_place.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Interrupted, *sys.meta_path])
    with pytest.raises(SystemExit) as exit_:
        entry.main()
    assert exit_.value.code == 130
    assert capsys.readouterr() == ("", "Interrupted.\n")


def test_a_limit_on_the_size_of_files(run: Run, tmp_path: Path, trace: str) -> None:
    """An error like that of a full disk, which says what to do; not the end by SIGXFSZ."""
    before = contents(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        outcome = run("profile", trace, "--out", "p")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert outcome.code == 5
    assert f"p: {os.strerror(errno.EFBIG)}. Raise the limit on file sizes" in outcome.stderr
    assert contents(tmp_path) == before
