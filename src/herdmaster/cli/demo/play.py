"""The play: many files are counted, the primary is killed, a worker is killed, and the result is checked."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from herdmaster.api import Herd
from herdmaster.cli.demo.counting import Texts, count_words
from herdmaster.cli.demo.display import Display
from herdmaster.cli.demo.lookout import Lookout
from herdmaster.cli.demo.plain_loop import PlainLoop
from herdmaster.cli.demo.stage import CONNECT_TIMEOUT, Actor, Stage
from herdmaster.cli.failures import Failed
from herdmaster.errors import HerdError
from herdmaster.inspection.overview import Overview

SESSION_TIMEOUT: Final = 1.0
"""Seconds; short, so that a kill is noticed soon. A server with long ticks grants more."""

_READY_SECONDS: Final = 30.0
_RESULT_SECONDS: Final = 60.0
_WAKE_SECONDS: Final = 0.2
_WINDOW: Final = 300


class WordCount(msgspec.Struct, frozen=True):
    word: str
    count: int


class Report(msgspec.Struct, frozen=True):
    """What came of it. `*_killed_after` count results; `takeover` is in seconds from the kill to the next primary;
    `assigned_to_killed_worker` was seen a moment before the kill.
    """

    files: int
    repeat: int
    tasks: int
    seconds: float
    tasks_per_second: float
    words: int
    most_frequent: tuple[WordCount, ...]
    primary_killed_after: int
    takeover: float
    worker_killed_after: int
    assigned_to_killed_worker: int
    same_as_plain_loop: bool


class Play:
    """One run. Every method raises Failed for what cannot go on."""

    def __init__(self, stage: Stage, plain_loop: PlainLoop, lookout: Lookout, display: Display, herd: Herd) -> None:
        self._stage = stage
        self._plain_loop = plain_loop
        self._lookout = lookout
        self._display = display
        self._herd = herd
        self._killed_primary: tuple[int, int, float] | None = None  # results, pid, when
        self._killed_worker: tuple[int, int] | None = None  # results, what was in its inbox
        self._takeover: float | None = None
        self._noted_loss = False

    def run(self, texts: Texts, repeat: int) -> Report:
        self._wait_ready()
        files = texts.files
        total = len(files) * repeat
        self._display.say(f"{total:,} tasks: the words of {len(files):,} files of {texts.folder}, {times(repeat)}")
        self._display.begin(total)
        self._display.refresh(self._lookout.overview)
        started = time.monotonic()
        words = self._count(files * repeat)
        seconds = time.monotonic() - started
        if not self._noted_loss:  # the job may be over before the session of an idle worker is
            self._note_loss(self._wait_for(_has_one_worker, "the loss of the worker was not noticed"))
        self._display.end()
        assert self._killed_primary is not None
        assert self._killed_worker is not None
        assert self._takeover is not None
        expected = self._plain_loop.wait(self._display)
        return Report(
            files=len(files),
            repeat=repeat,
            tasks=total,
            seconds=round(seconds, 3),
            tasks_per_second=round(total / seconds, 1),
            words=words.total(),
            most_frequent=tuple(WordCount(*each) for each in words.most_common(10)),
            primary_killed_after=self._killed_primary[0],
            takeover=round(self._takeover, 2),
            worker_killed_after=self._killed_worker[0],
            assigned_to_killed_worker=self._killed_worker[1],
            same_as_plain_loop=words == Counter({word: count * repeat for word, count in expected.items()}),
        )

    def _wait_ready(self) -> None:
        overview = self._wait_for(
            lambda seen: seen.primary is not None and len(seen.backups) == 1 and len(seen.workers) == 2,
            "the masters and workers did not come up",
        )
        assert overview.primary is not None
        self._display.say(f"ready: primary {overview.primary.pid}, 1 backup, 2 workers")

    def _count(self, paths: list[str]) -> Counter[str]:
        words: Counter[str] = Counter()
        results = Arrivals(self._herd.task(count_words).map(paths, window=_WINDOW))
        done = 0
        last = time.monotonic()
        while done < len(paths):
            self._interfere(done, len(paths))
            try:
                words.update(results.next(_WAKE_SECONDS))
            except queue.Empty:
                if time.monotonic() - last > _RESULT_SECONDS:
                    raise self._stuck(f"no result for {_RESULT_SECONDS:.0f} s") from None
            except (OSError, HerdError) as error:
                raise Failed(f"a task failed: {error}", "herd demo") from None
            else:
                done += 1
                last = time.monotonic()
                self._display.advance(done)
        return words

    def _interfere(self, done: int, total: int) -> None:
        self._stage.check()
        if self._killed_primary is None:
            if done >= total * 3 // 10:
                self._kill_primary(done)
        elif self._takeover is None:
            overview = self._lookout.overview
            if _has_other_primary(overview, self._killed_primary[1]):
                self._note_takeover()
            elif done >= total * 6 // 10:
                killed = self._killed_primary[1]
                self._wait_for(lambda seen: _has_other_primary(seen, killed), "no backup became primary")
                self._note_takeover()
        elif self._killed_worker is None:
            # Soon after the takeover the inboxes may still be empty, and then there would be little to lose.
            if done >= total * (60 if self._is_a_worker_busy() else 95) // 100:
                self._kill_worker(done)
        elif not self._noted_loss:
            self._note_loss(self._lookout.overview)

    def _kill_primary(self, done: int) -> None:
        overview = self._lookout.overview  # to wait for a new one would let the job run on
        if overview is None or overview.primary is None:
            overview = self._wait_for(lambda seen: seen.primary is not None, "there is no primary")
        assert overview.primary is not None
        actor = _actor(self._stage.masters, overview.primary.pid)
        actor.kill()
        self._killed_primary = (done, actor.pid, time.monotonic())
        self._display.say(f"SIGKILL to the primary, {actor.pid}, after {done:,} results", "!")

    def _note_takeover(self) -> None:
        assert self._killed_primary is not None
        self._takeover = time.monotonic() - self._killed_primary[2]
        self._display.say(f"the backup is primary, {self._takeover:.1f} s after the kill", "+")

    def _kill_worker(self, done: int) -> None:
        overview = self._lookout.overview
        busiest = max(overview.workers if overview else (), key=lambda worker: worker.assigned, default=None)
        if busiest is None:
            raise self._stuck("there is no worker")
        actor = _actor(self._stage.workers, busiest.pid)
        actor.kill()
        self._killed_worker = (done, busiest.assigned)
        self._display.say(f"SIGKILL to a worker, {actor.pid}, after {done:,} results", "!")

    def _is_a_worker_busy(self) -> bool:
        overview = self._lookout.overview
        return overview is not None and any(worker.assigned for worker in overview.workers)

    def _note_loss(self, overview: Overview | None) -> None:
        if overview is not None and _has_one_worker(overview):
            self._noted_loss = True
            self._display.refresh(overview)
            self._display.say("the worker is known to be lost, and what it held is with the other one", "+")

    def _wait_for(self, condition: Callable[[Overview], bool], otherwise: str) -> Overview:
        limit = time.monotonic() + _READY_SECONDS
        while time.monotonic() < limit:
            self._stage.check()
            try:
                return self._lookout.wait_for(condition, 1.0)
            except TimeoutError:
                continue
        raise self._stuck(otherwise)

    def _stuck(self, why: str) -> Failed:
        return Failed(f"{why}. What the roles said last:\n{self._stage.log_tails()}", "herd demo")


class Arrivals:
    """A thread that takes results as they come, so that the demo goes on while there are none."""

    def __init__(self, results: Iterable[dict[str, int]]) -> None:
        self._queue: queue.SimpleQueue[dict[str, int] | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._take, args=(results,), name="arrivals", daemon=True).start()

    def next(self, seconds: float) -> dict[str, int]:
        """Raises queue.Empty after so long, and whatever a task raised."""
        found = self._queue.get(timeout=seconds)
        if isinstance(found, Exception):
            raise found
        return found

    def _take(self, results: Iterable[dict[str, int]]) -> None:
        try:
            for result in results:
                self._queue.put(result)
        except Exception as error:  # noqa: BLE001 - it is raised where the results are wanted
            self._queue.put(error)


def play(hosts: str, texts: Texts, repeat: int, display: Display) -> Report:
    """Starts the roles in the namespace of `hosts`, runs the job, stops them. Raises Failed."""
    with (
        Stage(hosts, SESSION_TIMEOUT) as stage,
        PlainLoop(texts.files) as plain_loop,
        Herd(hosts, session_timeout=SESSION_TIMEOUT, connect_timeout=CONNECT_TIMEOUT) as herd,
    ):
        lookout = Lookout(hosts, SESSION_TIMEOUT, lambda: display.refresh(lookout.overview))
        with lookout:
            try:
                return Play(stage, plain_loop, lookout, display, herd).run(texts, repeat)
            finally:
                display.end()


def times(repeat: int) -> str:
    return "once" if repeat == 1 else f"{repeat} times over"


def _has_one_worker(overview: Overview) -> bool:
    return len(overview.workers) == 1 and not overview.tasks.recovering


def _has_other_primary(overview: Overview | None, killed: int) -> bool:
    return overview is not None and overview.primary is not None and overview.primary.pid != killed


def _actor(actors: list[Actor], pid: int | None) -> Actor:
    for actor in actors:
        if actor.pid == pid and not actor.was_killed:
            return actor
    raise Failed(f"process {pid} is none of the demo's", "herd demo")
