"""Roles that are restarted one after another."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from tests.cli.processes import HerdProcess
from tests.cli.test_roles import wait_for_overview

APP = "tests.kills.app"
SESSION_TIMEOUT = 4.0


class Roles:
    """Two masters and two workers. `environment` is that of the processes that are started from now on."""

    def __init__(self, hosts: str, stack: ExitStack, environment: Mapping[str, str] | None = None) -> None:
        self._hosts = hosts
        self._stack = stack
        self.environment = environment
        worker = ("worker", f"--app={APP}", "--slots=4")
        self._all = [self._start(command) for command in (("master",), ("master",), worker, worker)]
        self.wait_complete()

    def _start(self, command: Sequence[str]) -> tuple[Sequence[str], HerdProcess]:
        role, *options = command
        started = HerdProcess(
            role, self._hosts, *options, f"--session-timeout={SESSION_TIMEOUT}", environment=self.environment
        )
        return command, self._stack.enter_context(started)

    def wait_complete(self) -> None:
        wait_for_overview(
            self._hosts,
            lambda seen: seen.primary is not None and len(seen.backups) == 1 and len(seen.workers) == 2,
            "not all roles are there",
        )

    def restart_each(self) -> Iterator[str]:
        """Restart one after another. Yield what was restarted, when all are there."""
        for number, (command, process) in enumerate(self._all):
            process.send(signal.SIGTERM)
            assert process.wait() == 0
            self._all[number] = self._start(command)
            self.wait_complete()
            yield command[0]
