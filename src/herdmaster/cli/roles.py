"""`herd master` and `herd worker`: the processes that stay."""

from __future__ import annotations

from typing import Final

import click

from herdmaster.cli.options import (
    Decorator,
    Duration,
    check_seconds,
    choose_hosts,
    connect_timeout_option,
    hosts_argument,
    import_option,
    log_options,
    session_timeout_option,
)

_MIN_OVERDUE: Final = 30.0


def _check_overdue(_ctx: click.Context, param: click.Parameter, value: float) -> float:
    """A callback. What the primary is about to move could be lost if it were moved by another."""
    if value < _MIN_OVERDUE:
        raise click.BadParameter(
            f"{value:g} seconds are too short: a primary of the reference needs up to {_MIN_OVERDUE:g} to take over "
            "and to move a task.",
            param=param,
        )
    return value


def _overdue_option(name: str, what: str) -> Decorator:
    return click.option(
        name,
        type=Duration(),
        callback=_check_overdue,
        default="2m",
        show_default=True,
        help=f"Under a primary of the reference: {what}.",
    )


@click.command
@hosts_argument
@session_timeout_option
@connect_timeout_option(30)
@_overdue_option("--assign-overdue", "a task that stands in /tasks for longer is assigned")
@_overdue_option("--recover-overdue", "the inbox of a worker that has been gone for longer is recovered")
@log_options("info")
def master(
    *,
    hosts: str | None,
    session_timeout: float,
    connect_timeout: float,
    assign_overdue: float,
    recover_overdue: float,
    log_level: str,
    log_format: str,
) -> None:
    """Run a master, primary or backup.

    SIGTERM and Ctrl-C end its session, so that a backup takes over at once. While a program of the reference is
    primary, the oldest master does what that one does not do: delays, cancelling, sweeping, and what it leaves lying.
    """
    from herdmaster.cli.logs import configure_role_logs
    from herdmaster.cli.running import run_role
    from herdmaster.roles.primary.master import Master, MasterSettings
    from herdmaster.roles.primary.overdue import Patience

    configure_role_logs(log_level, log_format)
    settings = MasterSettings(
        session_timeout=session_timeout,
        connect_timeout=connect_timeout,
        patience=Patience(task=assign_overdue, inbox=recover_overdue),
    )
    run_role(Master(choose_hosts(hosts), settings))


_count = click.IntRange(1, 10_000)


@click.command
@hosts_argument
@click.option("--app", metavar="MODULE[:ATTR]", help="The Herd whose tasks it runs. Without it, raw tasks alone.")
@click.option(
    "--slots",
    type=_count,
    metavar="N",
    help="Tasks at a time, in all.  [default: CPUs + 4, at most 32; 1000 if all are coroutines]",
)
@click.option(
    "--threads", type=_count, metavar="N", help="Of these, on threads.  [default: all; beside coroutines CPUs + 4]"
)
@click.option("--processes", type=_count, metavar="N", help="Of these, in processes.  [default: CPUs]")
@import_option
@click.option(
    "--allow-import",
    multiple=True,
    metavar="PREFIX",
    help="A module whose functions, and those of modules below it, are run unregistered; may be repeated.",
)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME",
    help="A queue to serve; may be repeated.  [default: `default`, and what the app's tasks name]",
)
@click.option(
    "--drain-timeout",
    type=float,
    callback=check_seconds,
    metavar="SECONDS",
    default=25,
    show_default=True,
    help="How long what runs may still take when the worker is told to stop.",
)
@session_timeout_option
@connect_timeout_option(30)
@log_options("info")
def worker(
    *,
    hosts: str | None,
    app: str | None,
    imports: tuple[str, ...],
    slots: int | None,
    threads: int | None,
    processes: int | None,
    allow_import: tuple[str, ...],
    queues: tuple[str, ...],
    drain_timeout: float,
    session_timeout: float,
    connect_timeout: float,
    log_level: str,
    log_format: str,
) -> None:
    """Run a worker.

    It runs the tasks of an app, and raw tasks, whose text it prints unless the app has a handler for them. Where HOSTS
    is given, the app's Herd goes there too, whatever its own hosts are: what tasks submit stays with this worker. The
    first SIGTERM, SIGHUP or Ctrl-C drains it: what runs may end, the rest is handed back. Under a primary of the
    reference it runs what it has been given. A second SIGTERM or Ctrl-C stops it at once.
    """
    from herdmaster.cli.first_process import leave_first_process

    leave_first_process()  # before anything else is imported, which it would only carry along

    from herdmaster.cli.logs import configure_role_logs
    from herdmaster.cli.named_app import load_for_worker, make_worker
    from herdmaster.cli.running import run_role
    from herdmaster.core.names import DEFAULT_QUEUE
    from herdmaster.roles.worker.worker import WorkerSettings

    configure_role_logs(log_level, log_format)
    loaded = load_for_worker(app, hosts, imports)
    settings = WorkerSettings(
        session_timeout=session_timeout,
        connect_timeout=connect_timeout,
        drain_timeout=drain_timeout,
        slots=slots,
        threads=threads,
        processes=processes,
        queues=tuple(dict.fromkeys(queues)) or (loaded.queues if loaded is not None else (DEFAULT_QUEUE,)),
    )
    hosts = choose_hosts(hosts, loaded.hosts if loaded is not None else None)
    run_role(make_worker(hosts, app, loaded, settings, imports=imports, allow_import=allow_import))
