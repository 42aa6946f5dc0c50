"""Calls the `on_final_failure` hooks of an app for the tasks that a master ends, in a process beside the master.

The master does not import the app, so that no fault of the app can stop the dispatching of tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import deque
from typing import Final, NoReturn

import msgspec

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.history import EndState
from herdmaster.pools.signals import held_back

MOST_WAITING: Final = 10_000
"""Ends that may wait for the process; further ones are dropped and counted."""
END_SECONDS: Final = 5.0
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds until a process that has ended is replaced: twice as long each time, unless it ran for longer than that."""

_MODULE: Final = "herdmaster.cli.final_failures_process"
_log = logging.getLogger("herdmaster.master")


class FinalFailures:
    """The process that calls the hooks, and the ends that wait for it. Used in one event loop."""

    def __init__(self, app: str, imports: tuple[str, ...], log_level: str, log_format: str) -> None:
        named = [f"--import={module}" for module in imports]
        self._command = (
            sys.executable, "-m", _MODULE, f"--app={app}", *named, f"--log-level={log_level}",
            f"--log-format={log_format}",
        )  # fmt: skip
        self._waiting: deque[AttemptEnd] = deque()
        self._news = asyncio.Event()
        self._dropped = 0

    def task_ended(self, end: AttemptEnd) -> None:
        """Have the hooks called for a task that has ended otherwise than done. Its end is committed. Never waits."""
        if end.result is EndState.DONE:
            return
        if len(self._waiting) >= MOST_WAITING:
            if not self._dropped:
                _log.warning("calls of on_final_failure take too long: %d wait, further ones are dropped", MOST_WAITING)
            self._dropped += 1
            return
        self._waiting.append(end)
        self._news.set()

    async def run(self) -> NoReturn:
        """Keep a process running until cancelled. Then let it end the calls that are under way, for a limited time."""
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE
        while True:
            began = clock()
            try:
                reason = f"has ended with exit code {await self._run_process()}"
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the master goes on
                reason = f"cannot be run: {error!r}"
            if clock() - began > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            _log.error("the process for on_final_failure %s; the next one starts in %g s", reason, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run_process(self) -> int:
        """Run one process to its end. Return its exit code. Raises OSError."""
        with held_back():
            process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.PIPE)
        assert process.stdin is not None
        feeding = asyncio.ensure_future(self._feed(process.stdin))
        try:
            return await process.wait()
        finally:
            feeding.cancel()
            await self._end(process, process.stdin)

    async def _feed(self, stdin: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                while self._waiting:
                    stdin.write(_line(self._waiting.popleft()))
                    await stdin.drain()
                self._tell_dropped()
                self._news.clear()
                await self._news.wait()

    async def _end(self, process: asyncio.subprocess.Process, stdin: asyncio.StreamWriter) -> None:
        if process.returncode is not None:
            return
        stdin.writelines(map(_line, self._waiting))
        self._waiting.clear()
        stdin.close()
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            _log.warning("calls of on_final_failure have not ended within %g s and are given up", END_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        self._tell_dropped()

    def _tell_dropped(self) -> None:
        if self._dropped:
            _log.warning("on_final_failure was not called for %d tasks", self._dropped)
            self._dropped = 0


def _line(end: AttemptEnd) -> bytes:
    return msgspec.json.encode(end) + b"\n"
