"""What a Herd is before it has tasks: servers, a session when it is needed, and an end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from types import TracebackType
from typing import Final, Self

from herdmaster.api import process
from herdmaster.api.checks import check_hosts
from herdmaster.api.closing import HerdClosed
from herdmaster.api.runtime import CLOSED, Runtime
from herdmaster.core.names import UlidFactory
from herdmaster.errors import ConfigurationError
from herdmaster.roles.client import ClientSettings

DEFAULT_HOSTS = "127.0.0.1:2181"
HOSTS_VARIABLE = "HERD_ZOOKEEPER"

_RANDOM_BYTES: Final = 4096
_MOST_SECONDS: Final = 1_000_000
"""ZooKeeper's session timeout is a 32-bit number of milliseconds, and no computer waits for ever."""


class BaseHerd:
    """No thread and no socket before the first submission or wait."""

    def __init__(
        self, hosts: str | None, *, session_timeout: float, submit_timeout: float, connect_timeout: float
    ) -> None:
        """Raises InvalidConnectString, ConfigurationError for a time."""
        self.explicit_hosts = hosts
        self.session_timeout = session_timeout
        self.submit_timeout = submit_timeout
        self.connect_timeout = connect_timeout
        self._directed_to: str | None = None
        self._runtime: Runtime | None = None
        self._closed = False
        self._start_afresh()
        if hosts is not None:
            check_hosts(hosts)
        for name in ("session_timeout", "submit_timeout", "connect_timeout"):
            _check_seconds(name, getattr(self, name))
        process.add_app(self)

    def _start_afresh(self) -> None:
        # Reentrant: a signal handler or a finaliser may submit while this thread is in a block.
        self._lock = threading.RLock()
        self._ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, _random_source())

    @property
    def hosts(self) -> str:
        """The connect string in force. The variable is read at first use, not at import."""
        return self._directed_to or self.explicit_hosts or os.environ.get(HOSTS_VARIABLE) or DEFAULT_HOSTS

    def _new_ulid(self) -> str:
        with self._lock:
            return self._ulids.new()

    def _started(self) -> Runtime:
        return self._runtime or self._start()

    def _start(self) -> Runtime:
        with self._lock:
            if self._closed:
                raise HerdClosed(CLOSED)
            settings = ClientSettings(self.session_timeout, self.connect_timeout)
            new = Runtime(self.hosts, settings, self.submit_timeout) if self._runtime is None else None
            if new is not None and self._runtime is not None:
                new.begin_close()  # a finaliser submitted in the middle of that, and has made one
            runtime = self._runtime = self._runtime or new
            assert runtime is not None
            return runtime

    @contextlib.contextmanager
    def directed_to(self, hosts: str) -> Iterator[None]:
        """For as long everything goes to other servers, for tests of programs that hold a module-level Herd.

        What was under way with the first ones stays there: its session ends, and its futures fail. Raises
        InvalidConnectString.
        """
        check_hosts(hosts)
        before = self._redirect(hosts)
        try:
            yield
        finally:
            self._redirect(before)

    def _redirect(self, hosts: str | None) -> str | None:
        with self._lock:
            before, self._directed_to = self._directed_to, hosts
            runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.close()
        return before

    def close(self) -> None:
        """Ends the session. Futures that are not done fail; their tasks go on. Idempotent."""
        with self._lock:
            self._closed = True
            runtime = self._runtime
        if runtime is not None:
            runtime.close()

    def __del__(self) -> None:
        runtime = getattr(self, "_runtime", None)  # absent where __init__ raised
        if runtime is not None:
            runtime.begin_close()  # not close(): the collector may run this on any thread, and anywhere

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.hosts}>"

    def handle_fork(self) -> None:
        """Called in a forked child: the session stays the parent's, and so do the names that it is about to give."""
        self._runtime = None
        self._start_afresh()


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or not 0 < value <= _MOST_SECONDS:
        raise ConfigurationError(
            f"{name}={value!r}: it takes a number of seconds, above 0 and at most {_MOST_SECONDS:,}, such as 10.0"
        )


def _random_source() -> Callable[[int], bytes]:
    """Random bytes from a supply: each call of the system's gives the interpreter away, and getting it back from a busy
    thread takes a millisecond and more. For use under a lock."""
    supply = iter(b"")

    def random_bytes(count: int) -> bytes:
        nonlocal supply
        found = bytes(islice(supply, count))
        if len(found) < count:
            supply = iter(secrets.token_bytes(_RANDOM_BYTES))
            found = bytes(islice(supply, count))
        return found

    return random_bytes
