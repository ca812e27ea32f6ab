"""Ctrl-C, where native calls are made.

Python raises KeyboardInterrupt wherever it happens to be. Inside a native library that calls back into Python it may
come out as a RuntimeError, be printed by a destructor, or be dropped. So presses are counted here: work that calls such
a library *holds* the first one until a place of its own choosing, and an error that follows a press is the press.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Keyboard:
    """What was pressed since somebody began to listen; one per process, as its handler is."""

    num_presses = 0
    num_holding = 0


def pressed() -> bool:
    """Whether Ctrl-C was pressed within the innermost block of this module; from any thread."""
    return _Keyboard.num_presses > 0


def check() -> None:
    """Raise the press that is being held, or that a native call dropped; from any thread.

    Raises:
        KeyboardInterrupt: there was one.
    """
    if pressed():
        raise KeyboardInterrupt


@contextmanager
def listening() -> Iterator[None]:
    """Count presses. An error that comes out of the block after one is taken for what a library made of it.

    Outside the main thread, and where Ctrl-C is ignored, nothing changes.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if not _is_main() or signal.getsignal(signal.SIGINT) in (_note, signal.SIG_IGN, None):
        yield
        return
    before = signal.signal(signal.SIGINT, _note)
    try:
        yield
    except Exception as error:
        if pressed():
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
        _Keyboard.num_presses = 0


@contextmanager
def held() -> Iterator[None]:
    """Within the block the first press waits for :func:`check`, or for the end of the block; the second is at once.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    with listening():
        if not _is_main():
            yield
            return
        _Keyboard.num_holding += 1
        try:
            yield
        finally:
            _Keyboard.num_holding -= 1
        check()


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _note(number: int, frame: Any) -> None:
    _Keyboard.num_presses += 1
    if _Keyboard.num_presses > 1 or not _Keyboard.num_holding:
        raise KeyboardInterrupt
