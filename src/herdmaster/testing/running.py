"""Masters and workers in this process, on an event loop that they share."""

from __future__ import annotations

import asyncio
from types import ModuleType, TracebackType
from typing import Self

from herdmaster.api import Herd
from herdmaster.api.direction import spec_of
from herdmaster.api.internals import core_of
from herdmaster.roles.shared.bootstrap import make_namespace
from herdmaster.roles.shared.role import Role
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import Worker, WorkerSettings, print_raw
from herdmaster.testing.background import BackgroundLoop
from herdmaster.zookeeper.client import parse_connect_string


class RunningRoles:
    """Roles that run from `start` until `stop`, which ends them in the order given, each as SIGTERM would."""

    def __init__(self, *roles: Role) -> None:
        self._roles = roles
        self._running: list[asyncio.Future[None]] = []
        self._background: BackgroundLoop | None = None

    def start(self) -> None:
        self._background = BackgroundLoop("herdmaster-roles")
        self._running = [self._background.start(role.run()) for role in self._roles]

    def stop(self) -> None:
        """End the roles. Raises what a role raised. Idempotent."""
        background, self._background = self._background, None
        if background is None:
            return
        try:
            for role, running in zip(self._roles, self._running, strict=True):
                background.call(role.stop)
                background.run(_finished(running), patience=60)
        finally:
            background.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def make_namespace_of(hosts: str) -> None:
    """Create the namespace of a connect string, so that no role warns that it does not exist."""
    background = BackgroundLoop("herdmaster-namespace")
    try:
        background.run(make_namespace(parse_connect_string(hosts), System(), session_timeout=4.0, connect_timeout=10.0))
    finally:
        background.close()


async def _finished(running: asyncio.Future[None]) -> None:
    await running


def make_workers(herd: Herd, hosts: str, count: int, slots: int, session_timeout: float) -> list[Worker]:
    """Make workers of the Herd's app, which serve all its queues. Raises ConfigurationError."""
    app = core_of(herd).registry
    app.load_imports()
    settings = WorkerSettings(session_timeout, slots=slots, queues=app.queues, drain_timeout=5.0)
    return [
        Worker(
            hosts,
            app.functions,
            settings,
            app.raw or print_raw,
            app=spec_of(herd),
            imports=app.imports,
            codecs=app.codecs,
            hooks=app.hooks,
            trace_parent=app.trace_parent,
            signed_only=app.signed_only,
        )
        for _ in range(count)
    ]


def check_herd(value: object) -> None:
    """Raise TypeError if this is not a Herd, and say what to pass instead."""
    if isinstance(value, Herd):
        return
    name = getattr(value, "__name__", None)
    if isinstance(value, str):
        given, instead = repr(value), f"import the module that has the Herd, and give that, as in {_example(value)}"
    elif isinstance(value, ModuleType):
        herds = [key for key, each in vars(value).items() if isinstance(each, Herd)]
        given = f"the module {name}"
        instead = f"give {' or '.join(f'{name}.{key}' for key in herds)}" if herds else "give its Herd, but it has none"
    else:
        given, instead = f"{value!r}", "give the Herd that the tasks belong to"
    raise TypeError(f"herd_worker takes a Herd, not {given}: {instead}")


def _example(text: str) -> str:
    module, _, attribute = text.partition(":")
    return f"{module}.{attribute or 'herd'}" if module.replace(".", "_").isidentifier() else "tasks.herd"
