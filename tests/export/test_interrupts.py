from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import pytest

from export.interrupts import check, held, listening, pressed


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def native(*, drops: bool = False) -> None:
    """A library that is interrupted in the middle of its work, and tells of it in its own way or not at all."""
    try:
        press()
    except KeyboardInterrupt:
        if not drops:
            raise RuntimeError("the callback failed") from None


@pytest.fixture(autouse=True)
def _handler_is_given_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before
    assert not pressed()


def num_done(block: AbstractContextManager[None], *steps: Callable[[], object]) -> int:
    """How many of the steps within a block are done when it is interrupted."""
    done = 0
    try:
        with block:
            for step in steps:
                step()
                done += 1
    except KeyboardInterrupt:
        return done
    raise AssertionError("it was not interrupted")


def test_a_press_is_raised_where_it_falls_unless_it_is_held() -> None:
    assert num_done(listening(), native, pressed) == 0
    assert num_done(listening(), press, pressed) == 0


def test_what_a_library_makes_of_a_press_is_the_press() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, listening():
        native()
    assert str(caught.value.__cause__) == "the callback failed"


def test_a_dropped_press_is_found_at_the_next_check() -> None:
    assert num_done(listening(), check, partial(native, drops=True), pressed, check, pressed) == 3


def test_a_held_press_waits_for_a_check() -> None:
    assert num_done(held(), check, native, pressed, check, pressed) == 3


def test_a_held_press_is_raised_at_the_end_of_the_block() -> None:
    assert num_done(held(), press, pressed) == 2


def test_a_second_press_is_at_once_also_when_held() -> None:
    assert num_done(held(), press, pressed, press, pressed) == 2


def test_a_hold_ends_with_its_block_and_leaves_the_listener() -> None:
    def hold() -> None:
        with held():
            pass

    assert num_done(listening(), hold, press, pressed) == 1


def test_other_threads_may_ask_and_change_nothing() -> None:
    found: list[object] = []

    def work() -> None:
        handler = signal.getsignal(signal.SIGINT)
        with held():
            found.append(signal.getsignal(signal.SIGINT) is handler)
        found.append(num_done(nullcontext(), check))

    def thread() -> None:
        other = threading.Thread(target=work)
        other.start()
        other.join()

    assert num_done(held(), press, thread) == 2
    assert found == [True, 0]


def test_an_error_without_a_press_stays_what_it_is() -> None:
    with pytest.raises(ValueError, match="mine"), listening(), held():
        raise ValueError("mine")


def test_where_it_is_ignored_it_stays_ignored() -> None:
    code = (
        "import os, signal; from export.interrupts import held, check\n"
        "with held(): os.kill(os.getpid(), signal.SIGINT); check()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN) and None,
        check=False,
    )
    assert done.returncode == 0
