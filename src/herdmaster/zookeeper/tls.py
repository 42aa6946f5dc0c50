"""TLS: the settings of one end, and the context of each connection, made of files that are read anew each time."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from herdmaster.zookeeper.errors import InvalidTls
from herdmaster.zookeeper.given_file import shown

FilePath = str | os.PathLike[str]
KeyPassword = Callable[[], str | bytes]

_MOST_PASSWORD: Final = 1024
"""Bytes that OpenSSL takes."""


class TLS(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of TLS, version 1.2 or newer. All files are in PEM form, and are read again for every connection: a
    certificate that is replaced needs no restart.

    - `ca`: the file of the certificate authorities that the server's certificate must be of; None takes the system's.
    - `certificate`: the file of this end's own certificate, and of the authorities between it and the root.
    - `key`: the file of its private key; None if that is in the file of the certificate.
    - `key_password`: called for the password of an encrypted key, for every connection, on a thread that may block.
      `PasswordFile` reads a file.
    - `server_name`: the name that the server's certificate must have; None takes the host of the connect string.
    - `verify_host_name`: False takes any certificate of the authorities, whose owner can then pose as the server.
    """

    ca: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    key_password: KeyPassword | None = None
    server_name: str | None = None
    verify_host_name: bool = True


class PasswordFile(msgspec.Struct, frozen=True):
    """Reads a password from a file, without the end of its line. For `TLS.key_password`."""

    path: FilePath

    def __call__(self) -> bytes:
        """Raises InvalidTls."""
        return _read(self.path, "key password").rstrip(b"\r\n")


def may_block(tls: TLS) -> bool:
    """Return whether a context needs code of the program, which may take long."""
    return tls.key_password is not None and not isinstance(tls.key_password, PasswordFile)


def client_context(tls: TLS) -> ssl.SSLContext:
    """Return the context of a client's connection. Raises InvalidTls, which names the file."""
    context = _context(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls)
    context.check_hostname = tls.verify_host_name
    if tls.ca is None:
        context.load_default_certs()
    return context


def server_context(tls: TLS, kind: type[ssl.SSLContext] = ssl.SSLContext) -> ssl.SSLContext:
    """Return the context of a server's connection, of the class `kind`. If `ca` is given, clients have to show a
    certificate of it.

    Raises InvalidTls, which names the file.
    """
    if tls.certificate is None:
        raise InvalidTls("a server needs a certificate for TLS: give certificate= and key=")
    context = _context(kind(ssl.PROTOCOL_TLS_SERVER), tls)
    if tls.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(context: ssl.SSLContext, tls: TLS) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.ca is not None:
        _load_authorities(context, tls.ca, "CA")
    if tls.certificate is not None:
        _load_certificate(context, tls, tls.certificate)
    elif tls.key is not None:
        raise InvalidTls(f"key file {shown(tls.key)} is given without a certificate")
    return context


def _load_authorities(context: ssl.SSLContext, path: FilePath, kind: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except OSError:  # ssl.SSLError is one
        _read(path, kind)
        raise InvalidTls(f"{kind} file {shown(path)} has no certificate in PEM form") from None


def _load_certificate(context: ssl.SSLContext, tls: TLS, certificate: FilePath) -> None:
    def read_password() -> str | bytes:
        if tls.key_password is None:  # OpenSSL would ask on the terminal
            raise InvalidTls(f"key file {shown(tls.key or certificate)} is encrypted: give its password")
        password: object = _ask(tls.key_password, tls.key or certificate)
        if not isinstance(password, (str, bytes)) or len(password) > _MOST_PASSWORD:
            del password  # a traceback may show the local variables
            name = shown(tls.key or certificate)
            raise InvalidTls(f"the password of key file {name} is not text of at most {_MOST_PASSWORD} bytes")
        return password

    try:
        context.load_cert_chain(certificate, tls.key, read_password)
    except OSError as error:
        raise _explain(error, tls, certificate) from None


def _ask(key_password: KeyPassword, key: FilePath) -> object:
    """Return what the program's function returns. An error of it is one of these settings, and must not end a task of
    the client."""
    try:
        return key_password()
    except InvalidTls:
        raise
    except Exception as error:
        raise InvalidTls(
            f"the password of key file {shown(key)} is not available: {type(error).__name__}: {error}"
        ) from error


def _explain(error: OSError, tls: TLS, certificate: FilePath) -> InvalidTls:
    """Find out which file is wrong: OpenSSL does not say."""
    key = tls.key or certificate
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate, "certificate")
    content = _read(key, "key")
    if b"PRIVATE KEY-----" not in content:
        return InvalidTls(f"key file {shown(key)} has no private key in PEM form")
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        return InvalidTls(f"key file {shown(key)} is not the key of the certificate in {shown(certificate)}")
    if b"ENCRYPTED" in content:
        return InvalidTls(f"key file {shown(key)} cannot be decrypted: its password is wrong")
    return InvalidTls(f"certificate file {shown(certificate)} and key file {shown(key)} cannot be used: {error}")


def _read(path: FilePath, kind: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidTls(
            f"{kind} file {shown(path)} cannot be read: {(error.strerror or str(error)).lower()}"
        ) from None
