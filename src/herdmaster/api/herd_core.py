"""The internal half of a Herd: its servers, its I/O thread while there is one, and what its app registered."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET

from herdmaster.api import direction, fork_and_exit
from herdmaster.api.callee import Callee
from herdmaster.api.checks import check_hosts, check_tls
from herdmaster.api.direction import Target
from herdmaster.api.errors import HerdClosed
from herdmaster.api.future import Future
from herdmaster.api.io_thread import CLOSED, IoThread
from herdmaster.api.options import TaskOptions
from herdmaster.api.order import Begin, order_call, order_chunk
from herdmaster.api.registry import Registry
from herdmaster.api.results import ChunkResults
from herdmaster.api.security import GivenSecurity, environment_security
from herdmaster.core.names import UlidFactory
from herdmaster.core.signing import Keyring
from herdmaster.errors import ConfigurationError
from herdmaster.greenlets import refuse_patched
from herdmaster.roles.client.client import ClientSettings
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.roles.shared.system import System
from herdmaster.running.current import running_now
from herdmaster.tracing import find_spans
from herdmaster.zookeeper.client import Credential
from herdmaster.zookeeper.errors import InvalidTls
from herdmaster.zookeeper.tls import TLS

if TYPE_CHECKING:
    from herdmaster.spans import Spans

R = TypeVar("R")

DEFAULT_HOSTS = "127.0.0.1:2181"
HOSTS_VARIABLE = "HERD_ZOOKEEPER"

_RANDOM_BYTES: Final = 4096
_MOST_SECONDS: Final = 1_000_000
"""ZooKeeper's session timeout is a 32-bit number of milliseconds."""

_log = logging.getLogger("herdmaster.client")


class HerdSettings(msgspec.Struct, frozen=True):
    """The arguments of `Herd` that concern its session. `hosts` is None where the environment names the servers; `tls`
    is None where the environment says whether to use TLS, False for plain connections; `auth` is None where the
    environment says who this is. Times in seconds."""

    hosts: str | None
    session_timeout: float
    submit_timeout: float
    connect_timeout: float
    tls: TLS | Literal[False] | None = None
    auth: tuple[Credential, ...] | None = None

    def check(self) -> None:
        """Raises InvalidConnectString, ConfigurationError for a time or for TLS settings of another type."""
        if self.hosts is not None:
            check_hosts(self.hosts)
        for name in ("session_timeout", "submit_timeout", "connect_timeout"):
            _check_seconds(name, getattr(self, name))
        check_tls(self.tls)


class HerdCore:
    """Tasks, futures and Herdmaster's other modules refer to this, users to the `Herd`. The session ends when nothing
    refers to this any more. There is no thread and no socket before the first submission or wait."""

    def __init__(self, settings: HerdSettings, registry: Registry) -> None:
        self.settings = settings
        self.registry = registry
        self.instruments = Instruments()
        self._io_thread: IoThread | None = None
        self._target: Target | None = None  # where this Herd was directed when that was last looked up
        self._undirected_at = 0
        self._is_warned = False
        self._closed = False
        self._blocks = 0  # `with` blocks that have been entered and not left
        self._start_afresh()
        fork_and_exit.add_app(self)

    def _start_afresh(self) -> None:
        # Reentrant: a signal handler or a finaliser may submit while this thread holds the lock.
        self._lock = threading.RLock()
        self._ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, _random_source())

    # --- submissions -------------------------------------------------------------------------------------------------

    def new_ulid(self) -> str:
        """Return the unique part of a new task's name."""
        with self._lock:
            return self._ulids.new()

    @cached_property
    def spans(self) -> Spans | None:
        """What makes the spans of submissions, if the program had set a provider of OpenTelemetry before the first."""
        return find_spans()

    @cached_property
    def begin_send(self) -> Begin | None:
        """What begins the span of a task that is submitted by itself."""
        return None if self.spans is None else self.spans.begin_send

    @cached_property
    def keyring(self) -> Keyring | None:
        """The keys that sign tasks, all of them known: a missing one must not come up when a result is read. Raises
        ConfigurationError."""
        found = self.registry.keyring
        if found is not None:
            found.load()
        return found

    def begin_task(
        self, callee: Callee, args: Sequence[object], kwargs: Mapping[str, object], options: TaskOptions
    ) -> Future[R]:
        """Submit a call and do not wait for its acceptance: an error of the submission becomes the future's. Raises as
        `order_call`, HerdClosed."""
        ulid, begin, keyring = self.new_ulid(), self.begin_send, self.keyring
        return self.started().submit(
            order_call(ulid, callee, args, kwargs, options, begin=begin, keyring=keyring), self
        )

    def begin_chunk(self, callee: Callee, items: Sequence[msgspec.Raw], options: TaskOptions) -> Future[ChunkResults]:
        """As `begin_task`, for several items as `Callee.write_item` returns them. Raises PayloadTooLarge,
        HerdClosed."""
        ulid, begin, keyring = self.new_ulid(), self.begin_send, self.keyring
        return self.started().submit(order_chunk(ulid, callee, items, options, begin=begin, keyring=keyring), self)

    # --- the I/O thread ----------------------------------------------------------------------------------------------

    def started(self) -> IoThread:
        """Return the I/O thread, which is started if there is none. Raises HerdClosed."""
        io_thread = self._io_thread
        return self._start() if io_thread is None or io_thread.has_failed else io_thread

    def _start(self) -> IoThread:
        with self._lock:
            if self._closed:
                raise HerdClosed(CLOSED)
            refuse_patched()
            if self._io_thread is not None and self._io_thread.has_failed:
                self._io_thread = None
            own = self.own_target
            target = direction.target_of(self, own.hosts)
            self._check_direction(own.hosts, target)
            new = self._new_io_thread(target or own) if self._io_thread is None else None
            if new is not None and self._io_thread is not None:
                new.begin_close()  # a finaliser submitted in the middle of that, and has started one
            elif new is not None:
                self._io_thread, self._target = new, target
            assert self._io_thread is not None
            return self._io_thread

    def _new_io_thread(self, target: Target) -> IoThread:
        settings = self.settings
        target.security.check()
        signed_only = None if self.keyring is None else self.registry.signed_only
        client_settings = ClientSettings(settings.session_timeout, settings.connect_timeout, signed_only=signed_only)
        system = System(security=target.security, instruments=self.instruments)
        return IoThread(target.hosts, client_settings, settings.submit_timeout, system)

    def measure(self, instruments: Instruments) -> None:
        """Count submissions, and measure the requests of sessions that are opened from now on."""
        with self._lock:
            self.instruments = instruments
            if self._io_thread is not None and not self._io_thread.has_failed:
                self._io_thread.measure(instruments)

    def not_ready(self) -> str | None:
        """Return why a task would not be submitted at once, as a sentence; None if nothing is missing. Starts the
        session if there is none."""
        try:
            return self.started().not_ready()
        except (HerdClosed, InvalidTls, ConfigurationError) as error:
            return str(error)

    @property
    def is_connected(self) -> bool:
        """Whether there is a session that is connected."""
        io_thread = self._io_thread
        return io_thread is not None and io_thread.not_ready() is None

    def _detach(self) -> IoThread | None:
        io_thread, self._io_thread = self._io_thread, None
        return io_thread

    def open(self) -> None:
        """Enter a `with` block, which opens the Herd if it is closed."""
        with self._lock:
            self._blocks += 1
            self._closed = False

    def leave(self) -> IoThread | None:
        """Leave a `with` block. Return the I/O thread to close if this was the last block."""
        with self._lock:
            self._blocks = max(self._blocks - 1, 0)
            if self._blocks:
                return None
            self._closed = True
            return self._detach()

    def close(self) -> None:
        """As `Herd.close`."""
        with self._lock:
            self._closed = True
            io_thread = self._detach()
        if io_thread is not None:
            io_thread.close()

    def __del__(self) -> None:
        io_thread = getattr(self, "_io_thread", None)  # absent where __init__ raised
        if io_thread is not None:
            io_thread.begin_close()  # not close(): the collector may run this on any thread, at any place

    def handle_fork(self) -> None:
        """In a forked child: leave the session, and the names that are next in line, to the parent."""
        self._io_thread = None
        self._start_afresh()

    # --- direction ---------------------------------------------------------------------------------------------------

    @property
    def own_hosts(self) -> str:
        """The connect string where nothing directs this Herd. The variable is read at first use, not at import."""
        return self.settings.hosts or os.environ.get(HOSTS_VARIABLE) or DEFAULT_HOSTS

    @property
    def own_target(self) -> Target:
        """The servers, and the security of connections, where nothing directs this Herd."""
        settings = self.settings
        tls = UNSET if settings.tls is None else settings.tls or None
        security = GivenSecurity(tls, UNSET if settings.auth is None else settings.auth)
        return Target(self.own_hosts, security.over(environment_security()))

    @property
    def target(self) -> Target:
        """The servers and the security in force."""
        target = direction.target_of(self, self.own_hosts)
        if target is None:
            return self.own_target
        if not target.has_own_auth:
            return target
        security = msgspec.structs.replace(target.security, auth=self.own_target.security.auth)
        return Target(target.hosts, security)

    @property
    def hosts(self) -> str:
        """The connect string in force."""
        own = self.own_hosts
        target = direction.target_of(self, own)
        return own if target is None else target.hosts

    @contextlib.contextmanager
    def directed_to(self, target: Target, spec: str | None) -> Iterator[None]:
        """As `Herd.directed_to`, `spec` as for `direct_to`."""
        check_hosts(target.hosts)
        check_tls(target.security.tls)
        with self._lock:
            closed, self._closed = self._closed, False
        end = self.direct_to(target, spec)
        try:
            yield
        finally:
            with self._lock:
                self._closed = closed
            end()

    def direct_to(self, target: Target, spec: str | None) -> Callable[[], None]:
        """Direct this Herd to other servers, until the returned function is called. Child processes find the Herd by
        `spec`, its `module:attribute`. Raises InvalidConnectString."""
        check_hosts(target.hosts)
        began = direction.begin(target, core=self, spec=spec, source=self.own_hosts)
        fork_and_exit.follow_direction()
        return partial(direction.end, began)

    def leave_target(self) -> IoThread | None:
        """Detach and return the I/O thread if this Herd is directed elsewhere since it started; the next use starts
        another one."""
        with self._lock:
            own = self.own_target
            target = direction.target_of(self, own.hosts)
            if (target or own) == (self._target or own):
                return None
            if target is None:
                self._undirected_at = time.time_ns() // 1_000_000
            self._target = target
            return self._detach()

    def _check_direction(self, own: str, target: Target | None) -> None:
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


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or not 0 < value <= _MOST_SECONDS:
        raise ConfigurationError(
            f"{name}={value!r}: it takes a number of seconds, above 0 and at most {_MOST_SECONDS:,}, such as 10.0"
        )


def _random_source() -> Callable[[int], bytes]:
    """Return a source of random bytes that asks the system for many at a time: a system call releases the
    interpreter's lock, and it can take a millisecond to get that back from a busy thread. For use under a lock."""
    supply = iter(b"")

    def random_bytes(count: int) -> bytes:
        nonlocal supply
        found = bytes(islice(supply, count))
        if len(found) < count:
            supply = iter(secrets.token_bytes(_RANDOM_BYTES))
            found = bytes(islice(supply, count))
        return found

    return random_bytes
