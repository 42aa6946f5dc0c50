"""A ZooKeeper server for tests, in this process, with methods that inject faults.

    with EmbeddedZooKeeper() as zookeeper:
        herd = Herd(zookeeper.hosts)

No Java, no files, a few milliseconds to start. It is the development server (`herd zookeeper`) in memory, on a thread
of its own; production belongs on Apache ZooKeeper.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

from herdmaster.core import layout
from herdmaster.core.names import parse_worker_name
from herdmaster.testing.background import BackgroundLoop
from herdmaster.testing.checks import check_count, check_port, check_seconds, check_session
from herdmaster.testing.faults import ChosenFaults, Selects
from herdmaster.zookeeper.paths import Chroot
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.server import EmbeddedServer
from herdmaster.zookeeper.server.settings import Access
from herdmaster.zookeeper.tls import TLS

_TICK_MS: Final = 50
_MIN_TIMEOUT_MS: Final = 100
_MAX_TIMEOUT_MS: Final = 60_000

_LOOK_SECONDS: Final = 0.01

T = TypeVar("T")


class EmbeddedZooKeeper:
    """A ZooKeeper server of one node, and a context manager, plain or async. Any thread may call its methods.

    With `data_dir` the server keeps its data over `stop` and `start`. It grants session timeouts from 0.1 s.
    """

    def __init__(
        self,
        *,
        data_dir: str | os.PathLike[str] | None = None,
        port: int = 0,
        tls: TLS | None = None,
        secure_port: int | None = None,
        sasl_users: Mapping[str, str] | None = None,
        require_auth: Sequence[str] = (),
    ) -> None:
        """With `tls`, which has the server's `certificate` and `key`, the port is one for TLS, or, if there is a
        `secure_port`, that one is; 0 takes a free one. If `tls` has a `ca`, clients have to show a certificate of it.

        `sasl_users` are the passwords of the users of SASL DIGEST-MD5. `require_auth` names the schemes by one of which
        a client has to authenticate: digest, sasl or x509.

        Raises TypeError, ValueError."""
        if data_dir is not None and not os.fspath(data_dir):
            raise ValueError("data_dir is empty: name a folder, or leave it out to keep everything in memory")
        self._faults = ChosenFaults()
        self._server = EmbeddedServer(
            port=check_port(port),
            tls=tls,
            access=Access(
                {user: Secret(password.encode()) for user, password in (sasl_users or {}).items()}, tuple(require_auth)
            ),
            secure_port=None if secure_port is None else check_port(secure_port),
            data_dir=data_dir,
            tick_time=_TICK_MS,
            min_session_timeout=_MIN_TIMEOUT_MS,
            max_session_timeout=_MAX_TIMEOUT_MS,
            faults=self._faults,
        )
        self._background: BackgroundLoop | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    @property
    def hosts(self) -> str:
        """The connect string."""
        return self._server.hosts

    @property
    def secure_hosts(self) -> str:
        """The connect string for clients with TLS. Raises RuntimeError if the server has no TLS."""
        return self._server.secure_hosts

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.port

    def start(self) -> None:
        """Start the server, on the port that it had before. Raises OSError if the port is taken."""
        background = self._background or BackgroundLoop("embedded-zookeeper")
        try:
            background.run(self._server.start())
        except BaseException:
            if background is not self._background:
                background.close()
            raise
        self._background = background

    def stop(self) -> None:
        """End the server and its connections. Without `data_dir` all data are lost. Idempotent.

        Raises at the end what a `selects` raised, if no other method has raised it yet.
        """
        background, self._background = self._background, None
        if background is not None:
            background.run(self._server.stop())
            background.close()
        self.check_selects()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # --- faults ------------------------------------------------------------------------------------------------------

    def drop_before(self, selects: Selects | None = None, *, times: int = 1) -> None:
        """Do not apply the next `times` requests that `selects` chooses (default: all), and cut their connections.

        `selects` gets records of `herdmaster.testing.requests`, but no pings and no requests that open a connection. It
        runs on the server's thread, so it must not wait. A request without the field that it reads is not chosen. Any
        other error that it raises removes the fault, and is raised by the next call of a
        method here, at the latest by `stop`.

        Raises TypeError, ValueError.
        """
        self._drop(selects, times, before=True)

    def drop_after(self, selects: Selects | None = None, *, times: int = 1) -> None:
        """As `drop_before`, but apply the requests: only their replies are lost."""
        self._drop(selects, times, before=False)

    def _drop(self, selects: Selects | None, times: int, *, before: bool) -> None:
        self.check_selects()
        self._faults.add(before=before, selects=selects, times=times)

    def check_selects(self) -> None:
        """Raise what a `selects` raised, once, as every other method does."""
        self._faults.raise_failure()

    def delay_replies(self, seconds: float) -> None:
        """Delay every reply from now on by at least this time; 0 ends it. Raises TypeError, ValueError."""
        self.check_selects()
        self._faults.delay = math.ceil(check_seconds("seconds", seconds) * 1000)

    def drop_connections(self) -> None:
        """Cut every connection. Sessions stay alive."""
        self._running.call(self._server.drop_connections)

    def expire(self, session_id: int) -> None:
        """Expire a session. Raises TypeError, LookupError if it is not open."""
        check_session(session_id)
        self._running.call(lambda: self._expire(session_id))

    def move_time(self, seconds: float) -> None:
        """Move the server's clock forward, which may expire sessions. Raises TypeError, ValueError."""
        milliseconds = round(check_seconds("seconds", seconds) * 1000)
        self._running.call(lambda: self._server.advance(milliseconds))

    # --- masters and workers -----------------------------------------------------------------------------------------

    def kill_primary(self, namespace: str = "", *, patience: float = 10.0) -> None:
        """Expire the session that owns `/master` below `namespace`. Wait for one if there is none.

        `namespace` is a path, such as `/prod`, or a connect string of this server, such as `herd_worker` yields. Raises
        TimeoutError after `patience` seconds without a primary, TypeError, ValueError.
        """
        path = self._namespace(namespace) + layout.MASTER

        def look() -> bool:
            owner = self._owner(path)
            if owner:
                self._expire(owner)
            return bool(owner)

        self._wait(look, patience, f"no primary: no process owns {path}", "kill_primary", namespace)

    def kill_worker(self, namespace: str = "", *, patience: float = 10.0) -> str:
        """Expire the session of the worker below `namespace` that joined first, and return the worker's name.

        Wait for a worker if there is none. The worker goes on with a new session, under a new name. `namespace` and the
        errors are those of `kill_primary`.
        """
        folder = self._namespace(namespace) + layout.WORKERS

        def look() -> str | None:
            for name, session_id in self._sessions(folder).items():
                self._expire(session_id)
                return name
            return None

        return self._wait(look, patience, f"no worker: none is in {folder}", "kill_worker", namespace)

    def worker_sessions(self, namespace: str = "", *, least: int = 1, patience: float = 10.0) -> dict[str, int]:
        """Return the session id of each worker below `namespace` by its name, in the order in which they joined.

        Wait until there are `least` of them. `expire` takes the session ids. `namespace` and the errors are those of
        `kill_primary`.
        """
        folder = self._namespace(namespace) + layout.WORKERS
        check_count("least", least, 0)

        def look() -> tuple[dict[str, int]] | None:
            found = self._sessions(folder)
            return (found,) if len(found) >= least else None

        missing = f"fewer than {least} workers are in {folder}"
        return self._wait(look, patience, missing, "worker_sessions", namespace)[0]

    def _namespace(self, given: str) -> str:
        """Return the path of a namespace, without a slash at its end; empty for the root."""
        if not isinstance(given, str):
            raise TypeError(f"namespace is {given!r}: it takes a path, such as '/prod', or a connect string")
        before, slash, path = given.partition("/")
        if before not in ("", self.hosts):
            raise ValueError(
                f"{given!r} is no namespace of this server: give a path, such as '/prod', or what "
                f"`with herd_worker(...) as hosts` gives, or {self.hosts + '/prod'!r}"
            )
        return Chroot(slash + path if path else "").prefix

    def _wait(self, look: Callable[[], T | None], patience: float, missing: str, method: str, namespace: str) -> T:
        """Return what `look` returns, on the server's thread, once that is true.

        Look into the server instead of asking it as a client, because a test's faults would hit such requests.
        """
        check_seconds("patience", patience)

        async def wait() -> T | None:
            clock = asyncio.get_running_loop().time
            deadline = clock() + patience
            while not (found := look()) and clock() < deadline:
                self.check_selects()
                await asyncio.sleep(_LOOK_SECONDS)
            return found

        found = self._running.run(wait(), patience + 10)
        if found:
            return found
        message = f"{missing} on {self.hosts}, after {patience:g} s"
        if not namespace:
            message += "; herd_worker's roles are in a namespace of their own: "
            message += f"`with herd_worker(...) as hosts`, then `{method}(hosts)`"
        raise TimeoutError(message)

    # On the server's thread:

    def _expire(self, session_id: int) -> None:
        sessions = self._server.machine.state.sessions
        if sessions.find(session_id) is None:
            opened = ", ".join(str(session.id) for session in sessions.all()) or "none is"
            raise LookupError(f"session {session_id} is not open; open: {opened}")
        self._server.expire_session(session_id)

    def _owner(self, path: str) -> int:
        """Return the session that owns an ephemeral znode, else 0."""
        znode = self._server.machine.state.tree.find(path)
        return znode.session_id if znode is not None else 0

    def _sessions(self, folder: str) -> dict[str, int]:
        tree = self._server.machine.state.tree
        names = tree.children_of(folder) if tree.find(folder) is not None else ()
        owners = {name: self._owner(f"{folder}/{name}") for name in names if parse_worker_name(name) is not None}
        return {name: owner for name, owner in owners.items() if owner}

    @property
    def _running(self) -> BackgroundLoop:
        if self._background is None:
            raise RuntimeError("the embedded ZooKeeper is not running: use it as a context manager")
        self.check_selects()
        return self._background
