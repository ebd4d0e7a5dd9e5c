"""How long the blocks of a run may be searched: a time limit shared out over them, and Ctrl-C, which keeps the best."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ripple_place.ordering.activity import Pulse


class SearchClock:
    """Tells searches, side by side on several threads, whether to go on.

    Parameters
    ----------
    n_searches : int
        How many there will be.
    n_threads : int
        How many go on at a time.
    time_limit_s : float, optional
        Wall clock until all of them are to be done; each gets an even share of what is left when it begins.
    interrupt : threading.Event, optional
        Ends them all once it is set.

    Attributes
    ----------
    cut_short : str or None
        What ended a search before its effort was spent: ``time limit`` or ``interrupt``. Then the result is no longer
        a function of the input alone.
    """

    def __init__(
        self,
        n_searches: int,
        n_threads: int = 1,
        time_limit_s: float | None = None,
        interrupt: threading.Event | None = None,
    ) -> None:
        self.cut_short: str | None = None
        self.counting = threading.Lock()
        """Held while kernels run on all threads: not every threading layer of numba bears two of them at a time."""
        self._n_left, self._n_threads, self._interrupt = n_searches, n_threads, interrupt or threading.Event()
        self._end = math.inf if time_limit_s is None else time.perf_counter() + time_limit_s
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End all searches: each stops when it next asks whether to go on."""
        self._interrupt.set()

    def begin(self, tell: Callable[[float, float], object] = lambda done_share, gain_share: None) -> Pulse:
        """Return the pulse of a search that begins now; `tell` hears what it hears."""
        with self._lock:
            n_left, self._n_left = max(1, self._n_left), self._n_left - 1
        now = time.perf_counter()
        end = now + max(0.0, self._end - now) * min(1.0, self._n_threads / n_left)

        def pulse(done_share: float, gain_share: float) -> bool:
            tell(done_share, gain_share)
            if done_share >= 1.0:
                return True
            if self._interrupt.is_set():
                self.cut_short = "interrupt"
            elif time.perf_counter() > end:
                self.cut_short = self.cut_short or "time limit"
            else:
                return True
            return False

        return pulse


@contextmanager
def stop_on_interrupt() -> Iterator[threading.Event]:
    """Set an event at the first Ctrl-C instead of raising `KeyboardInterrupt`; the second one raises as ever.

    Only the main thread hears of interrupts: elsewhere the event is never set; nor is it where they are ignored, as a
    shell has them ignored by what it runs in the background.
    """
    interrupt, before = threading.Event(), signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is signal.SIG_IGN:
        yield interrupt
        return

    def note(number: int, frame: object) -> None:
        interrupt.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # Not where an end that has begun by another signal leaves it.
            signal.signal(signal.SIGINT, before)
