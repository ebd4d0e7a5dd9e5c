"""How a command ends before its time: in order where a signal asks for the end, at once where a second one does."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU") if hasattr(signal, name)
)
"""What a terminal, a scheduler or a limit on processor time sends before the system kills."""


class EndedBySignal(KeyboardInterrupt):
    """A signal asks for the end. Whatever puts things right after Ctrl-C does so after this, too.

    Attributes
    ----------
    number : signal.Signals
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


@contextmanager
def orderly_end() -> Iterator[None]:
    """Have the first signal raise, so that locks and partial outputs are put right; the next one kills.

    A signal that is ignored, as SIGHUP is under nohup, stays ignored.

    Raises
    ------
    EndedBySignal
        From wherever the main thread is.
    """
    handlers = {number: signal.getsignal(number) for number in _ENDING_SIGNALS}
    changed = [number for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread():
        changed = []  # Python hears of signals nowhere else.

    def end(number: int, frame: object) -> None:
        for other in changed:
            # The system repeats SIGXCPU each second; its own limit is what kills then.
            signal.signal(other, signal.SIG_IGN if other == number == signal.SIGXCPU else signal.SIG_DFL)
        raise EndedBySignal(number)

    for number in changed:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, handlers[number])
