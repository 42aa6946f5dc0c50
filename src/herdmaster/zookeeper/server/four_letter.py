"""The four-letter words: questions of operators and of some clients, sent in place of a handshake."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from herdmaster.zookeeper.server.connection import Connection
from herdmaster.zookeeper.server.latency import Latency
from herdmaster.zookeeper.server.state import State
from herdmaster.zookeeper.server.watches import Table, Watches
from herdmaster.zookeeper.wire.opcodes import OpCode

VERSION: Final = "3.9.2-herdmaster"
"""The release whose behaviour the server follows, in the form that clients parse: the first 3.9 whose `exists` needs
READ."""

_BUILT: Final = f"{VERSION}, built on 2026-11-22 00:00 UTC"
"""There is no build. This is the day on which these lines were last compared with those of Apache's server."""

Value = str | Callable[[], str]
"""A value, or a function that returns it."""


_NOT_OFFERED: Final = ("crst", "dirs", "gtmk", "hash", "init", "lsnp", "orst", "srst", "stmk")


class Overview(Protocol):
    """What the words report about."""

    @property
    def state(self) -> State: ...
    @property
    def watches(self) -> Watches[Connection]: ...
    @property
    def connections(self) -> Collection[Connection]: ...
    @property
    def about(self) -> Mapping[str, Value]: ...
    @property
    def environment(self) -> Mapping[str, str]: ...
    @property
    def measures(self) -> Mapping[str, Value]: ...
    @property
    def latency(self) -> Latency: ...
    @property
    def received(self) -> int: ...
    @property
    def sent(self) -> int: ...


def answer(word: bytes, server: Overview, uptime: int) -> bytes | None:
    """Return the whole answer, or None if the bytes are no such word. `uptime` in milliseconds."""
    try:
        name = word.decode("ascii")
    except UnicodeDecodeError:
        return None
    answer_to = _WORDS.get(name)
    if answer_to is not None:
        return answer_to(_Answers(server, uptime)).encode()
    if name in _NOT_OFFERED:
        return f"{name} is not executed because it is not in the whitelist.\n".encode()
    return None


class _Answers:
    """The answers, one method per word."""

    def __init__(self, server: Overview, uptime: int) -> None:
        self._server = server
        self._uptime = uptime

    def ruok(self) -> str:
        return "imok"

    def isro(self) -> str:
        return "rw"

    def _summary(self) -> str:
        latency = self._server.latency
        return (
            f"Latency min/avg/max: {latency.least}/{latency.mean}/{latency.most}\n"
            f"Received: {self._server.received}\n"
            f"Sent: {self._server.sent}\n"
            f"Connections: {len(self._server.connections)}\n"
            f"Outstanding: {_outstanding(self._server)}\n"
            f"Zxid: 0x{self._server.state.zxid:x}\n"
            f"Mode: standalone\n"
            f"Node count: {len(self._server.state.tree)}\n"
        )

    def srvr(self) -> str:
        return _version() + self._summary()

    def stat(self) -> str:
        clients = "".join(f" {_client(connection)})\n" for connection in self._server.connections)
        return f"{_version()}Clients:\n{clients}\n{self._summary()}"

    def cons(self) -> str:
        return (
            "".join(
                f" {_client(connection)}{_session(self._server, connection)})\n"
                for connection in self._server.connections
            )
            + "\n"
        )

    def mntr(self) -> str:
        tree, latency = self._server.state.tree, self._server.latency
        values = {
            "version": _BUILT,
            "server_state": "standalone",
            "uptime": self._uptime,
            "avg_latency": latency.mean,
            "max_latency": latency.most,
            "min_latency": latency.least,
            "packets_received": self._server.received,
            "packets_sent": self._server.sent,
            "num_alive_connections": len(self._server.connections),
            "outstanding_requests": _outstanding(self._server),
            "znode_count": len(tree),
            "watch_count": len(self._server.watches),
            "ephemerals_count": sum(len(paths) for paths in tree.ephemerals.values()),
            "approximate_data_size": tree.data_size,
            "global_sessions": len(self._server.state.sessions),
            "local_sessions": 0,
            **{key: _text_of(value) for key, value in self._server.measures.items()},
        }
        return "".join(f"zk_{key}\t{value}\n" for key, value in values.items())

    def conf(self) -> str:
        about = self._server.about.items()
        return "".join(f"{key}={_text_of(value)}\n" for key, value in about)

    def envi(self) -> str:
        values = {"zookeeper.version": _BUILT, **self._server.environment}
        return "Environment:\n" + "".join(f"{key}={value}\n" for key, value in values.items())

    def dump(self) -> str:
        sessions = self._server.state.sessions
        buckets = sessions.buckets()
        lines = ["SessionTracker dump:", f"Session Sets ({len(buckets)})/({len(sessions)}):"]
        for deadline, members in buckets:
            lines.append(f"{len(members)} expire at {deadline} ms of the server's clock:")
            lines.extend(f"\t{_hex(session_id)}" for session_id in members)
        ephemerals = self._server.state.tree.ephemerals
        lines += ["ephemeral nodes dump:", f"Sessions with Ephemerals ({len(ephemerals)}):"]
        for session_id, paths in ephemerals.items():
            lines.append(f"{_hex(session_id)}:")
            lines.extend(f"\t{path}" for path in paths)
        attached = [connection for connection in self._server.connections if connection.session_id]
        lines += ["Connections dump:", f"Connections Sets (1)/({len(attached)}):"]
        lines.extend(f"\tip: /{each.host}:{each.port} sessionId: {_hex(each.session_id)}" for each in attached)
        return "\n".join(lines) + "\n"

    def wchs(self) -> str:
        """Only the data table, as ZooKeeper counts; there, persistent watches are in that table, too."""
        tables = _data_tables(self._server)
        watchers = {watcher for table in tables for watcher in table.by_watcher}
        paths = {path for table in tables for path in table.by_path}
        total = sum(len(table) for table in tables)
        return f"{len(watchers)} connections watching {len(paths)} paths\nTotal watches:{total}\n"

    def wchc(self) -> str:
        by_session: dict[int, dict[str, None]] = {}
        for table in _data_tables(self._server):
            for connection, paths in table.by_watcher.items():
                by_session.setdefault(connection.session_id, {}).update(paths)
        return _listing({_hex(session_id): list(paths) for session_id, paths in by_session.items()})

    def wchp(self) -> str:
        by_path: dict[str, dict[str, None]] = {}
        for table in _data_tables(self._server):
            for path, connections in table.by_path.items():
                by_path.setdefault(path, {}).update((_hex(each.session_id), None) for each in connections)
        return _listing({path: list(sessions) for path, sessions in by_path.items()})


def _text_of(value: Value) -> str:
    return value if isinstance(value, str) else value()


def _version() -> str:
    return f"Zookeeper version: {_BUILT}\n"


def _client(connection: Connection) -> str:
    return (
        f"/{connection.host}:{connection.port}[{int(connection.session_id != 0)}]"
        f"(queued={len(connection.backlog)},recved={connection.received},sent={connection.sent}"
    )


def _session(server: Overview, connection: Connection) -> str:
    session = server.state.sessions.find(connection.session_id)
    if session is None:
        return ""
    latency = connection.latency
    return (
        f",sid={_hex(session.id)},lop={_operation(connection.last_opcode)},est={connection.established}"
        f",to={session.timeout},lcxid={_hex(connection.last_xid)},lzxid={_hex(connection.last_zxid)}"
        f",lresp={connection.responded},llat={latency.newest},minlat={latency.least}"
        f",avglat={round(latency.mean)},maxlat={latency.most}"
    )


def _listing(groups: Mapping[str, list[str]]) -> str:
    return "".join(f"{key}\n" + "".join(f"\t{item}\n" for item in items) for key, items in groups.items()) + "\n"


def _data_tables(server: Overview) -> tuple[Table[Connection], ...]:
    return server.watches.data, server.watches.persistent, server.watches.recursive


def _outstanding(server: Overview) -> int:
    return sum(len(connection.backlog) for connection in server.connections)


def _operation(opcode: int) -> str:
    """Return the short name of a request, as Apache's server writes it."""
    return _SHORT_NAMES.get(opcode, "UNKN")


def _hex(number: int) -> str:
    return f"0x{number & 0xFFFFFFFFFFFFFFFF:x}"


_SHORT_NAMES: Final[dict[int, str]] = {
    0: "NA",
    OpCode.CREATE: "CREA",
    OpCode.DELETE: "DELE",
    OpCode.EXISTS: "EXIS",
    OpCode.GET_DATA: "GETD",
    OpCode.SET_DATA: "SETD",
    OpCode.GET_ACL: "GETA",
    OpCode.SET_ACL: "SETA",
    OpCode.GET_CHILDREN: "GETC",
    OpCode.SYNC: "SYNC",
    OpCode.PING: "PING",
    OpCode.GET_CHILDREN2: "GETC",
    OpCode.CHECK: "CHEC",
    OpCode.MULTI: "MULT",
    OpCode.CREATE2: "CREA",
    OpCode.RECONFIG: "RECO",
    OpCode.CHECK_WATCHES: "CHEW",
    OpCode.REMOVE_WATCHES: "REMW",
    OpCode.CREATE_CONTAINER: "CREA",
    OpCode.CREATE_TTL: "CREA",
    OpCode.MULTI_READ: "MULT",
    OpCode.AUTH: "AUTH",
    OpCode.SET_WATCHES: "SETW",
    OpCode.SASL: "SASL",
    OpCode.GET_EPHEMERALS: "GETE",
    OpCode.GET_ALL_CHILDREN_NUMBER: "GETA",
    OpCode.SET_WATCHES2: "SETW",
    OpCode.ADD_WATCH: "ADDW",
    OpCode.WHO_AM_I: "WHOA",
    OpCode.CREATE_SESSION: "SESS",
    OpCode.CLOSE_SESSION: "CLOS",
}

_WORDS: Final[dict[str, Callable[[_Answers], str]]] = {
    "ruok": _Answers.ruok,
    "isro": _Answers.isro,
    "srvr": _Answers.srvr,
    "stat": _Answers.stat,
    "cons": _Answers.cons,
    "mntr": _Answers.mntr,
    "conf": _Answers.conf,
    "envi": _Answers.envi,
    "dump": _Answers.dump,
    "wchs": _Answers.wchs,
    "wchc": _Answers.wchc,
    "wchp": _Answers.wchp,
}
