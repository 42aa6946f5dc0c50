"""One ZooKeeper session through kazoo, in the shape of the library that the reference was written for.

Every request takes a callback and returns at once; replies are handled one after another on one thread. This is the
only module here that imports kazoo, which has no type information: mypy needs `ignore_missing_imports` for `kazoo.*`
and nothing else, because all that is used of it is described by the protocols below.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Final, Generic, Protocol, Self, TypeVar, cast

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (
    ConnectionClosedError,
    ConnectionLoss,
    KazooException,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
)
from kazoo.handlers.threading import KazooTimeoutError

log = logging.getLogger(__name__)

T = TypeVar("T")

SESSION_TIMEOUT = 15.0
"""Seconds; the reference's programs all ask for this one."""

# kazoo waits up to a minute between attempts to reconnect; the Java library up to a second.
_RECONNECT = {"max_tries": -1, "delay": 0.05, "backoff": 2, "max_delay": 0.5}

# A server that is still starting (3.8.0) fails to close a connection that it refuses, so that connection stays silent.
# kazoo waits for an answer for the session timeout divided by the number of hosts: with one host the session is over by
# then. Naming each host several times leaves time for further attempts.
_TIMES_NAMED = 4


class Event(Protocol):
    """What kazoo hands to a watch: `type` is CREATED, DELETED, CHANGED, CHILD, or NONE and then without a path."""

    @property
    def type(self) -> str: ...


Watch = Callable[[Event], None]

WATCH_LOST = "NONE"
"""The connection was lost and kazoo forgot the watch. The Java library would arm it again, so a role looks again."""


class Code(Enum):
    """How a request ended."""

    OK = "ok"
    NO_NODE = "no such znode"
    NODE_EXISTS = "znode exists"
    CONNECTION_LOSS = "connection lost"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Reply(Generic[T]):
    """A request's end: `value` may be read only when `code` is OK, else it raises the error."""

    path: str
    code: Code
    outcome: T | Exception

    @property
    def value(self) -> T:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    @property
    def error(self) -> Exception | None:
        return self.outcome if isinstance(self.outcome, Exception) else None


OnReply = Callable[[Reply[T]], None]


class _Result(Protocol):
    def get(self) -> object: ...
    def rawlink(self, callback: Callable[[_Result], None]) -> None: ...


class _Kazoo(Protocol):
    def start(self, timeout: float) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def add_listener(self, listener: Callable[[str], None]) -> None: ...
    def exists(self, path: str) -> object: ...
    def get(self, path: str) -> tuple[bytes | None, object]: ...
    def get_children(self, path: str) -> list[str]: ...
    def create(self, path: str, value: bytes, *, ephemeral: bool = False, makepath: bool = False) -> str: ...
    def delete(self, path: str, *, recursive: bool = False) -> object: ...
    def create_async(self, path: str, value: bytes, *, ephemeral: bool, sequence: bool) -> _Result: ...
    def delete_async(self, path: str) -> _Result: ...
    def exists_async(self, path: str, watch: Watch | None) -> _Result: ...
    def get_async(self, path: str) -> _Result: ...
    def get_children_async(self, path: str, watch: Watch | None) -> _Result: ...
    def set_async(self, path: str, value: bytes) -> _Result: ...


def _connect(hosts: str, session_timeout: float) -> _Kazoo:
    servers, slash, chroot = hosts.partition("/")
    often = ",".join([servers] * _TIMES_NAMED) + slash + chroot
    return cast(_Kazoo, KazooClient(hosts=often, timeout=session_timeout, connection_retry=_RECONNECT))


def _start(kazoo: _Kazoo, hosts: str, patience: float) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No chroot path exists")  # told as an error below
            kazoo.start(timeout=patience)
    except KazooTimeoutError as error:
        raise ConnectionError(f"no ZooKeeper answered at {hosts} within {patience:g} s: is it running?") from error
    if kazoo.exists("/") is None:
        kazoo.stop()
        kazoo.close()
        raise ConnectionError(f"the chroot of {hosts} does not exist: create it first")


def _code(error: Exception) -> Code:
    if isinstance(error, NoNodeError):
        return Code.NO_NODE
    return Code.NODE_EXISTS if isinstance(error, NodeExistsError) else Code.FAILED


def _nothing(_: object) -> None:
    return None


def _name(result: object) -> str:
    return cast(str, result)


def _names(result: object) -> list[str]:
    return cast(list[str], result)


def _data(result: object) -> bytes:
    return cast(tuple[bytes | None, object], result)[0] or b""


_STOP_SECONDS: Final = 10.0


class Session:
    """Requests of one role. After `close` or expiry it is silent: no callback runs any more.

    A request that a lost connection left undecided is sent again, as nearly every callback of the reference does, also
    where the first one may have been applied. With `repeat=False` its callback gets CONNECTION_LOSS.
    """

    def __init__(self, hosts: str, session_timeout: float = SESSION_TIMEOUT) -> None:
        self._hosts = hosts
        self._kazoo = _connect(hosts, session_timeout)
        self._over = threading.Event()
        self.expired = threading.Event()
        # kazoo would go on with another session after expiry; a program of the reference ends there. Its own threads
        # cannot stop it, because stopping waits for them.
        self._ending = threading.Thread(target=self._kazoo.stop, daemon=True)

    def start(self, patience: float = 60.0) -> None:
        """Open the session. Raises ConnectionError after `patience` seconds, or when the chroot is missing."""
        _start(self._kazoo, self._hosts, patience)
        self._kazoo.add_listener(self._state_changed)

    def close(self) -> None:
        """End the session, and with it everything ephemeral."""
        self._over.set()
        if self.expired.is_set():
            # kazoo's own stop can wait for ever for a connection that it lost meanwhile.
            self._ending.join(_STOP_SECONDS)
            if self._ending.is_alive():
                return
        self._kazoo.stop()
        self._kazoo.close()

    def _state_changed(self, state: str) -> None:
        if state != KazooState.LOST or self._over.is_set():
            return
        log.error("session expired")
        self._over.set()
        self._ending.start()
        self.expired.set()

    def create(
        self,
        path: str,
        data: bytes,
        on_reply: OnReply[str],
        *,
        ephemeral: bool = False,
        sequence: bool = False,
        repeat: bool = True,
    ) -> None:
        """Reply: the path created."""

        def send() -> _Result:
            return self._kazoo.create_async(path, data, ephemeral=ephemeral, sequence=sequence)

        self._ask(path, send, _name, on_reply, repeat)

    def delete(self, path: str, on_reply: OnReply[None], *, repeat: bool = True) -> None:
        self._ask(path, lambda: self._kazoo.delete_async(path), _nothing, on_reply, repeat)

    def set(self, path: str, data: bytes, on_reply: OnReply[None]) -> None:
        self._ask(path, lambda: self._kazoo.set_async(path, data), _nothing, on_reply)

    def get(self, path: str, on_reply: OnReply[bytes], *, repeat: bool = True) -> None:
        """Reply: the data."""
        self._ask(path, lambda: self._kazoo.get_async(path), _data, on_reply, repeat)

    def children(self, path: str, on_reply: OnReply[list[str]], watch: Watch | None = None) -> None:
        """Reply: the children's names, unsorted."""
        self._ask(path, lambda: self._kazoo.get_children_async(path, watch), _names, on_reply)

    def exists(self, path: str, on_reply: OnReply[None], watch: Watch) -> None:
        """Reply: OK or NO_NODE; the watch is armed in both cases."""

        def read(result: object) -> None:
            if result is None:
                raise NoNodeError(path)

        self._ask(path, lambda: self._kazoo.exists_async(path, watch), read, on_reply)

    def _ask(
        self,
        path: str,
        send: Callable[[], _Result],
        read: Callable[[object], T],
        on_reply: OnReply[T],
        repeat: bool = True,
    ) -> None:
        def answered(result: _Result) -> None:
            if self._over.is_set():
                return
            try:
                reply: Reply[T] = Reply(path, Code.OK, read(result.get()))
            except ConnectionLoss as error:
                if repeat:
                    self._ask(path, send, read, on_reply)
                    return
                reply = Reply(path, Code.CONNECTION_LOSS, error)
            except (SessionExpiredError, ConnectionClosedError):
                return
            except KazooException as error:  # every other code is the callback's matter
                reply = Reply(path, _code(error), error)
            on_reply(reply)

        if not self._over.is_set():
            send().rawlink(answered)


def warn_unless_ok(reply: Reply[T]) -> None:
    """The callback of requests whose end the reference only logs."""
    if reply.code is not Code.OK:
        log.warning("%s: %s", reply.path, reply.code.value)


class Znodes:
    """A plain, waiting view of a namespace for tests: set a scene before, look at what is there after."""

    def __init__(self, hosts: str, session_timeout: float = SESSION_TIMEOUT) -> None:
        self._hosts = hosts
        self._kazoo = _connect(hosts, session_timeout)

    def __enter__(self) -> Self:
        _start(self._kazoo, self._hosts, 15.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kazoo.stop()
        self._kazoo.close()

    def exists(self, path: str) -> bool:
        return self._kazoo.exists(path) is not None

    def get(self, path: str) -> bytes:
        return self._kazoo.get(path)[0] or b""

    def children(self, path: str) -> list[str]:
        """The children's names, sorted; none for a path that does not exist."""
        try:
            return sorted(self._kazoo.get_children(path))
        except NoNodeError:
            return []

    def create(self, path: str, data: bytes = b"", *, ephemeral: bool = False) -> None:
        """Create it, and its parents where they are missing."""
        self._kazoo.create(path, data, ephemeral=ephemeral, makepath=True)

    def delete(self, path: str) -> None:
        self._kazoo.delete(path)
