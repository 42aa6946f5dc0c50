"""Runs of the all-reference mix: 200 tasks one by one and 200 at once, in threads, in processes, through futures."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

from tests.reference.client import ReferenceClient
from tests.reference.mixes import MIXES, REFERENCE, FutureClient, Kit, MixRun, run_mix, wait_until
from tests.reference.processes import ProcessRole, reference_process
from tests.reference.session import Znodes
from tests.reference.stage import TIMEOUT

pytestmark = pytest.mark.long


@pytest.mark.long
def test_200_serial_and_200_parallel_tasks_complete(namespace: str) -> None:
    run = run_mix(REFERENCE.master, REFERENCE.worker, REFERENCE.client, namespace)

    assert run.complaints() == []


def test_the_same_holds_for_roles_in_processes_of_their_own(namespace: str) -> None:
    kit = Kit(reference_process("master"), reference_process("worker"), REFERENCE.client)

    run = run_mix(kit.master, kit.worker, kit.client, namespace, serial=10, parallel=40, window=20)

    assert run.complaints() == []


class Waiter:
    """An API of futures around the reference's client."""

    def __init__(self, hosts: str) -> None:
        self._client = ReferenceClient(hosts, session_timeout=TIMEOUT)
        self._client.start()
        self._threads = ThreadPoolExecutor(8)

    def submit(self, payload: bytes) -> tuple[str, Future[bytes]]:
        name = self._client.submit(payload)
        return name, self._threads.submit(self._client.wait, name, 60)

    def close(self) -> None:
        self._threads.shutdown()
        self._client.close()


def test_the_same_holds_for_a_client_made_of_futures(namespace: str) -> None:
    def make(hosts: str) -> FutureClient:
        return FutureClient(partial(Waiter, hosts))

    run = run_mix(REFERENCE.master, REFERENCE.worker, make, namespace, serial=10, parallel=40, window=20)

    assert run.complaints() == []


def test_a_run_that_lost_something_complains() -> None:
    run = MixRun(serial_count=2, parallel_count=2)
    run.serial = [("task-1", b"done"), ("task-1", b"failed")]
    run.parallel = [("task-2", b"done")]
    run.leftovers = ["/tasks/task-3"]

    assert run.complaints() == [
        "serial task-1 ended with b'failed'",
        "1 of 2 parallel tasks ended",
        "one name stands for two tasks",
        "left behind: /tasks/task-3",
    ]


def test_a_role_that_ends_early_is_told_with_what_it_printed(namespace: str) -> None:
    def make(hosts: str) -> ProcessRole:
        role = reference_process("nonsense")(hosts)
        start = role.start

        def start_and_end() -> None:
            start()
            wait_until(lambda: role.exit_code is not None, "the process's end")

        role.start = start_and_end  # type: ignore[method-assign]  # the patience counts from its end
        return role

    with pytest.raises(TimeoutError, match="2 workers") as caught:
        run_mix(REFERENCE.master, make, REFERENCE.client, namespace, patience=2.0)

    assert any("invalid choice: 'nonsense'" in note for note in caught.value.__notes__)


def test_a_process_ends_its_session_on_sigterm(namespace: str, znodes: Znodes) -> None:
    master = reference_process("master")(namespace)
    master.start()
    wait_until(lambda: znodes.exists("/master"), "a primary")
    master.close()

    assert master.exit_code == 0
    assert not znodes.exists("/master")


def test_a_killed_process_leaves_its_session_to_expire(namespace: str, znodes: Znodes) -> None:
    master = reference_process("master", session_timeout=1.0)(namespace)
    master.start()
    wait_until(lambda: znodes.exists("/master"), "a primary")
    master.kill()

    assert master.exit_code == -signal.SIGKILL
    wait_until(lambda: not znodes.exists("/master"), "the session's expiry")
    master.close()


def test_a_process_whose_session_expired_says_so_and_ends(namespace: str, znodes: Znodes) -> None:
    master = reference_process("master", session_timeout=1.0)(namespace)
    master.start()
    wait_until(lambda: znodes.exists("/master"), "a primary")
    os.kill(master.pid, signal.SIGSTOP)
    wait_until(lambda: not znodes.exists("/master"), "the session's expiry")
    os.kill(master.pid, signal.SIGCONT)
    wait_until(lambda: master.exit_code is not None, "the process's end")
    master.close()

    assert master.exit_code == 1
    assert "the session expired" in master.output()


def test_there_are_eight_mixes_from_all_reference_to_all_ours() -> None:
    assert len(set(MIXES)) == len(MIXES) == 8
    assert str(MIXES[0]) == "reference-master reference-worker reference-client"
    assert str(MIXES[-1]) == "ours-master ours-worker ours-client"
