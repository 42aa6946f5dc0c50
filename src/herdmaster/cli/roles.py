"""`herd master` and `herd worker`: the long-running processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from herdmaster.cli.help import Command
from herdmaster.cli.options import (
    Decorator,
    Duration,
    app_option,
    check_age,
    check_seconds,
    connect_timeout_option,
    hosts_argument,
    import_option,
    listen_option,
    log_options,
    session_timeout_option,
)
from herdmaster.cli.security import security_options

if TYPE_CHECKING:
    from herdmaster.api.direction import Target
    from herdmaster.api.security import GivenSecurity
    from herdmaster.cli.final_failures import FinalFailures
    from herdmaster.roles.primary.master import MasterSettings

_NO_APP: Final = "--import names modules that register tasks with an app: give --app as well"
_MIN_OVERDUE: Final = 30.0
_MIB: Final = 1024 * 1024


def _check_overdue(_ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Check that the reference's primary has time to move its tasks: two who move one task could lose it."""
    if value < _MIN_OVERDUE:
        raise click.BadParameter(
            f"{value:g} seconds are too short: a reference primary needs up to {_MIN_OVERDUE:g} to take over and to "
            "move a task.",
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
        help=f"Under a reference primary: {what}.",
    )


def _age_option(name: str, default: str, what: str) -> Decorator:
    return click.option(
        name, type=Duration(), callback=check_age, default=default, show_default=True, help=f"How long to keep {what}."
    )


@click.command(cls=Command)
@hosts_argument
@session_timeout_option
@connect_timeout_option(30)
@security_options
@_overdue_option("--assign-overdue", "assign tasks that are in /tasks for longer")
@_overdue_option("--recover-overdue", "recover the inboxes of workers that are gone for longer")
@_age_option("--outcome-ttl", "1d", "an outcome that no client collects")
@_age_option("--history-age", "1d", "the history")
@click.option(
    "--history-size",
    type=click.IntRange(1, 1024),
    metavar="MIB",
    default=16,
    show_default=True,
    help="Merge or delete the oldest history when all of it is larger.",
)
@app_option("Call the on_final_failure hooks of this app, in another process, for what the master ends.")
@import_option
@listen_option
@log_options("info")
def master(
    *,
    hosts: str | None,
    app: str | None,
    imports: tuple[str, ...],
    listen: str | None,
    security: GivenSecurity,
    log_level: str,
    log_format: str,
    **settings: Any,  # the options of `_master_settings`
) -> None:
    """Run a master, primary or backup.

    SIGTERM and Ctrl-C end its session, so that a backup takes over at once. Under a reference primary, the oldest
    master does what that program does not: delays, cancelling, sweeping, and tasks that it leaves behind.
    """
    if app is None and imports:
        raise click.UsageError(_NO_APP)
    if app is not None:
        from herdmaster.cli.first_process import leave_first_process

        leave_first_process()  # before further imports, which the parent would only keep in memory

    from herdmaster.cli.logs import configure_role_logs
    from herdmaster.cli.monitored import Monitoring
    from herdmaster.cli.running import run_role
    from herdmaster.cli.session import Session
    from herdmaster.roles.primary.master import Master

    configure_role_logs(log_level, log_format)
    target = Session(hosts, None, settings["connect_timeout"], security).find_target()
    monitoring = Monitoring(listen, target.security)
    role, beside = Master(target.hosts, _master_settings(**settings), monitoring.system), []
    if app is not None:
        failures = _final_failures(app, imports, log_level, log_format)
        role.task_ended = failures.task_ended
        beside.append(failures.run())
        if hosts is not None or not security.is_empty:
            _direct_hooks(target)
    run_role(monitoring.watch(role, *beside))


def _final_failures(app: str, imports: tuple[str, ...], log_level: str, log_format: str) -> FinalFailures:
    from herdmaster.cli.final_failures import FinalFailures

    return FinalFailures(app, imports, log_level, log_format)


def _direct_hooks(target: Target) -> None:
    """Direct what the hooks of a master's app submit to the servers of the master."""
    from herdmaster.cli.named_app import direct_all

    direct_all(target)


def _master_settings(
    *,
    session_timeout: float,
    connect_timeout: float,
    assign_overdue: float,
    recover_overdue: float,
    outcome_ttl: float,
    history_age: float,
    history_size: int,
) -> MasterSettings:
    from herdmaster.roles.primary.master import MasterSettings
    from herdmaster.roles.primary.overdue import Patience
    from herdmaster.roles.primary.sweeper import Ages

    return MasterSettings(
        session_timeout=session_timeout,
        connect_timeout=connect_timeout,
        patience=Patience(task=assign_overdue, inbox=recover_overdue),
        ages=Ages(outcome=outcome_ttl, history=history_age, history_size=history_size * _MIB),
    )


_count = click.IntRange(1, 10_000)


@click.command(cls=Command)
@hosts_argument
@app_option("The app whose tasks the worker runs. Without an app: raw tasks only.")
@click.option(
    "--slots",
    type=_count,
    metavar="N",
    help="Run at most N tasks at a time.  [default: CPUs + 4, at most 32; 1000 if all are coroutines]",
)
@click.option(
    "--threads", type=_count, metavar="N", help="At most N on threads.  [default: all; beside coroutines CPUs + 4]"
)
@click.option("--processes", type=_count, metavar="N", help="At most N in processes.  [default: CPUs]")
@import_option
@click.option(
    "--allow-import",
    multiple=True,
    metavar="PREFIX",
    help="Run unregistered functions of this module and of those below it; may be repeated.",
)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME",
    help="Serve this queue; may be repeated.  [default: `default`, and the queues of the app's tasks]",
)
@click.option(
    "--drain-timeout",
    type=float,
    callback=check_seconds,
    metavar="SECONDS",
    default=25,
    show_default=True,
    help="How long running tasks may still take when the worker is told to stop.",
)
@session_timeout_option
@connect_timeout_option(30)
@security_options
@listen_option
@log_options("info")
@click.option("--log-task", is_flag=True, help="Begin text lines from inside a task with its name, call and attempt.")
def worker(
    *,
    hosts: str | None,
    app: str | None,
    imports: tuple[str, ...],
    allow_import: tuple[str, ...],
    queues: tuple[str, ...],
    listen: str | None,
    security: GivenSecurity,
    log_level: str,
    log_format: str,
    **settings: Any,  # `log_task`, and the fields of WorkerSettings that are options
) -> None:
    """Run a worker.

    It runs the tasks of an app, and raw tasks, whose text it prints unless the app has a handler for them. If HOSTS is
    given, the app's Herd uses them too, whatever it names itself: what tasks submit stays with this worker.

    The first SIGTERM, SIGHUP or Ctrl-C drains the worker: running tasks may finish, the others are handed back. Under a
    reference primary it runs its inbox empty. A second SIGTERM or Ctrl-C stops it at once.
    """
    from herdmaster.cli.first_process import leave_first_process

    leave_first_process()  # before further imports, which the parent would only keep in memory

    from herdmaster.cli.declared import compare_schedules
    from herdmaster.cli.logs import configure_role_logs
    from herdmaster.cli.monitored import Monitoring
    from herdmaster.cli.named_app import load_for_worker, make_worker, queues_of
    from herdmaster.cli.running import run_role
    from herdmaster.roles.worker.worker import WorkerSettings

    configure_role_logs(log_level, log_format, task=settings.pop("log_task"))
    herd, target = load_for_worker(app, hosts, security, imports)
    monitoring = Monitoring(listen, target.security)
    new = WorkerSettings(queues=tuple(dict.fromkeys(queues)) or queues_of(herd), **settings)
    role = make_worker(
        target.hosts, app, herd, new, imports=imports, allow_import=allow_import, system=monitoring.system
    )
    run_role(monitoring.watch(role, *compare_schedules(app, herd, role, target)))
