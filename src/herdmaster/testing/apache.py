"""Apache's own ZooKeeper server as a child process on loopback, alone or as an ensemble."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from herdmaster.testing.child import WatchedChild
from herdmaster.testing.installation import Installation, ZooKeeperNotInstalled, find_zookeeper
from herdmaster.testing.ports import LOOPBACK, free_ports

__all__ = [
    "QUICK_START",
    "ApacheEnsemble",
    "ApacheStartFailed",
    "ApacheZooKeeper",
    "ZooKeeperNotInstalled",
    "find_zookeeper",
]

QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xms32m", "-Xmx256m")
"""Java options for a server that starts in half a second; a benchmark wants the full compiler, so `-Xmx512m` alone."""

_SYSTEM_PROPERTIES = (
    "-Dzookeeper.jmx.log4j.disable=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Djava.net.preferIPv4Stack=true",
)

_POLL = 0.02  # seconds
_LOG_TAIL = 4096  # bytes


class ApacheStartFailed(Exception):
    """The server ended or did not serve in time; the message holds the end of its log."""


class _PortTaken(ApacheStartFailed):
    pass


class ApacheZooKeeper:
    """One server of Apache ZooKeeper with a port and a data folder of its own.

    Without `folder` everything is in a temporary folder that `close` removes. `settings` are further lines of
    `zoo.cfg`. `tick_time` is in milliseconds; session timeouts are negotiated between 2 and 20 ticks.

    Raises ZooKeeperNotInstalled when made, ApacheStartFailed from `start` and `restart`.
    """

    def __init__(
        self,
        *,
        tick_time: int = 200,
        port: int | None = None,
        folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
        java_options: Sequence[str] = QUICK_START,
        installation: Installation | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        self._installation = installation or find_zookeeper()
        self._tick_time = tick_time
        self._settings = dict(settings or {})
        self._java_options = tuple(java_options)
        self._start_timeout = start_timeout
        self._port = port
        self._given_folder = folder
        self._own_folder: tempfile.TemporaryDirectory[str] | None = None
        self._child: WatchedChild | None = None

    @property
    def port(self) -> int:
        """The client port; chosen by the first start and kept from then on."""
        if self._port is None:
            raise RuntimeError("the server has no port before its first start")
        return self._port

    @property
    def hosts(self) -> str:
        """The connect string, without a namespace."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def folder(self) -> Path:
        """Holds `conf/`, `data/` and `server.log`."""
        if self._given_folder is not None:
            return self._given_folder.absolute()
        if self._own_folder is None:
            self._own_folder = tempfile.TemporaryDirectory(prefix="herdmaster-zookeeper-", ignore_cleanup_errors=True)
        return Path(self._own_folder.name).absolute()

    @property
    def data_dir(self) -> Path:
        """Snapshots and transaction logs."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server and Java wrote: warnings and errors."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int:
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

        Another process may take the port between the choice and the bind: a port that was chosen here is then chosen
        again, a port that clients know already is waited for.
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
            except _PortTaken:
                if time.monotonic() > deadline:
                    raise
            else:
                return

    def launch(self) -> None:
        """Start the process without waiting: a member of an ensemble serves only when there is a quorum."""
        if self.is_running:
            return
        self.kill()  # what is left of a server that ended by itself
        conf = self.folder / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        self.data_dir.mkdir(exist_ok=True)
        config = conf / "zoo.cfg"
        config.write_text("".join(f"{name}={value}\n" for name, value in self._config().items()))
        class_path = ":".join(map(str, (conf, *self._installation.jars)))
        java = [str(self._installation.java), *self._java_options, *_SYSTEM_PROPERTIES, "-cp", class_path]
        command = [*java, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)]
        remove = Path(self._own_folder.name) if self._own_folder is not None else None
        self._child = WatchedChild(command, log=self.log, remove=remove)

    def wait_until_serving(self, timeout: float = 60.0) -> None:
        """Return when this very server answers clients. Raises ApacheStartFailed, and kills it, after `timeout` s."""
        deadline = time.monotonic() + timeout
        while not self._is_serving():
            if not self.is_running:
                failure = _PortTaken if "Address already in use" in self._log_tail() else ApacheStartFailed
                raise failure(f"the ZooKeeper server on {self.hosts} ended:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ApacheStartFailed(f"no service on {self.hosts} after {timeout:.0f} s:\n{self._log_tail()}")
            time.sleep(_POLL)

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
        """Let a paused server go on."""
        self._running().resume()

    def four_letter_word(self, word: str, timeout: float = 5.0) -> str:
        """The server's answer to a command like `srvr`, `mntr` or `cons`. Raises OSError, TimeoutError among them."""
        with socket.create_connection((LOOPBACK, self.port), timeout) as connection:
            connection.sendall(word.encode("ascii"))
            with connection.makefile("rb") as answer:
                return answer.read().decode()

    def mode(self, timeout: float = 1.0) -> str | None:
        """`standalone`, `leader`, `follower` or `observer`; None when the server is not serving."""
        try:
            answer = self.four_letter_word("srvr", timeout)
        except OSError:
            return None
        modes = [line.removeprefix("Mode:").strip() for line in answer.splitlines() if line.startswith("Mode:")]
        return modes[0] if modes else None

    def close(self) -> None:
        """End the server; a temporary folder is removed, a given one is left in good order. Idempotent."""
        if self._own_folder is None:
            self.stop()
            return
        self.kill()
        self._own_folder.cleanup()
        self._own_folder = None

    def _config(self) -> dict[str, str]:
        return {
            "dataDir": str(self.data_dir),
            "clientPort": str(self.port),
            "clientPortAddress": LOOPBACK,
            "tickTime": str(self._tick_time),
            "4lw.commands.whitelist": "*",
            "admin.enableServer": "false",
            "maxClientCnxns": "0",
            **self._settings,
        }

    def _is_serving(self) -> bool:
        # `ruok` answers before the server takes sessions, hence `srvr`; and another server may have taken the port a
        # moment before ours fails to bind it, hence the look at whose data it serves.
        if self.mode() is None:
            return False
        try:
            return f"\ndataDir={self.data_dir}/" in "\n" + self.four_letter_word("conf", 1.0)
        except OSError:
            return False

    def _running(self) -> WatchedChild:
        if self._child is None or not self._child.is_running:
            raise RuntimeError("the ZooKeeper server is not running")
        return self._child

    def _log_tail(self) -> str:
        return self.log.read_bytes()[-_LOG_TAIL:].decode(errors="replace") if self.log.exists() else ""


class ApacheEnsemble:
    """Several servers that elect a leader; each of `members` can be killed, paused and restarted on its own.

    A member's `start` waits until it serves, so it needs a quorum; without one use its `launch`.
    """

    def __init__(
        self,
        n: int = 3,
        *,
        tick_time: int = 200,
        java_options: Sequence[str] = QUICK_START,
        start_timeout: float = 60.0,
    ) -> None:
        self._n = n
        self._tick_time = tick_time
        self._java_options = tuple(java_options)
        self._start_timeout = start_timeout
        self._members: tuple[ApacheZooKeeper, ...] = ()

    @property
    def members(self) -> tuple[ApacheZooKeeper, ...]:
        """The servers, in the order of `hosts`; empty before the first start."""
        return self._members

    @property
    def hosts(self) -> str:
        """The connect string that names all members, without a namespace."""
        return ",".join(member.hosts for member in self._members)

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
        """Start all members (again, those that are down) and return when each of them serves."""
        deadline = time.monotonic() + self._start_timeout
        known = bool(self._members)
        while True:
            if not known:
                self._members = self._new_members()
            try:
                for member in self._members:
                    member.launch()
                for member in self._members:
                    member.wait_until_serving(deadline - time.monotonic())
            except _PortTaken:
                if time.monotonic() > deadline:
                    raise
                if not known:
                    self.close()
            else:
                return

    def stop(self) -> None:
        """End all members; ports and data stay."""
        for member in self._members:
            member.stop()

    def close(self) -> None:
        """End all members and remove their folders."""
        with ExitStack() as stack:
            for member in self._members:
                stack.callback(member.close)
        self._members = ()

    def leader(self) -> ApacheZooKeeper | None:
        """The member that leads now, if there is one. A paused member is none, but costs a second to ask."""
        return next((member for member in self._members if member.mode() == "leader"), None)

    def wait_for_leader(self, timeout: float = 30.0) -> ApacheZooKeeper:
        """The leader, when there is one. Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            leader = self.leader()
            if leader is not None:
                return leader
            time.sleep(_POLL)
        raise TimeoutError(f"no leader among {self.hosts} within {timeout:.0f} s")

    def _new_members(self) -> tuple[ApacheZooKeeper, ...]:
        ports = free_ports(3 * self._n)
        clients, peers, electors = ports[: self._n], ports[self._n : 2 * self._n], ports[2 * self._n :]
        settings = {"initLimit": "50", "syncLimit": "10"}  # in ticks: a slow machine may take long to start
        for number, (peer, elector) in enumerate(zip(peers, electors, strict=True), 1):
            settings[f"server.{number}"] = f"{LOOPBACK}:{peer}:{elector}"
        members = tuple(
            ApacheZooKeeper(tick_time=self._tick_time, port=port, settings=settings, java_options=self._java_options)
            for port in clients
        )
        for number, member in enumerate(members, 1):
            member.data_dir.mkdir()
            (member.data_dir / "myid").write_text(f"{number}\n")
        return members
