"""Run a role in this process until a signal ends it."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
from collections.abc import Callable
from typing import Final, NoReturn, Protocol

from herdmaster.cli.logs import finish_role_logs

_FAREWELL_SECONDS: Final = 1.0
"""Seconds that a second signal waits for the session to close."""

_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = logging.getLogger("herdmaster")


class Stoppable(Protocol):
    """A role, or several roles with their server."""

    kind: str

    @property
    def is_stopping(self) -> bool: ...

    def stop(self) -> None: ...

    async def run(self) -> None: ...


class Connecting(Stoppable, Protocol):
    """A role that says where it connects to."""

    @property
    def hosts(self) -> object: ...


def run_role(role: Connecting) -> None:
    """Log where the role connects to, and run it as `run_until_stopped`."""
    _log.info("%s: connecting to %s", role.kind, role.hosts)
    run_until_stopped(role)


def run_until_stopped(role: Stoppable) -> None:
    """Run the role, and return when it has ended after a signal. Raises what `Role.run` raises.

    A second signal ends the process at once; the exit code is 128 plus the signal's number. SIGHUP never counts as the
    second signal, because it often accompanies another: from a terminal that is closed, or from systemd after SIGTERM.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(role))


async def _run(role: Stoppable) -> None:
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(role.run())
    forced: list[signal.Signals] = []
    is_told = False

    def handle(received: signal.Signals) -> None:
        nonlocal is_told
        if not is_told:  # also if an operator's request stops the role already
            is_told = True
            second = "SIGTERM" if received is signal.SIGHUP else received.name
            _log.info("%s: stopping; a second %s stops at once", role.kind, second)
            role.stop()
        elif received is signal.SIGHUP:
            return
        elif not forced:
            forced.append(received)
            _log.warning("%s: stopping at once", role.kind)
            running.cancel()  # this still closes the session, so that no role waits for its timeout
            loop.call_later(_FAREWELL_SECONDS, _end_now, received)
        else:
            _end_now(received)

    for each in _STOPPING:
        if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(each, handle, each)
    try:
        await running
    except asyncio.CancelledError:
        if not forced:
            raise
    if forced:
        _end_now(forced[0])


def _end_now(received: signal.Signals) -> NoReturn:
    """Exit without waiting for threads, which may run a task's code."""
    finish_role_logs()
    os._exit(128 + received)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory if the extra `uvloop` is installed."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
