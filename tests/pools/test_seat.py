from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from herdmaster.pools import seat
from herdmaster.pools.seat import Seat


class Interruption(Exception):
    """What is sent."""


class Racer:
    """A thread that runs one short piece of code after the other, each open to interruption, with stretches between
    that are not. Another thread interrupts the piece that it sees last, as fast as it can.

    It ends when each side has won often enough. The thread nearly always wins, and under load a single round can take
    as long as the system lets another process run: so neither side can be expected to win in a number of rounds.
    """

    def __init__(self, enough: int, seconds: float) -> None:
        self.code: object = None
        self.rounds = self.hit = self.missed = self.leaked = 0
        self._enough = enough
        self._limit = time.monotonic() + seconds
        self.seat = Seat(self._work, "racer")

    def _work(self, seat: Seat) -> None:
        seat.enter()
        while min(self.hit, self.missed) < self._enough and time.monotonic() < self._limit:
            self.rounds += 1
            self._round(seat, object())
            try:
                for _ in range(20):
                    pass
            except Interruption:
                self.leaked += 1
        seat.leave()

    def _round(self, seat: Seat, code: object) -> None:
        try:
            try:
                seat.open(code)
                self.code = code
                for _ in range(20):
                    pass
            finally:
                seat.close()
        except Interruption:
            self.hit += 1
        else:
            self.missed += 1

    def run(self) -> None:
        self.seat.thread.start()
        while self.seat.thread.is_alive():
            self.seat.interrupt(self.code, Interruption)  # without a pause: so the thread often waits for the lock


def test_an_interruption_is_raised_in_the_code_that_it_is_for_or_nowhere(hasty_switches: None) -> None:
    racer = Racer(enough=3, seconds=30)
    racer.run()

    assert racer.leaked == 0
    assert racer.hit > 0
    assert racer.missed > 0, "a race that one side always wins is none"
    assert racer.hit + racer.missed == racer.rounds


class Interpreter:
    """Keeps what is sent to threads; None takes it back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[type[BaseException] | None] = []
        monkeypatch.setattr(seat, "_set_async_exception", self._set)

    def _set(self, ident: int, exception: object) -> None:
        assert ident == threading.get_ident()
        self.sent.append(exception if isinstance(exception, type) else None)


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Interpreter:
    return Interpreter(monkeypatch)


@pytest.fixture
def own_seat(interpreter: Interpreter) -> Seat:
    """A seat whose thread is this one."""
    found = Seat(lambda _seat: None, "seat")
    found.enter()
    return found


def test_what_was_sent_is_taken_back_at_the_end_of_the_code(interpreter: Interpreter, own_seat: Seat) -> None:
    own_seat.open("code")
    own_seat.interrupt("code", Interruption)
    own_seat.close()

    assert interpreter.sent == [Interruption, None]


def test_nothing_is_taken_back_where_nothing_was_sent(interpreter: Interpreter, own_seat: Seat) -> None:
    own_seat.open("code")
    own_seat.close()

    assert interpreter.sent == []


def test_only_the_code_that_is_open_is_interrupted(interpreter: Interpreter, own_seat: Seat) -> None:
    own_seat.interrupt("code", Interruption)
    own_seat.open("code")
    own_seat.interrupt("other code", Interruption)
    own_seat.close()
    own_seat.interrupt("code", Interruption)

    assert interpreter.sent == []


def test_each_code_can_be_interrupted_once(interpreter: Interpreter, own_seat: Seat) -> None:
    for code in ("first", "second"):
        own_seat.open(code)
        own_seat.interrupt(code, Interruption)
        own_seat.interrupt(code, Interruption)
        own_seat.close()

    assert interpreter.sent == [Interruption, None, Interruption, None]


def test_a_thread_that_was_told_to_end_is_not_interrupted(interpreter: Interpreter, own_seat: Seat) -> None:
    own_seat.open("code")
    own_seat.end()
    own_seat.interrupt("code", Interruption)

    assert interpreter.sent == [SystemExit]


def _spin(end: float) -> None:
    """Loop until `end`, in a frame of its own: what is raised at a loop's jump may miss a `try` around the loop.

    CPython 3.13 leaves the jump of a `while` out of the exception table (dis shows it).
    """
    while time.monotonic() < end:
        pass


def start(work: Callable[[Seat], None]) -> Seat:
    started = Seat(work, "seat")
    started.thread.start()
    return started


def test_code_is_interrupted_once() -> None:
    caught: list[int] = []
    code = object()
    ready = threading.Event()

    def work(seat: Seat) -> None:
        seat.enter()
        end = time.monotonic() + 30
        try:
            seat.open(code)
            ready.set()  # it may be raised from here on
            _spin(end)
        except Interruption:
            caught.append(1)
        try:
            _spin(time.monotonic() + 0.01)
        except Interruption:
            caught.append(2)
        seat.close()

    racing = start(work)
    ready.wait(10)
    while racing.thread.is_alive():
        racing.interrupt(code, Interruption)
    assert caught == [1]


def test_a_thread_that_has_left_is_told_nothing() -> None:
    """By then its ident may be another thread's; here it is made to be this one's."""

    def work(seat: Seat) -> None:
        seat.enter()
        seat.leave()

    left = start(work)
    left.thread.join(10)
    left._ident = threading.get_ident()
    left.end()
    left.interrupt(None, Interruption)
    for _ in range(1000):
        pass
