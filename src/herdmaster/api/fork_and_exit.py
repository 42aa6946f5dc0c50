"""What becomes of sessions when this process forks, and when it ends."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Protocol

from herdmaster import forks


class App(Protocol):
    """What a Herd is here."""

    def close(self) -> None: ...

    def handle_fork(self) -> None:
        """In the child."""

    def leave_target(self) -> Session | None:
        """The session that is to end because the Herd is directed elsewhere now."""


class Session(Protocol):
    """What a Herd's runtime is here."""

    def begin_close(self) -> None: ...

    def close(self) -> None: ...

    def leave_to_parent(self) -> None:
        """In the child: its threads did not come along, and the session stays the parent's."""


_apps: weakref.WeakSet[App] = weakref.WeakSet()
_sessions: set[Session] = set()  # kept: a session outlives its Herd for as long as it takes to end it
_parents: list[Session] = []  # never used, and never finalised: that would reach for what the parent still uses
_finalised_pid = 0


def add_app(app: App) -> None:
    _apps.add(app)


def add_session(session: Session) -> None:
    _sessions.add(session)
    _finalise_with_multiprocessing()


def remove_session(session: Session) -> None:
    _sessions.discard(session)


def follow_direction() -> None:
    """After a change of what Herds are directed to: ends the sessions that are elsewhere."""
    left = [session for app in tuple(_apps) if (session := app.leave_target()) is not None]
    for session in left:
        session.begin_close()  # all at once, then one by one
    for session in left:
        session.close()


def _finalise_with_multiprocessing() -> None:
    """Processes that `multiprocessing` forked end without `atexit`; they have something of their own."""
    global _finalised_pid  # noqa: PLW0603 - one registration per process
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _finalised_pid == os.getpid():
        return
    from multiprocessing.util import Finalize  # noqa: PLC0415 - only where multiprocessing is in use anyway

    _finalised_pid = os.getpid()
    Finalize(None, close_all, exitpriority=0)


def close_all() -> None:
    """Closes every Herd of this process."""
    for session in tuple(_sessions):
        session.begin_close()  # all at once, then one by one
    for app in tuple(_apps):
        app.close()
    for session in tuple(_sessions):
        session.close()


def _handle_fork() -> None:
    _parents.extend(_sessions)
    _sessions.clear()
    for app in tuple(_apps):
        app.handle_fork()
    for session in _parents:
        session.leave_to_parent()


forks.add_callback(_handle_fork)
atexit.register(close_all)
