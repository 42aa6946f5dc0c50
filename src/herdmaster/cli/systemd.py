"""Tells systemd how the process is: `Type=notify` and `WatchdogSec=` of its unit. See sd_notify(3)."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final, Protocol

_READY_SECONDS: Final = 0.1
"""Between two looks at whether the role is ready, at the start."""
_STATUS_SECONDS: Final = 5.0
_MICROSECONDS: Final = 1_000_000


class Readiness(Protocol):
    def not_ready(self) -> str | None: ...


class Notifier:
    """A connection to the service manager. Does nothing in a process that systemd has not started."""

    def __init__(self) -> None:
        # The variables are taken away, so that no task process speaks for this one.
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        watchdog = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "")
        is_watched = watchdog.isdecimal() and int(watchdog) > 0 and pid in {"", str(os.getpid())}
        self._interval = int(watchdog) / _MICROSECONDS / 2 if is_watched else None

    @property
    def is_used(self) -> bool:
        return bool(self._address)

    def send(self, message: str) -> None:
        """Send one state, such as `READY=1`. A service manager that does not listen is no reason to stop."""
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.setblocking(False)
                connection.sendto(message.encode(), address)
        except OSError:
            return

    async def run(self, role: Readiness) -> None:
        """Report until cancelled: when the role is ready for the first time, what it lacks later, and that this event
        loop turns."""
        loop = asyncio.get_running_loop()
        is_started = False
        status: str | None = ""
        fed_at = told_at = loop.time()
        while True:
            missing, now = role.not_ready(), loop.time()
            if missing is None and not is_started:
                is_started = True
                self.send("READY=1")
            if missing != status and (now - told_at >= _STATUS_SECONDS or status == "" or missing is None):
                status, told_at = missing, now
                self.send(f"STATUS={missing or 'working'}")
            if self._interval is not None and now - fed_at >= self._interval - _READY_SECONDS:
                fed_at = now
                self.send("WATCHDOG=1")
            await asyncio.sleep(min(self._interval or 1.0, 1.0) / 2 if is_started else _READY_SECONDS)
