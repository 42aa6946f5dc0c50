"""The options of commands for TLS."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, cast

import click

from herdmaster.cli.options import C

if TYPE_CHECKING:
    from herdmaster.api.security import GivenSecurity

_FILE: Final = click.Path(dir_okay=False)
_NAMES: Final = ("ca", "certificate", "key", "key_password_file", "server_name")


def security_options(command: C) -> C:
    """Pass `security` to a command, made of the options for TLS."""

    @functools.wraps(command)
    def run_with_security(*, tls: bool | None, tls_no_host_name_check: bool, **rest: Any) -> object:  # any option
        named = {name: cast("str | None", rest.pop(f"tls_{name}")) for name in _NAMES}
        return command(security=_read(tls, named, tls_no_host_name_check), **rest)

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
)


def _read(enabled: bool | None, named: dict[str, str | None], no_host_name_check: bool) -> GivenSecurity:
    from herdmaster.api.security import GivenSecurity, read_tls

    is_named = no_host_name_check or any(named.values())
    if enabled is None and not is_named:
        return GivenSecurity()
    if enabled is False and is_named:
        raise click.UsageError("--no-tls is given together with other options for TLS")
    return GivenSecurity(read_tls(named, enabled=enabled is not False, verify_host_name=not no_host_name_check))
