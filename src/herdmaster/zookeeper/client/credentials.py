"""The credentials that a program gives to a client: digest, SASL DIGEST-MD5 and Kerberos.

A password is a `str`, the path of a file (a `Path`), or a callable. Files are read and callables called anew for every
connection, so a password that is replaced needs no restart. None of these objects shows a password, in whatever way it
is printed.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NoReturn, Protocol, Self

from herdmaster.zookeeper.client import kerberos
from herdmaster.zookeeper.digest_md5 import Client, SaslError
from herdmaster.zookeeper.errors import AuthenticationFailed, CredentialUnavailable, InvalidCredential
from herdmaster.zookeeper.given_file import shown
from herdmaster.zookeeper.secret import Secret

Password = str | os.PathLike[str] | Callable[[], str | bytes]

_LONGEST: Final = 4096
"""Bytes of a user with its password; of a file with them, too."""


class Conversation(Protocol):
    """One SASL authentication, as the client has it."""

    def start(self) -> bytes:
        """Return the first token. Raises CredentialUnavailable."""

    def answer(self, token: bytes | None) -> bytes | None:
        """Return what answers the server's token; None if the authentication has succeeded. Raises
        AuthenticationFailed."""


class _UserPassword:
    """A user and its password, or the file of both.

    `user` is None if the file has both; `file` is None if the password is in memory or comes from a function.
    """

    __slots__ = ("_password", "_shown", "file", "user")

    def __init__(self, user: str, password: Password) -> None:
        """Raises InvalidCredential."""
        source = Secret(password.encode()) if isinstance(password, str) else password
        del password  # a traceback may show the local variables
        kind = type(self).__name__
        if not _is_text(user) or ":" in user:
            raise InvalidCredential(f"the user of {kind} is text without a colon")
        if isinstance(source, Secret) and not 0 < len(source.reveal()) <= _LONGEST - len(user.encode()):
            raise InvalidCredential(f"the password of {kind} is empty, or longer than {_LONGEST} bytes with its user")
        if not _is_source(source):
            del source
            raise InvalidCredential(f"the password of {kind} is a str, the Path of a file, or a callable")
        self.user: str | None = user
        self.file: Path | None = Path(source) if isinstance(source, os.PathLike) else None
        self._shown = str(self.file)
        self._password = None if isinstance(source, os.PathLike) else source

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """Return the credential of a file with one line `user:password`."""
        self = cls("-", Path(path))
        self.user = None
        self._shown = shown(path)
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled or copied")

    def __repr__(self) -> str:
        if not hasattr(self, "user"):  # shown while it is being made
            return f"<{type(self).__name__}>"
        if self.user is None:
            return f"{type(self).__name__}.from_file({str(self.file)!r})"
        return f"{type(self).__name__}({self.user!r}, {'***' if self.file is None else repr(str(self.file))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _UserPassword) and type(other) is type(self) and other._parts == self._parts

    def __hash__(self) -> int:
        return hash((type(self), self.user, self.file))

    @property
    def _parts(self) -> tuple[object, ...]:
        return self.user, self.file, self._password

    @property
    def blocks(self) -> bool:
        """Whether `load` may take long: it reads a file, or calls the program's function."""
        return not isinstance(self._password, Secret)

    def load(self) -> Secret:
        """Return `user:password` in UTF-8. Raises CredentialUnavailable."""
        if self.user is None:
            assert self.file is not None
            return _read_both(self.file, self._shown)
        if self.file is not None:
            return _join(self.user, _read(self.file, self._shown))
        if isinstance(self._password, Secret):
            return _join(self.user, self._password)
        assert self._password is not None
        return _join(self.user, _call(self._password, self.user))


class Digest(_UserPassword):
    """ZooKeeper's own `digest` scheme. The password crosses the wire as it is: use it with TLS."""

    __slots__ = ()
    scheme = "digest"


class Sasl(_UserPassword):
    """SASL DIGEST-MD5: the password does not cross the wire, and the server proves that it knows it, too."""

    __slots__ = ()
    mechanism: Final = "DIGEST-MD5"

    def converse(self, host: str) -> Conversation:  # noqa: ARG002 - Kerberos needs the host
        """Raises CredentialUnavailable."""
        return _DigestMd5(self.load())


class _DigestMd5:
    def __init__(self, line: Secret) -> None:
        user, _, password = line.reveal().partition(b":")
        self._client = Client(user.decode("utf-8", "replace"), Secret(password), secrets.token_hex(16))
        self._has_answered = False

    def start(self) -> bytes:
        return b""

    def answer(self, token: bytes | None) -> bytes | None:
        if token is None:
            raise AuthenticationFailed(
                "the server did not answer SASL DIGEST-MD5: it has no SASL, or another mechanism, or a wrong password "
                "(allowSaslFailedClients) hides behind this"
            )
        try:
            if not self._has_answered:
                self._has_answered = True
                return self._client.answer(token)
            self._client.verify(token)
        except SaslError as error:
            raise AuthenticationFailed(f"SASL DIGEST-MD5: {error}") from None
        return None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_source(value: object) -> bool:
    return isinstance(value, Secret | os.PathLike) or callable(value)


def _join(user: str, password: Secret) -> Secret:
    return Secret(user.encode() + b":" + password.reveal())


def _read(path: Path, name: str) -> Secret:
    """Return the first line of a file, which errors call `name`. Raises CredentialUnavailable."""
    try:
        with path.open("rb") as file:
            content = Secret(file.read(_LONGEST + 1))
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise CredentialUnavailable(f"credential file {name} cannot be read: {reason}") from None
    line = Secret(content.reveal().rstrip(b"\r\n"))
    if not line.reveal() or b"\n" in line.reveal() or len(line.reveal()) > _LONGEST:
        raise CredentialUnavailable(f"credential file {name} is not one line of at most {_LONGEST} bytes")
    return line


def _read_both(path: Path, name: str) -> Secret:
    line = _read(path, name)
    user, colon, password = line.reveal().partition(b":")
    is_whole = bool(user and colon and password)
    del user, colon, password  # a traceback may show the local variables
    if not is_whole:
        raise CredentialUnavailable(f"credential file {name} is not one line user:password")
    return line


def _call(function: Callable[[], str | bytes], user: str) -> Secret:
    try:
        password: object = function()
    except Exception as error:  # noqa: BLE001 - it is the program's; its text may hold the secret
        raise CredentialUnavailable(f"the password function of {user!r} raised {type(error).__name__}") from None
    if isinstance(password, str):
        password = password.encode()
    secret = Secret(password) if isinstance(password, bytes) else None
    del password
    if secret is None or not 0 < len(secret.reveal()) <= _LONGEST:
        raise CredentialUnavailable(f"the password function of {user!r} returned no password")
    return secret


class Kerberos:
    """SASL GSSAPI by a Kerberos ticket. Needs the package `gssapi`: `pip install herdmaster[kerberos]`.

    - `principal`: the client's; None takes that of the ticket cache or the first of the keytab.
    - `keytab`: the file of its key; None takes a ticket from the ticket cache ($KRB5CCNAME), which `kinit` fills.
    - `service` and `host`: the server's principal is `service/host`; `host` None is the one of the connect string.

    A ticket that has expired is replaced at the next connection: from the keytab, or by what the cache holds then.
    """

    __slots__ = ("_cache", "_shown_keytab", "host", "keytab", "principal", "service")
    principal: str | None
    keytab: Path | None
    service: str
    host: str | None
    mechanism: Final = "GSSAPI"
    blocks: Final = True

    def __init__(
        self,
        principal: str | None = None,
        *,
        keytab: str | os.PathLike[str] | None = None,
        service: str = "zookeeper",
        host: str | None = None,
    ) -> None:
        self.principal = principal
        self.keytab = None if keytab is None else Path(keytab)
        self._shown_keytab = "" if keytab is None else shown(keytab)
        self.service = service
        self.host = host
        self._cache = f"MEMORY:herdmaster-{secrets.token_hex(8)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kerberos) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    @property
    def _parts(self) -> tuple[object, ...]:
        return self.principal, self.keytab, self.service, self.host

    def __repr__(self) -> str:
        keytab = None if self.keytab is None else str(self.keytab)
        return f"Kerberos({self.principal!r}, keytab={keytab!r}, service={self.service!r}, host={self.host!r})"

    def converse(self, host: str) -> Conversation:
        """Raises CredentialUnavailable, InvalidCredential without the package."""
        target = f"{self.service}@{self.host or host}"
        keytab = None if self.keytab is None else kerberos.Keytab(self.keytab, self._shown_keytab, self._cache)
        return kerberos.Conversation(target, self.principal, keytab)


Credential = Digest | Sasl | Kerberos


def checked(auth: Credential | Iterable[Credential] | None) -> tuple[Credential, ...]:
    """Return the credentials of a client. Raises InvalidCredential."""
    given: tuple[object, ...] = () if auth is None else tuple(auth) if isinstance(auth, Iterable) else (auth,)
    credentials = tuple(each for each in given if isinstance(each, Credential))
    if len(credentials) < len(given):
        del auth, given  # a wrong type may be a password
        raise InvalidCredential("auth takes Digest, Sasl or Kerberos, or several of them")
    if sum(not isinstance(each, Digest) for each in credentials) > 1:
        raise InvalidCredential("a connection has one SASL identity: give one Sasl or one Kerberos")
    return credentials
