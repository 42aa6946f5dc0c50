"""The app that the command line names, and its worker."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Final

import click

from herdmaster.api import Herd, direction
from herdmaster.api.app_loader import import_from_here, load_app
from herdmaster.api.checks import check_hosts
from herdmaster.api.direction import Target, spec_of
from herdmaster.api.herd_core import HerdCore
from herdmaster.api.internals import core_of
from herdmaster.api.registry import Registry
from herdmaster.api.security import GivenSecurity
from herdmaster.cli.failures import Failed, Refused
from herdmaster.cli.logs import restore_role_logs
from herdmaster.cli.printing import plain
from herdmaster.core.modules import check_modules, is_raised_by_herdmaster, place_of
from herdmaster.core.names import DEFAULT_QUEUE
from herdmaster.errors import ConfigurationError, HerdError
from herdmaster.greenlets import refuse_patched
from herdmaster.roles.shared.instruments import Instruments
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import Worker, WorkerSettings, print_raw
from herdmaster.running.spool import remove_left_over

_MAX_NAMED: Final = 10
PLAIN_GIVEN: Final = GivenSecurity(tls=None, auth=())
"""Plain connections, whatever the app and the environment say."""

_log = logging.getLogger("herdmaster")


def load_named_app(spec: str, imports: tuple[str, ...] = ()) -> Herd:
    """Load an app as `load_app`, and report an error of the app in one line, with its place.

    Such errors are a syntax error, a task or Herd that Herdmaster refuses, and an exit of the process. Raises Failed,
    Refused, and what `load_app` raises.
    """
    command = click.get_current_context().command_path
    try:
        return _load(spec, check_modules("--import", imports))
    except SyntaxError as error:
        file = error.filename
        if file is None or not Path(file).is_file():
            raise  # from code that the app compiles itself: the traceback has the place
        place = f"{file}, line {error.lineno}" if error.lineno else file
        shown = f": {error.text.strip()}" if error.text and error.text.strip() else ""
        kind = type(error).__name__
        raise Failed(f"{place}: {kind}: {error.msg}{shown}", command) from None
    except SystemExit as error:
        raise Failed(
            f"app {spec} calls sys.exit when it is imported{place_of(error)}: move that behind "
            "`if __name__ == '__main__':`",
            command,
        ) from None
    except (HerdError, TypeError) as error:
        if not is_raised_by_herdmaster(error):
            raise
        place = place_of(error)
        is_placed = not place or place.strip(" ()").partition(",")[0] in str(error)
        raise Refused(f"{error}{'' if is_placed else place}", command) from None


def _load(spec: str, imports: tuple[str, ...]) -> Herd:
    try:
        return load_app(spec, imports)
    finally:
        _end_if_patched()


def _end_if_patched() -> None:
    """Exit at once if the app has replaced threads by greenlets: an orderly exit would wait for lost threads."""
    try:
        refuse_patched()
    except ConfigurationError as error:
        with contextlib.suppress(OSError):
            os.write(2, plain(f"{click.get_current_context().command_path}: {error}\n").encode())
        os._exit(Refused.exit_code)


def announce(spec: str, herd: Herd, *, may_import: bool) -> None:
    """Log what an app has registered. `may_import`: the worker also runs unregistered functions."""
    app = core_of(herd).registry
    calls, name = sorted(app.functions), full_name(spec, herd)
    if calls:
        more = f" and {len(calls) - _MAX_NAMED} more" if len(calls) > _MAX_NAMED else ""
        count = "1 task" if len(calls) == 1 else f"{len(calls)} tasks"
        _log.info("worker: app %s has %s: %s%s", name, count, ", ".join(calls[:_MAX_NAMED]), more)
    elif app.raw is not None or may_import:
        _log.info("worker: app %s has no tasks", name)
    else:
        _log.warning(
            "worker: app %s has no tasks: if other modules register them, name these with `--import MODULE`, or in "
            "Herd(imports=['MODULE'])", name,
        )  # fmt: skip


def load_directed_app(
    spec: str, hosts: str, imports: tuple[str, ...] = (), security: GivenSecurity = PLAIN_GIVEN
) -> Herd:
    """Load an app as `load_named_app`, and direct its Herd to `hosts` until the command ends.

    During the import every Herd is directed, because the app's is not known yet. A Herd that names these hosts itself
    needs no direction unless `security` differs from its own. Raises also InvalidConnectString.
    """
    check_hosts(hosts)
    everything = direction.begin(Target(hosts, security.over(core_of(Herd()).own_target.security)))
    try:
        herd = load_named_app(spec, imports)
        is_directed = len(direction.targets()) > 1  # the process that started this one has directed it
        own = core_of(herd).own_target
        target = Target(hosts, security.over(own.security))
        is_own = direction.is_same_deployment(own.hosts, hosts) and target.security == own.security
        if is_directed or not is_own:
            direct(herd, target)  # before `everything` ends, so that what the app began while it was imported goes on
    finally:
        direction.end(everything)
    return herd


def load_for_worker(
    spec: str | None, hosts: str | None, security: GivenSecurity, imports: tuple[str, ...]
) -> tuple[Herd | None, Target]:
    """Load the worker's app, if it has one. Direct what the worker runs to `hosts`, if they are given, and give it
    `security`, if that is given. Return the app and what the worker itself connects to.

    Raises click.UsageError, InvalidConnectString, and what `load_named_app` raises.
    """
    if spec is None and imports:
        raise click.UsageError("--import names modules that register tasks with an app: give --app as well")
    herd = None
    if spec is not None:
        herd = load_named_app(spec, imports) if hosts is None else load_directed_app(spec, hosts, imports, security)
    found = core_of(herd or Herd()).target
    target = Target(found.hosts if hosts is None else hosts, security.over(found.security))
    if herd is not None and hosts is None and not security.is_empty:
        direct(herd, target)
    elif herd is None and (hosts is not None or not security.is_empty):
        direct_all(target)
    return herd, target


def queues_of(herd: Herd | None) -> tuple[str, ...]:
    """Return the queues that the tasks of an app name; the default one if there is no app."""
    return (DEFAULT_QUEUE,) if herd is None else core_of(herd).registry.queues


def direct(herd: Herd, target: Target) -> None:
    """Direct the Herd to `target` until the command ends. Raises InvalidConnectString."""
    click.get_current_context().call_on_close(core_of(herd).direct_to(target, spec_of(herd)))


def direct_all(target: Target) -> None:
    """Direct every Herd until the command ends: a worker without an app runs functions of any module.

    Raises InvalidConnectString.
    """
    check_hosts(target.hosts)
    click.get_current_context().call_on_close(partial(direction.end, direction.begin(target)))


def make_worker(
    hosts: str,
    spec: str | None,
    herd: Herd | None,
    settings: WorkerSettings,
    *,
    imports: tuple[str, ...] = (),
    allow_import: tuple[str, ...] = (),
    system: System | None = None,
) -> Worker:
    """Make the worker of an app, and log what the app has. `herd` is the Herd that `spec` names.

    Raises what `Worker` raises.
    """
    restore_role_logs()
    remove_left_over()
    if allow_import:
        import_from_here()
    if herd is None or spec is None:
        signed_only = Registry(None, ()).signed_only
        return Worker(hosts, {}, settings, system=system, allow_import=allow_import, signed_only=signed_only)
    announce(spec, herd, may_import=bool(allow_import))
    if system is not None:
        _measure(core_of(herd), system.instruments)
    app = core_of(herd).registry
    return Worker(
        hosts,
        app.functions,
        settings,
        app.raw or print_raw,
        system,
        app=full_name(spec, herd),
        codecs=app.codecs,
        hooks=app.hooks,
        trace_parent=app.trace_parent,
        signed_only=app.signed_only,
        imports=(*app.imports, *imports),
        allow_import=allow_import,
    )


def _measure(core: HerdCore, instruments: Instruments) -> None:
    """Let the metrics of the worker have what its app's Herd does, unless the app measures that itself."""
    if instruments.count_submissions is not None and core.instruments.count_submissions is None:
        core.measure(instruments)


def full_name(spec: str, herd: Herd) -> str:
    """Return `module:attribute`, by which another process finds the same Herd."""
    module, _, attribute = spec.partition(":")
    if attribute:
        return spec
    return f"{module}:{next(name for name, value in vars(sys.modules[module]).items() if value is herd)}"
