"""The worker of an app that was named on the command line."""

from __future__ import annotations

import sys

from herdmaster.api import Herd
from herdmaster.api.loading import import_from_here
from herdmaster.roles.hooks import Hooks
from herdmaster.roles.worker import Worker, WorkerSettings, print_raw


def make_worker(
    hosts: str, spec: str | None, herd: Herd | None, settings: WorkerSettings, allow_import: tuple[str, ...] = ()
) -> Worker:
    """`herd` is what `spec` stands for. Raises what `Worker` raises."""
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
