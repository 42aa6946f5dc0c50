from __future__ import annotations

import threading
import time
from collections.abc import Callable

from herdmaster.pools.seat import Seat


class Interruption(Exception):
    """What is sent."""


class Racer:
    """A thread that runs one short piece of code after the other, each open to interruption, with stretches between
    that are not. Another interrupts whichever it has seen last, as fast as it can."""

    def __init__(self, rounds: int) -> None:
        self.code: object = None
        self.hit = self.missed = self.leaked = 0
        self._rounds = rounds
        self.seat = Seat(self._work, "racer")

    def _work(self, seat: Seat) -> None:
        seat.enter()
        rounds = 0
        # On a busy machine the other thread may have no turn in all of the rounds.
        while rounds < self._rounds or not ((self.hit and self.missed) or rounds == 100 * self._rounds):
            rounds += 1
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
            self.seat.interrupt(self.code, Interruption)


def test_an_interruption_is_raised_in_the_code_that_it_is_for_or_nowhere(hasty_switches: None) -> None:
    racer = Racer(30_000)
    racer.run()

    assert racer.leaked == 0
    assert racer.hit > 0
    assert racer.missed > 0, "a race that one side always wins is none"
    assert racer.hit + racer.missed >= 30_000


def start(work: Callable[[Seat], None]) -> Seat:
    seat = Seat(work, "seat")
    seat.thread.start()
    return seat


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
            while time.monotonic() < end:
                pass
        except Interruption:
            caught.append(1)
        try:
            for _ in range(100_000):
                pass
        except Interruption:
            caught.append(2)
        seat.close()

    seat = start(work)
    ready.wait(10)
    while seat.thread.is_alive():
        seat.interrupt(code, Interruption)
    assert caught == [1]


def test_a_thread_that_has_left_is_told_nothing() -> None:
    """By then its ident may be another thread's; here it is made to be this one's."""

    def work(seat: Seat) -> None:
        seat.enter()
        seat.leave()

    seat = start(work)
    seat.thread.join(10)
    seat._ident = threading.get_ident()
    seat.end()
    seat.interrupt(None, Interruption)
    for _ in range(1000):
        pass
