"""The credentials that environment variables and options of commands give, and those that go on to other processes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from herdmaster.errors import ConfigurationError
from herdmaster.zookeeper.client import Credential, Digest, Kerberos, Sasl
from herdmaster.zookeeper.errors import InvalidCredential
from herdmaster.zookeeper.given_file import of_environment
from herdmaster.zookeeper.secret import Secret

VARIABLES: Final = {
    "digest": "HERD_AUTH_DIGEST",
    "digest_file": "HERD_AUTH_DIGEST_FILE",
    "sasl": "HERD_AUTH_SASL",
    "sasl_file": "HERD_AUTH_SASL_FILE",
    "kerberos": "HERD_AUTH_KERBEROS",
    "kerberos_principal": "HERD_AUTH_KERBEROS_PRINCIPAL",
    "kerberos_keytab": "HERD_AUTH_KERBEROS_KEYTAB",
    "kerberos_service": "HERD_AUTH_KERBEROS_SERVICE",
}
"""HERD_AUTH_DIGEST and HERD_AUTH_SASL hold `user:password` themselves, and have no option: `ps` would show it."""


FILES: Final = frozenset({"digest_file", "sasl_file", "kerberos_keytab"})
"""The keys of VARIABLES that are paths."""
_KINDS: Final[dict[str, type[Digest | Sasl]]] = {"digest": Digest, "sasl": Sasl}
_EMPTY: Final = Secret(b"")


class AuthRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A credential for another process. It names files, and holds no password. `user` None means a file
    `user:password`, `service` is that of Kerberos."""

    kind: str
    user: str | None = None
    file: str | None = None
    service: str = "zookeeper"
    host: str | None = None


def environment_auth() -> tuple[Credential, ...]:
    """Return the credentials of the environment. Raises ConfigurationError."""
    names = [name for name in VARIABLES if name not in _KINDS]
    given = {name: of_environment(VARIABLES[name], is_file=name in FILES) for name in names}
    secrets = {name: Secret(os.environ.get(VARIABLES[name], "").encode()) for name in _KINDS}
    return read_auth(given, secrets)


def read_auth(given: Mapping[str, str | None], secrets: Mapping[str, Secret] | None = None) -> tuple[Credential, ...]:
    """Return credentials by the keys of VARIABLES; of a `GivenFile` errors say what has given it. `secrets` are the
    values `user:password` of "digest" and "sasl".

    Raises ConfigurationError.
    """
    found: list[Credential] = []
    for name, kind in _KINDS.items():
        file = given.get(f"{name}_file")
        secret = (secrets or {}).get(name, _EMPTY)
        if file:
            found.append(kind.from_file(file))
        elif secret != _EMPTY:
            found.append(_split(kind, VARIABLES[name], secret))
    flag = given.get("kerberos")
    if flag not in (None, "0", "1"):
        raise ConfigurationError(f"${VARIABLES['kerberos']} takes 1 or 0")
    principal, keytab, service = (given.get(f"kerberos_{name}") for name in ("principal", "keytab", "service"))
    if flag != "0" and (flag == "1" or principal or keytab or service):
        name, _, host = (service or "zookeeper").partition("/")
        found.append(Kerberos(principal, keytab=keytab, service=name, host=host or None))
    if sum(not isinstance(each, Digest) for each in found) > 1:
        raise ConfigurationError("a connection has one SASL identity: give a user of SASL or Kerberos, not both")
    return tuple(found)


def _split(kind: type[Digest | Sasl], variable: str, secret: Secret) -> Digest | Sasl:
    if b"" in secret.reveal().partition(b":"):
        raise ConfigurationError(f"${variable} does not hold user:password")
    user = secret.reveal().partition(b":")[0].decode("utf-8", "replace")
    try:
        return kind(user, secret.reveal().partition(b":")[2].decode("utf-8", "replace"))
    except InvalidCredential as error:
        raise ConfigurationError(f"${variable}: {error}") from None


def export_auth(auth: tuple[Credential, ...]) -> None:
    """Write credentials into the environment, for this process and those that it starts. They come from options, so
    they name files."""
    for variable in VARIABLES.values():
        os.environ.pop(variable, None)
    for record in records_of(auth) or []:
        if record.kind == "kerberos":
            service = record.service if record.host is None else f"{record.service}/{record.host}"
            values = ("1", record.user, record.file, service)
            names = ("kerberos", "kerberos_principal", "kerberos_keytab", "kerberos_service")
            os.environ.update({VARIABLES[name]: value for name, value in zip(names, values, strict=True) if value})
        elif record.file is not None:
            os.environ[VARIABLES[f"{record.kind}_file"]] = record.file


def records_of(auth: tuple[Credential, ...]) -> list[AuthRecord] | None:
    """Return the credentials for another process; None if one of them holds a password or a function, which stays in
    this process."""
    records = []
    for each in auth:
        if isinstance(each, Kerberos):
            keytab = None if each.keytab is None else str(each.keytab.absolute())
            records.append(AuthRecord("kerberos", each.principal, keytab, each.service, each.host))
        elif each.file is not None:
            kind = "digest" if isinstance(each, Digest) else "sasl"
            records.append(AuthRecord(kind, each.user, str(each.file.absolute())))
        else:
            return None
    return records


def auth_of(records: list[AuthRecord]) -> tuple[Credential, ...]:
    """Return the credentials that another process has passed on."""
    return tuple(map(_credential_of, records))


def _credential_of(record: AuthRecord) -> Credential:
    if record.kind == "kerberos":
        return Kerberos(record.user, keytab=record.file, service=record.service, host=record.host)
    kind = _KINDS[record.kind]
    file = Path(record.file or "")
    return kind.from_file(file) if record.user is None else kind(record.user, file)
