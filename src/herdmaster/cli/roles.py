"""`herd master` and `herd worker`: the processes that stay."""

from __future__ import annotations

import click

from herdmaster.cli.options import (
    check_seconds,
    choose_hosts,
    connect_timeout_option,
    hosts_argument,
    log_options,
    session_timeout_option,
)


@click.command
@hosts_argument
@session_timeout_option
@connect_timeout_option(30)
@log_options("info")
def master(hosts: str | None, session_timeout: float, connect_timeout: float, log_level: str, log_format: str) -> None:
    """Run a master, primary or backup.

    SIGTERM and Ctrl-C end its session, so that a backup takes over at once.
    """
    from herdmaster.cli.logs import configure_logs
    from herdmaster.cli.running import run_role
    from herdmaster.roles.master import Master, MasterSettings

    configure_logs(log_level, log_format)
    settings = MasterSettings(session_timeout=session_timeout, connect_timeout=connect_timeout)
    run_role(Master(choose_hosts(hosts), settings))


@click.command
@hosts_argument
@click.option("--app", metavar="MODULE[:ATTR]", help="The Herd whose tasks it runs. Without it, raw tasks alone.")
@click.option(
    "--slots", type=click.IntRange(1, 10_000), metavar="N", help="Tasks at a time.  [default: CPUs + 4, at most 32]"
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
    slots: int | None,
    queues: tuple[str, ...],
    drain_timeout: float,
    session_timeout: float,
    connect_timeout: float,
    log_level: str,
    log_format: str,
) -> None:
    """Run a worker.

    It runs the tasks of an app, and raw tasks, whose text it prints unless the app has a handler for them. The first
    SIGTERM or Ctrl-C drains it: what runs may end, the rest is handed back. A second one stops it at once.
    """
    from herdmaster.api.loading import load_app
    from herdmaster.cli.logs import configure_logs
    from herdmaster.cli.running import run_role
    from herdmaster.core.names import DEFAULT_QUEUE
    from herdmaster.roles.worker import Worker, WorkerSettings, default_slots, print_raw

    configure_logs(log_level, log_format)
    loaded = load_app(app) if app is not None else None
    settings = WorkerSettings(
        session_timeout=session_timeout,
        connect_timeout=connect_timeout,
        drain_timeout=drain_timeout,
        slots=slots or default_slots(),
        queues=tuple(dict.fromkeys(queues)) or (loaded.queues if loaded is not None else (DEFAULT_QUEUE,)),
    )
    run_role(
        Worker(
            choose_hosts(hosts, loaded.explicit_hosts if loaded is not None else None),
            loaded.functions if loaded is not None else {},
            settings,
            (loaded.raw if loaded is not None else None) or print_raw,
        )
    )
