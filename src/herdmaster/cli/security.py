"""The options of commands for TLS and for authentication."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, cast

import click

from herdmaster.cli.options import C

if TYPE_CHECKING:
    from herdmaster.api.security import GivenSecurity

_FILE: Final = click.Path(dir_okay=False)
_FILES: Final = ("tls_ca", "tls_certificate", "tls_key", "tls_key_password_file")
_AUTH_FILES: Final = ("auth_digest_file", "auth_sasl_file", "auth_kerberos_keytab")
_AUTH_NAMES: Final = ("auth_kerberos_principal", "auth_kerberos_service")


def security_options(command: C) -> C:
    """Pass `security` to a command, made of the options for TLS and for authentication."""

    @functools.wraps(command)
    def run_with_security(
        *,
        tls: bool | None,
        tls_no_host_name_check: bool,
        auth_kerberos: bool,
        **rest: Any,  # any option
    ) -> object:
        files = {name: _given_file(name, rest.pop(name)) for name in (*_FILES, *_AUTH_FILES)}
        named = {name.removeprefix("tls_"): files[name] for name in _FILES}
        named["server_name"] = cast("str | None", rest.pop("tls_server_name"))
        auth = {name.removeprefix("auth_"): files[name] for name in _AUTH_FILES}
        auth |= {name.removeprefix("auth_"): cast("str | None", rest.pop(name)) for name in _AUTH_NAMES}
        auth["kerberos"] = "1" if auth_kerberos else None
        return command(security=_read(tls, named, tls_no_host_name_check, auth), **rest)

    decorated = run_with_security
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return cast("C", decorated)


_OPTIONS: Final = (
    click.option(
        "--tls/--no-tls",
        default=None,
        help="Encrypt connections with ZooKeeper; the other --tls options imply this.  [default: the app, $HERD_TLS]",
    ),
    click.option(
        "--tls-ca",
        type=_FILE,
        metavar="FILE",
        help="The authorities that the servers' certificates are of.  [default: $HERD_TLS_CA, or the system's]",
    ),
    click.option(
        "--tls-certificate",
        type=_FILE,
        metavar="FILE",
        help="The certificate of this client.  [default: $HERD_TLS_CERTIFICATE]",
    ),
    click.option("--tls-key", type=_FILE, metavar="FILE", help="Its private key.  [default: $HERD_TLS_KEY]"),
    click.option(
        "--tls-key-password-file",
        type=_FILE,
        metavar="FILE",
        help="The password of an encrypted key.  [default: $HERD_TLS_KEY_PASSWORD_FILE]",
    ),
    click.option(
        "--tls-server-name",
        metavar="NAME",
        help="The name in the servers' certificates.  [default: $HERD_TLS_SERVER_NAME, or each server's host]",
    ),
    click.option(
        "--tls-no-host-name-check",
        is_flag=True,
        help="Take a certificate for any name. This is insecure: see the guide.",
    ),
    click.option(
        "--auth-digest-file",
        type=_FILE,
        metavar="FILE",
        help="Authenticate with ZooKeeper by scheme digest, as the user:password in FILE.  "
        "[default: the app, $HERD_AUTH_DIGEST_FILE]",
    ),
    click.option(
        "--auth-sasl-file",
        type=_FILE,
        metavar="FILE",
        help="Authenticate by SASL DIGEST-MD5, as the user:password in FILE.  [default: the app, $HERD_AUTH_SASL_FILE]",
    ),
    click.option(
        "--auth-kerberos",
        is_flag=True,
        help="Authenticate by Kerberos (SASL GSSAPI); the other --auth-kerberos options imply this.  "
        "[default: the app, $HERD_AUTH_KERBEROS]",
    ),
    click.option(
        "--auth-kerberos-principal", metavar="NAME", help="The principal of this client.  [default: that of its ticket]"
    ),
    click.option(
        "--auth-kerberos-keytab",
        type=_FILE,
        metavar="FILE",
        help="The keytab with its key.  [default: none, the ticket is in the cache]",
    ),
    click.option(
        "--auth-kerberos-service",
        metavar="SERVICE[/HOST]",
        help="The servers' principal.  [default: zookeeper, and each server's host]",
    ),
)


def _given_file(name: str, value: str | None) -> str | None:
    from herdmaster.zookeeper.given_file import GivenFile

    return GivenFile(value, f"--{name.replace('_', '-')}") if value else value


def _read(
    enabled: bool | None, named: dict[str, str | None], no_host_name_check: bool, auth: dict[str, str | None]
) -> GivenSecurity:
    from herdmaster.api.auth import read_auth
    from herdmaster.api.security import GivenSecurity, read_tls

    given = GivenSecurity(auth=read_auth(auth)) if any(auth.values()) else GivenSecurity()
    is_named = no_host_name_check or any(named.values())
    if enabled is None and not is_named:
        return given
    if enabled is False and is_named:
        raise click.UsageError("--no-tls is given together with other options for TLS")
    tls = read_tls(named, enabled=enabled is not False, verify_host_name=not no_host_name_check)
    return GivenSecurity(tls, given.auth)
