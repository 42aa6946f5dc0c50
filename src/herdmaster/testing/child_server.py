"""A ZooKeeper server as a child process on loopback: the base class of the embedded server's and Apache's."""

from __future__ import annotations

import abc
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from herdmaster.testing.child import WatchedChild
from herdmaster.testing.ports import LOOPBACK, free_ports

__all__ = ["POLL", "ChildServer", "PortTaken", "ServerStartFailed"]

POLL = 0.02  # seconds
_LOG_TAIL = 4096  # bytes


class ServerStartFailed(Exception):
    """The server ended or did not serve in time; the message holds the end of its log."""


class PortTaken(ServerStartFailed):
    """Another process listens on its port."""


class ChildServer(abc.ABC):
    """One server with its own port and data folder. Subclasses choose the program.

    Without `folder` everything is in a temporary folder that `close` removes. `start_timeout` is in seconds.
    """

    def __init__(self, *, port: int | None, folder: Path | None, start_timeout: float) -> None:
        self._start_timeout = start_timeout
        self._port = port
        self._given_folder = folder
        self._own_folder: tempfile.TemporaryDirectory[str] | None = None
        self._child: WatchedChild | None = None

    @abc.abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the program and its arguments, and write the files that it reads. `data_dir` exists."""

    @property
    def port(self) -> int:
        """The client port, which the first start chooses and later starts keep."""
        if self._port is None:
            raise RuntimeError("the server has no port before its first start")
        return self._port

    @property
    def hosts(self) -> str:
        """The connect string, without a namespace."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def folder(self) -> Path:
        """The folder of `data/`, `server.log` and the server's configuration."""
        if self._given_folder is not None:
            return self._given_folder.absolute()
        if self._own_folder is None:
            self._own_folder = tempfile.TemporaryDirectory(prefix="herdmaster-zookeeper-", ignore_cleanup_errors=True)
        return Path(self._own_folder.name).absolute()

    @property
    def data_dir(self) -> Path:
        """The folder of snapshots and transaction logs."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The file with the warnings and errors of the server."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """True while there is a process, serving, starting or paused."""
        return self._child is not None and self._child.is_running

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the server and return when it serves. Does nothing when it runs.

        Another process may take the port before the server binds it. The server then gets another port, unless
        clients know the port already: in this case, wait until it is free.
        """
        if self.is_running:
            return
        deadline = time.monotonic() + self._start_timeout
        known = self._port is not None
        while True:
            if not known:
                (self._port,) = free_ports(1)
            self.launch()
            try:
                self.wait_until_serving(deadline - time.monotonic())
            except PortTaken:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def launch(self) -> None:
        """Start the process without waiting: a member of an ensemble serves only when there is a quorum."""
        if self.is_running:
            return
        self.kill()  # the rest of a server that ended by itself
        self.data_dir.mkdir(parents=True, exist_ok=True)
        remove = Path(self._own_folder.name) if self._own_folder is not None else None
        self._child = WatchedChild(self._command(), log=self.log, remove=remove)

    def wait_until_serving(self, timeout: float = 60.0) -> None:
        """Return when this very server answers clients. After `timeout` s kill it, and raise ServerStartFailed."""
        deadline = time.monotonic() + timeout
        while not self._is_serving():
            if not self.is_running:
                failure = PortTaken if "address already in use" in self._log_tail().lower() else ServerStartFailed
                raise failure(f"the ZooKeeper server on {self.hosts} ended:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerStartFailed(f"no service on {self.hosts} after {timeout:.0f} s:\n{self._log_tail()}")
            time.sleep(POLL)

    def stop(self, timeout: float = 10.0) -> None:
        """End the server with SIGTERM, after `timeout` seconds with SIGKILL; port and data stay. Idempotent."""
        if self._child is not None:
            self._child.terminate(timeout)
            self._child = None

    def kill(self) -> None:
        """End the server with SIGKILL; port and data stay. Idempotent."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def restart(self) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop the process with SIGSTOP and return when it is stopped: connections stay open, nothing is answered."""
        self._running().pause()

    def resume(self) -> None:
        """Continue a paused server."""
        self._running().resume()

    def four_letter_word(self, word: str, timeout: float = 5.0) -> str:
        """Return the answer to a command such as `srvr`, `mntr` or `cons`. Raises OSError, including TimeoutError."""
        with socket.create_connection((LOOPBACK, self.port), timeout) as connection:
            connection.sendall(word.encode("ascii"))
            with connection.makefile("rb") as answer:
                return answer.read().decode()

    def mode(self, timeout: float = 1.0) -> str | None:
        """Return `standalone`, `leader`, `follower` or `observer`; None while the server does not serve."""
        try:
            answer = self.four_letter_word("srvr", timeout)
        except OSError:
            return None
        modes = [line.removeprefix("Mode:").strip() for line in answer.splitlines() if line.startswith("Mode:")]
        return modes[0] if modes else None

    def close(self) -> None:
        """End the server. Remove a temporary folder; leave a given one in good order. Idempotent."""
        if self._own_folder is None:
            self.stop()
            return
        self.kill()
        self._own_folder.cleanup()
        self._own_folder = None

    def _is_serving(self) -> bool:
        # `ruok` answers before the server takes sessions, hence `srvr`; and another server may have taken the port a
        # moment before ours fails to bind it, hence the look at whose data it serves.
        if self.mode() is None:
            return False
        try:
            told = self.four_letter_word("conf", 1.0).splitlines()
        except OSError:
            return False
        # The second as Apache's server puts it.
        return f"dataDir={self.data_dir}" in told or f"dataDir={self.data_dir}/version-2" in told

    def _running(self) -> WatchedChild:
        if self._child is None or not self._child.is_running:
            raise RuntimeError("the ZooKeeper server is not running")
        return self._child

    def _log_tail(self) -> str:
        return self.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace") if self.log.exists() else ""
