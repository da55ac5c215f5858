"""What Ctrl-C does while the session ends: it hurries the end, and breaks nothing off."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def at_ctrl_c(act: Callable[[], None]) -> Iterator[None]:
    """Have Ctrl-C call `act` meanwhile, in place of raising KeyboardInterrupt.

    Only where it would raise that: elsewhere somebody else has decided what it does.
    """
    mine = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not mine:
        yield
        return
    signal.signal(signal.SIGINT, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
