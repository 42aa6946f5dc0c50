"""The servers' clock for a master: it writes its own znode, and the reply says when.

A reading is used for a minute, and over one connection: another server may lead after it broke, by another clock. After
that a caller gets none, and is called when a new one is there. So neither a wrong clock of this machine nor one that
jumps makes anything due.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import SessionState, Stat
from herdmaster.zookeeper.recipes.server_time import ServerTime

FRESH_SECONDS: Final = 60.0
_TRY_AGAIN_SECONDS: Final = 5.0


class ServerClock:
    """The clock of one session. `path` is the master's own znode under `/masters`, `data` the data of that znode."""

    def __init__(self, client: Client, path: str, data: bytes, unix_ms: Callable[[], int]) -> None:
        self._client = client
        self._path = path
        self._data = data
        self._time = ServerTime(client.clock, unix_ms)
        self._read_at: float | None = None
        self._may_ask_at = 0.0
        self._waiting: list[Callable[[], None]] | None = None  # None: no request is under way
        client.add_listener(self._handle_state)

    async def read(self) -> int:
        """Take a new reading. Return unix milliseconds. Raises what `Client.set` raises."""
        self._synchronize((await self._client.set(self._path, self._data)).mtime)
        return self._time.now_ms()

    def now_ms(self, changed: Callable[[], None]) -> int | None:
        """Return unix milliseconds; None if the last reading is too old. Then `changed` is called when asking again is
        worth it. Raises the session's final error."""
        now = self._client.clock()
        if self._read_at is not None and 0 <= now - self._read_at < FRESH_SECONDS:
            return self._time.now_ms()
        if self._waiting is not None:
            if changed not in self._waiting:
                self._waiting.append(changed)
        elif now >= self._may_ask_at:
            self._waiting = [changed]
            self._client.set_nowait(self._path, self._data, self._handle_reply)
        return None

    def estimate_ms(self) -> int:
        """Return unix milliseconds as far as known, however old the last reading is: to plan with, not to decide by."""
        return self._time.now_ms()

    def wakeup(self, due_ms: int) -> float | None:
        """Return when, on the client's clock, to ask again for something that is due at `due_ms`: in a minute at the
        latest, with a new reading. None while a reading is awaited."""
        if self._waiting is not None:
            return None
        if self._read_at is None:
            return self._may_ask_at
        # Never before the millisecond is over, or the last one would be spent asking.
        due = self._client.clock() + (due_ms - self._time.now_ms() + 1) / 1000
        return max(min(due, self._read_at + FRESH_SECONDS), self._may_ask_at)

    def _synchronize(self, written_ms: int) -> None:
        self._time.synchronize(written_ms)
        self._read_at = self._client.clock()

    def _handle_state(self, _state: SessionState) -> None:
        self._read_at = None

    def _handle_reply(self, stat: Stat | None, error: Exception | None) -> None:
        if stat is not None:
            self._synchronize(stat.mtime)
        elif isinstance(error, errors.ServerError):
            self._may_ask_at = self._client.clock() + _TRY_AGAIN_SECONDS
        waiting, self._waiting = self._waiting or [], None
        for changed in waiting:
            changed()
