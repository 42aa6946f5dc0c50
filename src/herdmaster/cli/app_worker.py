"""The app that was named on the command line, and its worker."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from herdmaster.api import Herd, direction, process
from herdmaster.api.checks import check_hosts
from herdmaster.api.loading import import_from_here, load_app
from herdmaster.cli.failures import Failed
from herdmaster.cli.logs import restore_role_logs
from herdmaster.roles.hooks import Hooks
from herdmaster.roles.worker import Worker, WorkerSettings, print_raw


def load_named_app(spec: str) -> Herd:
    """As `load_app`, but a file that is no Python is told in one line: where it is, and what is wrong with it. Raises
    Failed, and what `load_app` raises."""
    try:
        return load_app(spec)
    except SyntaxError as error:
        file = error.filename
        if file is None or not Path(file).is_file():
            raise  # of code that the app itself compiles: its traceback says where
        place = f"{file}, line {error.lineno}" if error.lineno else file
        shown = f": {error.text.strip()}" if error.text and error.text.strip() else ""
        kind = type(error).__name__
        raise Failed(f"{place}: {kind}: {error.msg}{shown}", click.get_current_context().command_path) from None


def load_directed_app(spec: str, hosts: str) -> Herd:
    """As `load_named_app`. From its import on, for the rest of this process, the app's Herd goes to `hosts`.

    For the time of the import every Herd does: which of them is the app's is not known before. Raises also
    InvalidConnectString.
    """
    check_hosts(hosts)
    everything = direction.begin(hosts)
    try:
        herd = load_named_app(spec)
        herd.direct_to(hosts)
    finally:
        direction.end(everything)
        process.follow_direction()
    return herd


def direct_all(hosts: str) -> None:
    """Directs every Herd, for the rest of this process: a worker without an app runs functions of any modules. Raises
    InvalidConnectString."""
    check_hosts(hosts)
    direction.begin(hosts)


def make_worker(
    hosts: str, spec: str | None, herd: Herd | None, settings: WorkerSettings, allow_import: tuple[str, ...] = ()
) -> Worker:
    """`herd` is what `spec` stands for. Raises what `Worker` raises."""
    restore_role_logs()
    if allow_import:
        import_from_here()
    if herd is None or spec is None:
        return Worker(hosts, {}, settings, allow_import=allow_import)
    hooks: object = getattr(herd, "hooks", None)
    return Worker(
        hosts,
        herd.functions,
        settings,
        herd.raw or print_raw,
        app=full_name(spec, herd),
        codecs=getattr(herd, "codecs", None),
        hooks=hooks if isinstance(hooks, Hooks) else None,
        allow_import=allow_import,
    )


def full_name(spec: str, herd: Herd) -> str:
    """`module:attribute`, by which another process finds the same Herd."""
    module, _, attribute = spec.partition(":")
    if attribute:
        return spec
    return f"{module}:{next(name for name, value in vars(sys.modules[module]).items() if value is herd)}"
