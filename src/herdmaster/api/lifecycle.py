"""What a Herd is before it has tasks: servers, a session when it is needed, and an end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Final, Self

from herdmaster.api import direction, fork_and_exit
from herdmaster.api.checks import check_hosts
from herdmaster.api.errors import HerdClosed
from herdmaster.api.io_thread import CLOSED, Runtime
from herdmaster.core.names import UlidFactory
from herdmaster.errors import ConfigurationError
from herdmaster.greenlets import refuse_patched
from herdmaster.roles.client.client import ClientSettings
from herdmaster.running.current import running_now

DEFAULT_HOSTS = "127.0.0.1:2181"
HOSTS_VARIABLE = "HERD_ZOOKEEPER"

_RANDOM_BYTES: Final = 4096
_MOST_SECONDS: Final = 1_000_000
"""ZooKeeper's session timeout is a 32-bit number of milliseconds, and no computer waits for ever."""

_log = logging.getLogger("herdmaster.client")


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
        self._runtime: Runtime | None = None
        self._target: str | None = None  # where this Herd was directed by the last look
        self._undirected_at = 0
        self._is_warned = False
        self._closed = False
        self._blocks = 0  # `with` blocks that have been entered and not left
        self._start_afresh()
        if hosts is not None:
            check_hosts(hosts)
        for name in ("session_timeout", "submit_timeout", "connect_timeout"):
            _check_seconds(name, getattr(self, name))
        fork_and_exit.add_app(self)

    def _start_afresh(self) -> None:
        # Reentrant: a signal handler or a finaliser may submit while this thread is in a block.
        self._lock = threading.RLock()
        self._ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, _random_source())

    @property
    def own_hosts(self) -> str:
        """The connect string that holds where nothing directs this Herd. The variable is read at first use, not at
        import."""
        return self.explicit_hosts or os.environ.get(HOSTS_VARIABLE) or DEFAULT_HOSTS

    @property
    def hosts(self) -> str:
        """The connect string in force."""
        own = self.own_hosts
        return direction.target_of(self, own) or own

    def _new_ulid(self) -> str:
        with self._lock:
            return self._ulids.new()

    def _started(self) -> Runtime:
        runtime = self._runtime
        return self._start() if runtime is None or runtime.has_failed else runtime

    def _start(self) -> Runtime:
        with self._lock:
            if self._closed:
                raise HerdClosed(CLOSED)
            refuse_patched()
            if self._runtime is not None and self._runtime.has_failed:
                self._runtime = None
            own = self.own_hosts
            target = direction.target_of(self, own)
            self._check_direction(own, target)
            settings = ClientSettings(self.session_timeout, self.connect_timeout)
            new = Runtime(target or own, settings, self.submit_timeout) if self._runtime is None else None
            if new is not None and self._runtime is not None:
                new.begin_close()  # a finaliser submitted in the middle of that, and has made one
            elif new is not None:
                self._runtime, self._target = new, target
            assert self._runtime is not None
            return self._runtime

    def _check_direction(self, own: str, target: str | None) -> None:
        running = running_now.get(None)
        if target is None and running is not None and running.started <= self._undirected_at:
            raise HerdClosed(
                f"{running.name} outlived the worker that ran it, which was directed elsewhere: it may not use {own}"
            )
        others = direction.targets() if target is None else []
        if others and not self._is_warned and not any(direction.shares_servers(own, other) for other in others):
            self._is_warned = True
            _log.warning(
                "a Herd of %s is used although this process is directed to %s: only Herds of the deployment of the "
                "worker's app are directed; herd.directed_to(...) directs this one", own, others[0],
            )  # fmt: skip

    @contextlib.contextmanager
    def directed_to(self, hosts: str) -> Iterator[None]:
        """For as long this Herd goes to other servers, for tests of programs that hold a module-level Herd. So do all
        Herds of this process that name the same servers and namespace, and those of the processes that it starts
        meanwhile.

        What was under way with the first servers stays there: its session ends, and its futures fail. A Herd that was
        closed is open for as long. Raises InvalidConnectString.
        """
        check_hosts(hosts)
        with self._lock:
            closed, self._closed = self._closed, False
        end = self.direct_to(hosts)
        try:
            yield
        finally:
            with self._lock:
                self._closed = closed
            end()

    def direct_to(self, hosts: str) -> Callable[[], None]:
        """As `directed_to`, until what it returns is called. Raises InvalidConnectString."""
        check_hosts(hosts)
        began = direction.begin(hosts, herd=self, source=self.own_hosts)
        fork_and_exit.follow_direction()
        return partial(direction.end, began)

    def leave_target(self) -> Runtime | None:
        """The runtime, if this Herd is directed elsewhere since it was made; the next use makes another."""
        with self._lock:
            own = self.own_hosts
            target = direction.target_of(self, own)
            if (target or own) == (self._target or own):
                return None
            if target is None:
                self._undirected_at = time.time_ns() // 1_000_000
            self._target = target
            return self._detach()

    def close(self) -> None:
        """Ends the session. Futures that are not done fail; their tasks go on. Idempotent. A `with` block opens the
        Herd again."""
        with self._lock:
            self._closed = True
            runtime = self._detach()
        if runtime is not None:
            runtime.close()

    def _detach(self) -> Runtime | None:
        runtime, self._runtime = self._runtime, None
        return runtime

    def __del__(self) -> None:
        runtime = getattr(self, "_runtime", None)  # absent where __init__ raised
        if runtime is not None:
            runtime.begin_close()  # not close(): the collector may run this on any thread, and anywhere

    def __enter__(self) -> Self:
        """Opens the Herd if it is closed. The end of the last block that was entered closes it."""
        with self._lock:
            self._blocks += 1
            self._closed = False
        return self

    def _leave(self) -> Runtime | None:
        """The runtime to close, if this was the last block."""
        with self._lock:
            self._blocks = max(self._blocks - 1, 0)
            if self._blocks:
                return None
            self._closed = True
            return self._detach()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runtime = self._leave()
        if runtime is not None:
            runtime.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runtime = self._leave()
        if runtime is not None:
            await asyncio.to_thread(runtime.close)

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
