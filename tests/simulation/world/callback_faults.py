"""Make callbacks of roles raise in simulated worlds, at moments that a seed draws."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

import pytest

from herdmaster.roles.shared import callbacks, role
from herdmaster.simulation.checks.log_check import LogCheck
from herdmaster.simulation.plan.drawing import draw_plan
from herdmaster.simulation.world.loop import Handle, VirtualLoop
from herdmaster.simulation.world.world import Result, World
from herdmaster.zookeeper.client.base import BaseClient
from herdmaster.zookeeper.client.connection import Connection

MOST: Final = 4
"""The most faults in a world."""
RATE: Final = 0.005
_OURS: Final = ("herdmaster.roles", "herdmaster.zookeeper.client", "herdmaster.simulation.world.pool")

Callback = Callable[..., Any]


class Injected(Exception):
    """Raised by a callback that is made to fail."""


def _role(failed: callbacks.Failed) -> role.Role:
    found = getattr(failed, "__self__", None)
    assert isinstance(found, role.Role)
    return found


class Injector:
    """Makes callbacks fail, before or after their work, until the horizon of the plan. Only callbacks of roles with a
    live session fail: from the loop, of a listener, or of the reply to a request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.injected: list[str] = []
        self._failed: dict[str, callbacks.Failed] = {}  # by the name of the process
        self._patch(monkeypatch)

    def run(self, seed: int) -> Result:
        self._rng = random.Random(f"{seed}/callbacks")
        self._left = MOST
        self._failed.clear()
        self._world = World(draw_plan(seed))
        return self._world.run()

    def _is_to_fail(self) -> bool:
        loop = self._world.loop
        failed = self._failed.get(loop.current.name)
        if failed is None or not self._left or loop.now >= self._world.plan.horizon:
            return False
        fault = _role(failed)._callback_fault
        if fault is None or fault.done() or self._rng.random() >= RATE:
            return False
        self._left -= 1
        return True

    def _has_failed(self, name: str) -> bool:
        fault = _role(self._failed[name])._callback_fault
        return fault is not None and fault.done() and not fault.cancelled()

    def _wrap(self, callback: Callback) -> Callback:
        def call(*args: object) -> None:
            if not self._is_to_fail():
                callback(*args)
                return
            name = getattr(callback, "__qualname__", repr(callback))
            self.injected.append(name)
            if self._rng.random() < 0.5:
                callback(*args)
            raise Injected(name)

        return call

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run, tell, call_nowait = Handle.run, Connection._notify, BaseClient.call_nowait
        of_role, handle_fault, emit = callbacks.callbacks_of_role, VirtualLoop.call_exception_handler, LogCheck.emit

        def run_handle(handle: Handle) -> None:
            if str(getattr(handle.callback, "__module__", "")).startswith(_OURS):
                assert handle.callback is not None
                handle.callback = self._wrap(handle.callback)
            run(handle)

        def tell_listeners(connection: Connection, listeners: list[Any], news: Any) -> None:
            tell(connection, [self._wrap(listener) for listener in tuple(listeners)], news)

        def call(client: BaseClient, request: Any, done: Callback, **options: Any) -> object:
            return call_nowait(client, request, self._wrap(done), **options)

        def remember(failed: callbacks.Failed) -> AbstractContextManager[None]:
            self._failed[self._world.loop.current.name] = failed
            return of_role(failed)

        def handle(loop: VirtualLoop, context: dict[str, object]) -> None:
            """Give an injected error to the role of the process. Until its session has ended, such a role goes on with
            wrong state: further errors are ignored."""
            error = context.get("exception")
            name = loop.current.name
            if isinstance(error, Injected):
                self._failed[name](error)
            elif name not in self._failed or not self._has_failed(name):
                handle_fault(loop, context)

        def hear(listener: LogCheck, record: logging.LogRecord) -> None:
            if not record.exc_info or not isinstance(record.exc_info[1], Injected):
                emit(listener, record)

        monkeypatch.setattr(Handle, "run", run_handle)
        monkeypatch.setattr(Connection, "_notify", tell_listeners)
        monkeypatch.setattr(BaseClient, "call_nowait", call)
        monkeypatch.setattr(role, "callbacks_of_role", remember)
        monkeypatch.setattr(VirtualLoop, "call_exception_handler", handle)
        monkeypatch.setattr(LogCheck, "emit", hear)
