"""The errors of the ZooKeeper client and server.

The classes::

    HerdError
    └── ZooKeeperError
        ├── ServerError                 the server answered with an error code; one subclass per code
        │   ├── NoNode, NodeExists, BadVersion, NotEmpty, NoAuth, ...
        │   └── TransactionFailed       a transaction was refused: which operation, and its error
        ├── ConnectionLoss              the request may or may not have been applied
        ├── SessionExpired              the session is over; none of its requests will be applied any more
        │   └── ClientClosed            it is over because this side closed it
        ├── AuthenticationFailed        the server refused a credential, or wants one
        ├── CredentialUnavailable       this side could not get its credential: a file, a function, a ticket
        ├── InvalidCredential           a credential that cannot work (also a ValueError)
        ├── NoServerReachable           no session within the time that the caller allowed
        ├── WireError                   bytes that are not the protocol
        ├── InvalidPath                 not a path that ZooKeeper takes (also a ValueError)
        ├── InvalidConnectString        not `host:port[,host:port...][/path]` (also a ValueError)
        └── InvalidTls                  TLS settings or files that cannot work; names the file (also a ValueError)
"""

from __future__ import annotations

from typing import ClassVar

from herdmaster.errors import HerdError


class ZooKeeperError(HerdError):
    """The base of all errors of this layer."""


class ServerError(ZooKeeperError):
    """The server answered with an error code.

    `code` is the number on the wire, `path` the path that the request was about, if it was about one.
    """

    code: ClassVar[int] = 0
    by_code: ClassVar[dict[int, type[ServerError]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" in cls.__dict__:
            ServerError.by_code[cls.code] = cls

    def __init__(self, path: str = "") -> None:
        super().__init__(f"{type(self).__name__}: {path}" if path else type(self).__name__)
        self.path = path


class UnknownServerError(ServerError):
    """An error code that this client has no name for."""

    def __init__(self, path: str = "", number: int = 0) -> None:
        super().__init__(path)
        self.number = number
        self.args = (f"ZooKeeper error {number}: {path}",)


class SystemFault(ServerError):
    code = -1


class RuntimeInconsistency(ServerError):
    code = -2


class MarshallingError(ServerError):
    code = -5


class Unimplemented(ServerError):
    code = -6


class OperationTimeout(ServerError):
    code = -7


class BadArguments(ServerError):
    code = -8


class NoNode(ServerError):
    code = -101


class NoAuth(ServerError):
    """The session lacks a right. `lacks` says which and where, such as `CREATE on /tasks`; empty if that is unknown.
    `presented` names the schemes by which the session has authenticated."""

    code = -102

    def __init__(self, path: str = "", lacks: str = "", presented: str = "") -> None:
        super().__init__(path)
        self.lacks = lacks
        if lacks:
            self.args = (f"{self.args[0]}: this session lacks the right {lacks}{_advice(presented)}",)


def _advice(presented: str) -> str:
    if not presented:
        return ""
    # Any password makes a session of scheme digest; only the rights depend on it.
    doubt = " (ZooKeeper does not check its password: that may be wrong)" if "digest" in presented.split(", ") else ""
    return (
        f"; it has presented {presented}{doubt}: give it the credentials of an identity that has this right "
        "(docs/security.md lists them)"
    )


class BadVersion(ServerError):
    code = -103


class NoChildrenForEphemerals(ServerError):
    code = -108


class NodeExists(ServerError):
    code = -110


class NotEmpty(ServerError):
    code = -111


class InvalidAcl(ServerError):
    code = -114


class NotReadOnly(ServerError):
    code = -119


class EphemeralOnLocalSession(ServerError):
    code = -120


class NoWatcher(ServerError):
    code = -121


class ReconfigDisabled(ServerError):
    code = -123


class SaslRequired(ServerError):
    code = -124


class QuotaExceeded(ServerError):
    code = -125


class ThrottledOp(ServerError):
    """The server was too busy and did not execute the request, so it is safe to send again."""

    code = -127


class TransactionFailed(ServerError):
    """A transaction was refused; nothing of it was applied.

    `index` is the position of the operation that failed, `error` the error of that operation.
    """

    def __init__(self, index: int, error: ServerError) -> None:
        super().__init__(error.path)
        self.index = index
        self.error = error
        self.args = (f"operation {index} of the transaction: {error}",)


class ConnectionLoss(ZooKeeperError):
    """The connection was lost after the request had left: it may or may not have been applied."""


class SessionExpired(ZooKeeperError):
    """The session is over, and ZooKeeper refuses every request that it still sends."""


class ClientClosed(SessionExpired):
    """The session is over because this client closed it."""


class AuthenticationFailed(ZooKeeperError):
    """The server refused a credential of this client, wants one, or did not prove who it is."""


class CredentialUnavailable(ZooKeeperError):
    """This side could not get the credential for a connection: a file, a function or a ticket. The text holds no
    secret."""


class InvalidCredential(ZooKeeperError, ValueError):
    """A credential that cannot work, or whose package is not installed. The text holds no secret."""


class NoServerReachable(ZooKeeperError):
    """No server gave a session within the time allowed."""


class RequestTooLarge(ZooKeeperError, ValueError):
    """The request is larger than any server takes: a server would close the connection."""


class WireError(ZooKeeperError):
    """The bytes do not follow the protocol."""


class InvalidPath(ZooKeeperError, ValueError):
    """Not a path that ZooKeeper accepts. The server would not always say so: it answers some requests as for an absent
    znode."""


class InvalidConnectString(ZooKeeperError, ValueError):
    """Not `host:port[,host:port...][/path]`."""


class InvalidTls(ZooKeeperError, ValueError):
    """Settings or files of TLS that cannot work; the text names the file and says what to do."""


SESSION_EXPIRED_CODE = -112
AUTH_FAILED_CODE = -115


def from_code(code: int, path: str = "") -> ServerError:
    """Return the error for a code of the wire; `UnknownServerError` for a code without a name."""
    kind = ServerError.by_code.get(code)
    return UnknownServerError(path, code) if kind is None else kind(path)
