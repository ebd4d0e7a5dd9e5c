"""Cutting searches short: by a limit shared out over them, and by Ctrl-C, which keeps what was found."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from ripple_place.placing.search_clock import SearchClock, stop_on_interrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_without_a_limit_searches_go_on() -> None:
    """Nothing stops them, and nothing is said to have been cut short."""
    clock = SearchClock(2)
    heard = []
    pulse = clock.begin(lambda done, gain: heard.append((done, gain)))
    assert pulse(0.5, 0.1)
    assert pulse(1.0, 0.2)
    assert heard == [(0.5, 0.1), (1.0, 0.2)]
    assert clock.cut_short is None


def test_a_limit_that_has_passed_stops_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each search gets an even share of the time that is left, two at a time here; what is done stays done."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = SearchClock(4, n_threads=2, time_limit_s=40.0)
    first, second = clock.begin(), clock.begin()
    now[0] = 119.0
    assert first(0.5, 0.0)
    now[0] = 121.0
    assert not first(0.5, 0.0)
    assert clock.cut_short == "time limit"
    assert second(0.5, 0.0), "three were left when the second began: it has 40 * 2 / 3 seconds"
    last = clock.begin()
    now[0] = 139.0
    assert last(0.9, 0.0)
    now[0] = 141.0
    assert not last(0.9, 0.0)
    assert last(1.0, 0.0), "a search that has spent its effort is not cut short"


@pytest.fixture
def handler() -> Iterator[Callable[[Any], None]]:
    """Return what sets the handler of interrupts for a test, whatever the tests were started under."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def test_the_first_interrupt_stops_the_search_and_the_second_raises(handler: Callable[[Any], None]) -> None:
    """The event is set; the handler from before is back for the next one, and after the block."""
    before = signal.default_int_handler
    handler(before)
    with stop_on_interrupt() as interrupt:
        clock = SearchClock(1, interrupt=interrupt)
        pulse = clock.begin()
        assert pulse(0.1, 0.0)
        signal.raise_signal(signal.SIGINT)
        assert interrupt.is_set()
        assert not pulse(0.2, 0.0)
        assert clock.cut_short == "interrupt"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_hear_of_no_interrupt() -> None:
    """Handlers can be set in the main thread alone; elsewhere the library works without."""
    found = []

    def work() -> None:
        with stop_on_interrupt() as interrupt:
            found.append(interrupt.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_ignored_interrupts_stay_ignored(handler: Callable[[Any], None]) -> None:
    """What a shell runs in the background is not to be stopped by a Ctrl-C that is meant for something else."""
    handler(signal.SIG_IGN)
    with stop_on_interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert not interrupt.is_set()
