"""Apache's own ZooKeeper server as a child process on loopback, alone or as an ensemble."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from herdmaster.testing.child_server import POLL, ChildServer, PortTaken, ServerStartFailed
from herdmaster.testing.installation import Installation, ZooKeeperNotInstalled, find_zookeeper
from herdmaster.testing.ports import LOOPBACK, free_ports
from herdmaster.zookeeper.tls import TLS

__all__ = [
    "QUICK_START",
    "ApacheEnsemble",
    "ApacheZooKeeper",
    "ServerStartFailed",
    "ZooKeeperNotInstalled",
    "find_zookeeper",
]

QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xms32m", "-Xmx256m")
"""Java options for a server that starts in half a second; a benchmark needs the full compiler: use `-Xmx512m` alone."""

_SYSTEM_PROPERTIES = (
    "-Dzookeeper.jmx.log4j.disable=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Djava.net.preferIPv4Stack=true",
)


class ApacheZooKeeper(ChildServer):
    """One server of Apache ZooKeeper with its own port and data folder.

    Without `folder` everything is in a temporary folder that `close` removes. `settings` are further lines of
    `zoo.cfg`; None removes a default line. With `tls` there is a second port, for TLS: `secure_port`, else a free
    one. If `tls` has a `ca`, clients have to show a certificate of it there; the key must not be encrypted. `start`
    needs the four-letter words `srvr` and `conf`: for a server that does not answer both use `launch`. `tick_time`
    is in milliseconds; session timeouts are negotiated between 2 and 20 ticks.

    Raises ZooKeeperNotInstalled when made, ServerStartFailed from `start` and `restart`.
    """

    def __init__(
        self,
        *,
        tick_time: int = 200,
        port: int | None = None,
        folder: Path | None = None,
        settings: Mapping[str, str | None] | None = None,
        tls: TLS | None = None,
        secure_port: int | None = None,
        java_options: Sequence[str] = QUICK_START,
        installation: Installation | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        super().__init__(port=port, folder=folder, start_timeout=start_timeout)
        self._installation = installation or find_zookeeper()
        self._tick_time = tick_time
        self._settings = dict(settings or {})
        self._tls = tls
        self._secure_port = secure_port
        self._java_options = tuple(java_options)

    @property
    def secure_hosts(self) -> str:
        """The connect string for clients with TLS, without a namespace."""
        if self._secure_port is None:
            raise RuntimeError("the server has no port for TLS before its first start, and none without tls=")
        return f"{LOOPBACK}:{self._secure_port}"

    def _command(self) -> Sequence[str]:
        conf = self.folder / "conf"
        conf.mkdir(exist_ok=True)
        config = conf / "zoo.cfg"
        config.write_text("".join(f"{name}={value}\n" for name, value in self._config().items()))
        class_path = ":".join(map(str, (conf, *self._installation.jars)))
        java = [str(self._installation.java), *self._java_options, *_SYSTEM_PROPERTIES, "-cp", class_path]
        return [*java, "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(config)]

    def _config(self) -> dict[str, str]:
        lines = {
            "dataDir": str(self.data_dir),
            "clientPort": str(self.port),
            "clientPortAddress": LOOPBACK,
            "tickTime": str(self._tick_time),
            "4lw.commands.whitelist": "*",
            "admin.enableServer": "false",
            "maxClientCnxns": "0",
            **self._secure_config(),
            **self._settings,
        }
        return {name: value for name, value in lines.items() if value is not None}

    def _is_serving(self) -> bool:
        return super()._is_serving() and self._is_serving_tls()

    def _is_serving_tls(self) -> bool:
        """Whether the port for TLS takes connections: the server opens it after the plain one."""
        if self._secure_port is None:
            return True
        try:
            socket.create_connection((LOOPBACK, self._secure_port), 1.0).close()
        except OSError:
            return False
        return True

    def _secure_config(self) -> dict[str, str]:
        """Return the lines for TLS, and write the file that they name: the server takes certificate and key as one."""
        tls = self._tls
        if tls is None or tls.certificate is None:
            return {}
        if self._secure_port is None:
            (self._secure_port,) = free_ports(1)
        store = self.folder / "conf" / "certificate.pem"
        store.touch(0o600)
        store.write_bytes(b"".join(Path(file).read_bytes() for file in (tls.certificate, tls.key) if file is not None))
        stores = {"keyStore": str(store)} if tls.ca is None else {"keyStore": str(store), "trustStore": str(tls.ca)}
        return {
            "secureClientPort": str(self._secure_port),
            "secureClientPortAddress": LOOPBACK,
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "ssl.clientAuth": "none" if tls.ca is None else "need",
            **{f"ssl.{name}.location": path for name, path in stores.items()},
            **{f"ssl.quorum.{name}.location": path for name, path in stores.items()},
        }


class ApacheEnsemble:
    """Several servers that elect a leader; each of `members` can be killed, paused and restarted on its own.

    `reroute`, if given, is called with a member, another member and the port where the latter takes followers. It
    returns the port where the first member looks for the other: a proxy's, for partitions between servers. Members
    count from 0. `tls` is as for one server, and all have the same certificate. With a
    `ca` they speak TLS with each other, too.

    A member's `start` waits until it serves, so it needs a quorum; without one use its `launch`.
    """

    def __init__(
        self,
        n: int = 3,
        *,
        tick_time: int = 200,
        java_options: Sequence[str] = QUICK_START,
        start_timeout: float = 60.0,
        reroute: Callable[[int, int, int], int] | None = None,
        tls: TLS | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._n = n
        self._tls = tls
        self._more_settings = dict(settings or {})
        self._reroute = reroute
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

    @property
    def secure_hosts(self) -> str:
        """The connect string for clients with TLS, which names all members, without a namespace."""
        return ",".join(member.secure_hosts for member in self._members)

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
        """Start all members that do not run, and return when each member serves."""
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
            except PortTaken:
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
        """Return the leader, if there is one. A paused member is not the leader, and delays the answer by a second."""
        return next((member for member in self._members if member.mode() == "leader"), None)

    def wait_for_leader(self, timeout: float = 30.0) -> ApacheZooKeeper:
        """Return the leader once there is one. Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            leader = self.leader()
            if leader is not None:
                return leader
            time.sleep(POLL)
        raise TimeoutError(f"no leader among {self.hosts} within {timeout:.0f} s")

    def _new_members(self) -> tuple[ApacheZooKeeper, ...]:
        count = self._n
        ports = free_ports(4 * count)
        clients, peers, electors, secure = (ports[start : start + count] for start in range(0, 4 * count, count))
        members = tuple(
            ApacheZooKeeper(
                tick_time=self._tick_time,
                port=port,
                settings=self._settings(own, list(zip(peers, electors, strict=True))),
                java_options=self._java_options,
                tls=self._tls,
                secure_port=None if self._tls is None else secure[own],
            )
            for own, port in enumerate(clients)
        )
        for number, member in enumerate(members, 1):
            member.data_dir.mkdir()
            (member.data_dir / "myid").write_text(f"{number}\n")
        return members

    def _settings(self, own: int, ports: list[tuple[int, int]]) -> dict[str, str]:
        is_secure = self._tls is not None and self._tls.ca is not None
        settings = {
            "initLimit": "50",  # in ticks: a slow machine may take long to start
            "syncLimit": "10",
            "sslQuorum": str(is_secure).lower(),
            **self._more_settings,
        }
        for number, (peer, elector) in enumerate(ports):
            if self._reroute is not None and number != own:
                peer = self._reroute(own, number, peer)  # noqa: PLW2901 - the port where the other member is reached
            settings[f"server.{number + 1}"] = f"{LOOPBACK}:{peer}:{elector}"
        return settings
