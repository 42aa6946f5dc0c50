"""Turns the durations of submitted tasks (delay, expiry) into times of the servers' clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from herdmaster.core.names import is_call
from herdmaster.core.payload import with_due, with_expiry
from herdmaster.core.signing import Keyring
from herdmaster.core.transitions import NewTask
from herdmaster.zookeeper.recipes.server_time import ServerTime

FRESH_SECONDS: Final = 60.0
"""For how long a reading of the servers' clock is used."""


def is_timed(task: NewTask) -> bool:
    return task.due_ms is not None or task.delay_ms is not None or task.expires_ms is not None


class DueTimes:
    """The servers' clock for one client. `clock` gives monotonic seconds. `unix_ms`, this machine's clock, is never
    used: a reading of the servers' clock precedes the first task that is given times. `keyring` signs a task anew that
    is given the time at which it expires."""

    def __init__(self, clock: Callable[[], float], unix_ms: Callable[[], int], keyring: Keyring | None = None) -> None:
        self._clock = clock
        self._keyring = keyring
        self._time = ServerTime(clock, unix_ms)
        self._read_at: float | None = None

    def synchronize(self, written_ms: int) -> None:
        """Take a reading, as `ServerTime.synchronize`."""
        self._time.synchronize(written_ms)
        self._read_at = self._clock()

    @property
    def is_fresh(self) -> bool:
        return self._read_at is not None and 0 <= self._clock() - self._read_at < FRESH_SECONDS

    def asked_at(self) -> float:
        """Return the present moment for `fix`. Durations count from the call, however long it takes to reach a
        server."""
        return self._clock()

    def fix(self, task: NewTask, asked_at: float) -> NewTask:
        """Return the task with times in place of durations; a task that is due already has none. Raises `BadPayload`
        for a task that expires and is no call."""
        now = self._time.now_ms()
        began = now - round((self._clock() - asked_at) * 1000)
        due = task.due_ms if task.delay_ms is None else began + task.delay_ms
        if due is not None and due <= now:
            due = None
        data = task.data
        if task.expires_ms is not None:
            data = with_expiry(data, began + task.expires_ms)
            if self._keyring is not None:
                data = self._keyring.sign_task(task.name, data)
        if due is not None and is_call(task.name):
            data = with_due(data, due)
        return msgspec.structs.replace(task, data=data, due_ms=due, delay_ms=None, expires_ms=None)
