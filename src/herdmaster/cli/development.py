"""`herd zookeeper` and `herd dev`: commands for development, without an ensemble."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from herdmaster.cli.options import app_option, import_option, log_options

if TYPE_CHECKING:
    from herdmaster.api import Herd
    from herdmaster.roles.primary.master import Master
    from herdmaster.zookeeper.tls import TLS

_FILE: Final = click.Path(dir_okay=False)


def _check_filled(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty option, which an unset shell variable gives: it would mean every address of this machine, or the
    working directory."""
    if value is not None and not value.strip():
        raise click.BadParameter("the value is empty: give one, or leave the option out.")
    return value


_port = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=2181,
    show_default=True,
    metavar="N",
    help="The port; 0: any free one.",
)
_data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    callback=_check_filled,
    metavar="DIR",
    help="Keep the data in DIR, also across crashes. Without DIR, data are kept in memory.",
)


@click.command
@_port
@click.option(
    "--host", default="127.0.0.1", show_default=True, callback=_check_filled, help="The address to listen on."
)
@_data_dir
@click.option(
    "--tls-certificate", type=_FILE, metavar="FILE", help="Speak TLS on the port, as the server of this certificate."
)
@click.option("--tls-key", type=_FILE, metavar="FILE", help="The key of the certificate.  [default: in its file]")
@click.option("--tls-key-password-file", type=_FILE, metavar="FILE", help="The password of an encrypted key.")
@click.option("--tls-client-ca", type=_FILE, metavar="FILE", help="Take only clients with a certificate of these.")
@click.option(
    "--secure-port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Speak TLS on this port, and leave the other one plain.",
)
@click.option(
    "--sasl-users",
    type=_FILE,
    metavar="FILE",
    help="Let clients authenticate by SASL DIGEST-MD5, as the users of FILE: lines user:password.",
)
@click.option(
    "--require-auth",
    "required",
    type=click.Choice(["digest", "sasl", "x509"]),
    multiple=True,
    metavar="SCHEME",
    help="Take only clients that have authenticated by SCHEME: digest, sasl or x509. May be repeated.",
)
@log_options("info")
def zookeeper(
    *,
    port: int,
    host: str,
    data_dir: str | None,
    secure_port: int | None,
    sasl_users: str | None,
    required: tuple[str, ...],
    log_level: str,
    log_format: str,
    **tls: Any,
) -> None:
    """Run a ZooKeeper-compatible server for development and tests.

    One node, without Java. It listens on this machine only, unless --host names another address. Use an ensemble of
    Apache ZooKeeper in production.
    """
    from herdmaster.cli.embedded import ServerProcess
    from herdmaster.cli.logs import configure_role_logs
    from herdmaster.cli.running import run_until_stopped
    from herdmaster.cli.sasl_users import read_users
    from herdmaster.zookeeper.server import descriptors
    from herdmaster.zookeeper.server.settings import Access

    for scheme, option, value in (
        ("sasl", "--sasl-users", sasl_users),
        ("x509", "--tls-client-ca", tls["tls_client_ca"]),
    ):
        if scheme in required and value is None:
            raise click.UsageError(f"--require-auth {scheme} needs {option}")
    configure_role_logs(log_level, log_format)
    descriptors.raise_limit()
    access = Access({} if sasl_users is None else read_users(sasl_users), required)
    run_until_stopped(ServerProcess(host, port, data_dir, _server_tls(secure_port, **tls), secure_port, access=access))


def _server_tls(
    secure_port: int | None,
    *,
    tls_certificate: str | None,
    tls_key: str | None,
    tls_key_password_file: str | None,
    tls_client_ca: str | None,
) -> TLS | None:
    from herdmaster.zookeeper.given_file import GivenFile
    from herdmaster.zookeeper.tls import TLS, PasswordFile

    if tls_certificate is None:
        if secure_port is not None or tls_key or tls_key_password_file or tls_client_ca:
            raise click.UsageError("TLS needs --tls-certificate")
        return None
    return TLS(
        ca=tls_client_ca and GivenFile(tls_client_ca, "--tls-client-ca"),
        certificate=GivenFile(tls_certificate, "--tls-certificate"),
        key=tls_key and GivenFile(tls_key, "--tls-key"),
        key_password=PasswordFile(GivenFile(tls_key_password_file, "--tls-key-password-file"))
        if tls_key_password_file
        else None,
    )


@click.command
@app_option("The app whose tasks the worker runs.", required=True)
@import_option
@click.option("--slots", type=click.IntRange(1, 10_000), metavar="N", help="Run at most N tasks at a time.")
@_port
@_data_dir
@log_options("info")
def dev(
    *,
    app: str,
    imports: tuple[str, ...],
    slots: int | None,
    port: int,
    data_dir: str | None,
    log_level: str,
    log_format: str,
) -> None:
    """Run a server, a master and a worker in this terminal.

    The server is an embedded ZooKeeper on ZooKeeper's usual port, so programs that use Herd() connect to it. What tasks
    submit stays there as well, whatever hosts the app's Herd names. Ctrl-C ends all three.
    """
    from herdmaster.cli.first_process import leave_first_process

    leave_first_process()  # before further imports, which the parent would only keep in memory

    from herdmaster.api.direction import Target
    from herdmaster.cli.declared import DeclaredSchedules
    from herdmaster.cli.embedded import Development, ServerProcess
    from herdmaster.cli.logs import configure_role_logs
    from herdmaster.cli.named_app import direct, load_directed_app, make_worker, queues_of
    from herdmaster.cli.running import run_until_stopped
    from herdmaster.roles.shared.role import Role
    from herdmaster.roles.worker.worker import WorkerSettings

    configure_role_logs(log_level, log_format)
    # No server answers there yet: an app that submits while it is imported fails, and does not reach its own hosts.
    loaded = load_directed_app(app, f"127.0.0.1:{port or 1}", imports)
    settings = WorkerSettings(slots=slots, queues=queues_of(loaded))

    def make_roles(hosts: str) -> list[Role]:
        direct(loaded, Target(hosts))
        return [make_worker(hosts, app, loaded, settings, imports=imports), _make_master(hosts, loaded)]

    server, store = ServerProcess("127.0.0.1", port, data_dir), DeclaredSchedules(app, loaded).store
    run_until_stopped(Development(server, make_roles, store))


def _make_master(hosts: str, herd: Herd) -> Master:
    """Return a master that calls the app's hooks in this process, as the worker beside it does."""
    from herdmaster.api.internals import core_of
    from herdmaster.roles.primary.master import Master
    from herdmaster.roles.worker.error_calls import ErrorCalls

    master = Master(hosts)
    master.task_ended = ErrorCalls(core_of(herd).registry.hooks).call_final
    return master
