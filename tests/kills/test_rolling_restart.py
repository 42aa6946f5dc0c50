"""Masters, workers and servers are restarted one after another under load, and no client has an error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Self

import pytest

from herdmaster.api import Future, Herd
from herdmaster.testing.apache import ApacheEnsemble
from tests.cli.processes import wait_until
from tests.kills.rolling import APP, SESSION_TIMEOUT, Roles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

AT_ONCE = 10
ENOUGH = 20
"""Tasks that have to be accepted and to end after each restart, before the next one."""


class Load(threading.Thread):
    """A client that submits and waits for results, until it is told to stop or has an error."""

    def __init__(self, hosts: str) -> None:
        super().__init__()
        self._hosts = hosts
        self._stopping = threading.Event()
        self.ended = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with Herd(self._hosts, session_timeout=SESSION_TIMEOUT) as herd:
                while not self._stopping.is_set():
                    self._run_some(herd)
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.error = error

    def _run_some(self, herd: Herd) -> None:
        numbers = range(self.ended, self.ended + AT_ONCE)
        futures: list[Future[int]] = [herd.submit_call(f"{APP}:nap", (0.01, number)) for number in numbers]
        assert [future.result(timeout=60) for future in futures] == list(numbers)
        self.ended += AT_ONCE

    def wait_more(self, after: str) -> None:
        """Wait for further results, which are to come whatever has been restarted."""
        enough = self.ended + ENOUGH
        wait_until(lambda: self.error is not None or self.ended >= enough, f"no results after the restart of a {after}")
        self.check()

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopping.set()
        self.join()
        self.check()


def restart_each_server(ensemble: ApacheEnsemble) -> Iterator[str]:
    """The leader is the last one, as the guide says."""
    leader = ensemble.wait_for_leader()
    for member in sorted(ensemble.members, key=lambda member: member is leader):
        member.stop()
        member.start()
        yield "server"


def test_a_rolling_restart_shows_no_client_an_error(apache_ensemble: ApacheEnsemble) -> None:
    hosts = apache_ensemble.hosts
    with ExitStack() as processes:
        roles = Roles(hosts, processes)
        with ExitStack() as clients:
            loads = [clients.enter_context(Load(hosts)) for _ in range(2)]
            restarted = []
            for restarts in (roles.restart_each(), restart_each_server(apache_ensemble)):
                for role in restarts:
                    restarted.append(role)
                    for load in loads:
                        load.wait_more(role)
        assert restarted == ["master"] * 2 + ["worker"] * 2 + ["server"] * 3
