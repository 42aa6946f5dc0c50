"""`herd zookeeper` and `herd dev`: what a laptop needs instead of an ensemble."""

from __future__ import annotations

import click

from herdmaster.cli.options import import_option, log_options


def _check_filled(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A callback. Empty is what a variable of the shell gives that is not set, and would mean all addresses of this
    machine, or its working directory."""
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty: give a value, or leave the option out.")
    return value


_port = click.option(
    "--port", type=click.IntRange(0, 65535), default=2181, show_default=True, metavar="N", help="0 takes a free one."
)
_data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    callback=_check_filled,
    metavar="DIR",
    help="Keep everything there, also over a crash. Without it, it is kept in memory.",
)


@click.command
@_port
@click.option(
    "--host", default="127.0.0.1", show_default=True, callback=_check_filled, help="The address to listen on."
)
@_data_dir
@log_options("info")
def zookeeper(*, port: int, host: str, data_dir: str | None, log_level: str, log_format: str) -> None:
    """Run a ZooKeeper-compatible server for development and tests.

    One node, no Java. It listens on this machine only, unless --host says otherwise. Production belongs on an ensemble
    of Apache ZooKeeper.
    """
    from herdmaster.cli.embedded import ServerProcess
    from herdmaster.cli.logs import configure_role_logs
    from herdmaster.cli.running import run_until_stopped
    from herdmaster.zookeeper.server import descriptors

    configure_role_logs(log_level, log_format)
    descriptors.raise_limit()
    run_until_stopped(ServerProcess(host, port, data_dir))


@click.command
@click.option("--app", required=True, metavar="MODULE[:ATTR]", help="The Herd whose tasks the worker runs.")
@import_option
@click.option("--slots", type=click.IntRange(1, 10_000), metavar="N", help="Tasks at a time.")
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
    """Run all that it takes in this terminal.

    An embedded ZooKeeper, a master and a worker. Programs that use Herd() find it by itself, as it takes ZooKeeper's
    usual port. What tasks submit stays there, whatever hosts the app's Herd names. Ctrl-C ends all three.
    """
    from herdmaster.cli.first_process import leave_first_process

    leave_first_process()  # before anything else is imported, which it would only carry along

    from herdmaster.api import fork_and_exit
    from herdmaster.cli.embedded import Development, ServerProcess
    from herdmaster.cli.logs import configure_role_logs
    from herdmaster.cli.named_app import direct, load_directed_app, make_worker
    from herdmaster.cli.running import run_until_stopped
    from herdmaster.roles.primary.master import Master
    from herdmaster.roles.shared.role import Role
    from herdmaster.roles.worker.worker import WorkerSettings

    configure_role_logs(log_level, log_format)
    # Nothing answers there yet: what an app submits when it is imported fails, and does not reach its own hosts.
    loaded = load_directed_app(app, f"127.0.0.1:{port or 1}", imports)
    settings = WorkerSettings(slots=slots, queues=loaded.queues)

    def make_roles(hosts: str) -> list[Role]:
        direct(loaded, hosts)
        return [make_worker(hosts, app, loaded, settings, imports=imports), Master(hosts)]

    run_until_stopped(Development(ServerProcess("127.0.0.1", port, data_dir), make_roles, fork_and_exit.close_all))
