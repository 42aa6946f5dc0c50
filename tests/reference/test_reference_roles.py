"""The reference's own scenarios with reference roles alone, and the traits for which they are mixed with ours."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest

from herdmaster.testing.child_server import ChildServer
from tests.reference.master import MasterState, ReferenceMaster
from tests.reference.mixes import REFERENCE, find_leftovers, wait_until
from tests.reference.recovery import Takeover
from tests.reference.session import Znodes
from tests.reference.stage import TIMEOUT, Stage
from tests.reference.worker import PLACES, BoundedExecutor, ReferenceWorker

pytestmark = pytest.mark.long

RESTART_TIMEOUT = 15.0  # seconds; the reference's own, so that sessions outlive a restart on a busy machine


def put_scene(znodes: Znodes, *paths: str) -> None:
    for path in paths:
        znodes.create(path, path.encode())


# The reference's scenarios


def test_a_master_is_elected(stage: Stage, znodes: Znodes) -> None:
    master = stage.master()

    assert master.state is MasterState.ELECTED
    assert znodes.get("/master") == master.master_id.encode()
    assert {"assign", "status", "tasks", "workers"} <= set(znodes.children("/"))


def test_another_master_is_elected_after_a_close(stage: Stage) -> None:
    stage.master().close()

    assert stage.master().state is MasterState.ELECTED


def test_of_two_masters_exactly_one_is_elected_and_the_other_follows_it(stage: Stage) -> None:
    primary, backup = stage.master(), stage.master()

    assert (primary.state, backup.state) == (MasterState.ELECTED, MasterState.NOT_ELECTED)
    primary.close()
    assert backup.wait_for_state(MasterState.ELECTED, timeout=60)


def test_a_joining_worker_is_noticed_and_a_leaving_one_too(stage: Stage) -> None:
    master = stage.master()
    worker = stage.worker()
    wait_until(lambda: master.workers == [worker.name], "the worker in the master's list")

    worker.close()
    wait_until(lambda: master.workers == [], "an empty list")


def test_a_lost_workers_task_runs_on_another_with_its_payload(stage: Stage, znodes: Znodes) -> None:
    stage.master()
    held: queue.SimpleQueue[str] = queue.SimpleQueue()
    never = threading.Event()

    def hold(name: str, _payload: bytes) -> None:
        held.put(name)
        never.wait()

    lost = stage.worker(hold)
    client = stage.client()
    name = client.submit(b"payload")
    assert held.get(timeout=60) == name

    ran: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
    stage.worker(lambda name, payload: ran.put((name, payload)))
    lost.close()

    assert client.wait(name, timeout=60) == b"done"
    assert (ran.get(timeout=1), ran.empty()) == ((name, b"payload"), True)
    wait_until(lambda: not find_leftovers(znodes), "an empty namespace")
    wait_until(lambda: not znodes.exists(f"/assign/{lost.name}"), "the end of the lost worker's inbox")
    never.set()


def test_takeover_gives_out_what_is_unassigned_or_was_held_by_a_lost_worker(stage: Stage, znodes: Znodes) -> None:
    put_scene(znodes, "/workers/worker-001", "/assign/worker-001/task-001", "/assign/worker-002/task-002")
    put_scene(znodes, "/tasks/task-001", "/tasks/task-002", "/tasks/task-003", "/status/task-001")

    stage.master()

    wait_until(lambda: not znodes.children("/tasks"), "an empty backlog")
    # 001 is not given out again: it is where it was, with the live worker that holds it.
    assert znodes.children("/assign/worker-001") == ["task-001", "task-002", "task-003"]
    wait_until(lambda: not znodes.exists("/assign/worker-002"), "the end of the lost worker's inbox")


def test_takeover_drops_tasks_that_have_a_status(stage: Stage, znodes: Znodes) -> None:
    put_scene(znodes, "/workers/worker-001", "/assign/worker-001/task-001", "/assign/worker-002/task-002")
    put_scene(znodes, "/assign/worker-002/task-003", "/tasks/task-001", "/tasks/task-002", "/tasks/task-003")
    put_scene(znodes, "/status/task-002", "/status/task-003")

    stage.master()

    wait_until(lambda: not znodes.children("/tasks"), "an empty backlog")
    wait_until(lambda: not znodes.exists("/assign/worker-002"), "the end of the lost worker's inbox")
    assert znodes.children("/assign/worker-001") == ["task-001"]


@pytest.mark.parametrize(
    ("takeover", "payload", "inboxes"),
    [
        (Takeover.AS_MEANT, b"/assign/worker-002/task-002", ["worker-001"]),
        (Takeover.AS_WRITTEN, b"", ["worker-001", "worker-002"]),
    ],
    ids=str,
)
def test_takeover_brings_back_a_task_that_only_a_lost_worker_held(
    stage: Stage, znodes: Znodes, takeover: Takeover, payload: bytes, inboxes: list[str]
) -> None:
    put_scene(znodes, "/tasks", "/status", "/workers/worker-001", "/assign/worker-001", "/assign/worker-002/task-002")

    stage.master(takeover)

    wait_until(lambda: znodes.exists("/assign/worker-001/task-002"), "the task in the live worker's inbox")
    assert znodes.get("/assign/worker-001/task-002") == payload
    wait_until(lambda: znodes.children("/assign") == inboxes, f"{inboxes} to be what is left")


def test_200_tasks_end_when_zookeeper_restarts_before_a_master_is_there(
    new_zookeeper: Callable[..., ChildServer],
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(new_zookeeper(tick_time=int(1000 * RESTART_TIMEOUT / 20)))
        stage = Stage(server.hosts, stack, RESTART_TIMEOUT)
        stage.master().close()
        workers = [stage.worker() for _ in range(3)]
        client = stage.client()
        names = [client.submit(b"payload") for _ in range(200)]
        server.restart()
        with Znodes(server.hosts) as znodes:
            wait_until(lambda: len(znodes.children("/workers")) == 3, "three workers")
            stage.master()

            assert {client.wait(name, timeout=60) for name in names} == {b"done"}
            assert [worker.dropped for worker in workers] == [0, 0, 0]
            wait_until(lambda: not find_leftovers(znodes), "an empty server")


# The traits


def test_a_task_submitted_while_no_worker_is_there_waits_for_the_next_primary(stage: Stage, znodes: Znodes) -> None:
    first = stage.master()
    client = stage.client()
    stranded = client.submit(b"too early")
    wait_until(lambda: znodes.children("/tasks") == [stranded], "the task in the backlog")
    stage.worker()
    wait_until(lambda: len(first.workers) == 1, "the worker in the master's list")
    later = client.submit(b"in time")

    assert client.wait(later, timeout=60) == b"done"
    assert znodes.children("/tasks") == [stranded]
    first.close()
    stage.master()
    assert client.wait(stranded, timeout=60) == b"done"


def test_the_client_takes_any_outcome_with_done_in_it_and_deletes_it(stage: Stage, znodes: Znodes) -> None:
    stage.master()
    client = stage.client()
    name = client.submit(b"payload")
    znodes.create(f"/status/{name}", b'{"state":"done"}')

    assert client.wait(name, timeout=60) == b'{"state":"done"}'
    wait_until(lambda: not znodes.children("/status"), "the outcome's deletion")


def test_the_worker_says_idle_and_working(stage: Stage, znodes: Znodes) -> None:
    stage.master()
    begun, go_on = threading.Event(), threading.Event()

    def hold(_name: str, _payload: bytes) -> None:
        begun.set()
        go_on.wait(60)

    worker = stage.worker(hold)
    path = f"/workers/{worker.name}"
    assert znodes.get(path) == b"Idle"
    stage.client().submit(b"payload")
    assert begun.wait(60)
    wait_until(lambda: znodes.get(path) == b"Working", "`Working`")
    go_on.set()
    wait_until(lambda: znodes.get(path) == b"Idle", "`Idle`")


def test_the_executor_has_200_places_behind_the_running_job_and_refuses_more() -> None:
    executor = BoundedExecutor()
    begun, go_on = threading.Event(), threading.Event()
    ran: queue.SimpleQueue[int] = queue.SimpleQueue()

    def hold() -> None:
        begun.set()
        go_on.wait(60)

    executor.start()
    assert executor.execute(hold)
    assert begun.wait(60)
    taken = [executor.execute(partial(ran.put, number)) for number in range(PLACES + 1)]
    go_on.set()

    assert taken == [True] * PLACES + [False]
    assert [ran.get(timeout=60) for _ in range(PLACES)] == list(range(PLACES))
    executor.close()


# What comes up when something is missing


def test_a_worker_without_folders_says_to_start_a_master(namespace: str) -> None:
    with pytest.raises(LookupError, match="start a master first"):
        ReferenceWorker(namespace, session_timeout=TIMEOUT).start()


def test_a_client_without_folders_asks_for_a_master(stage: Stage) -> None:
    client = stage.client()

    with pytest.raises(RuntimeError, match="is there a master"):
        client.submit(b"payload")


def test_a_missing_chroot_is_named(namespace: str) -> None:
    with pytest.raises(ConnectionError, match="chroot"):
        ReferenceMaster(f"{namespace}/missing", session_timeout=TIMEOUT).start()


def test_a_role_that_never_started_can_be_closed(namespace: str) -> None:
    for role in (REFERENCE.master(namespace), REFERENCE.worker(namespace), REFERENCE.client(namespace)):
        role.close()
        role.close()


def test_the_random_choice_can_be_repeated() -> None:
    first, second = (ReferenceWorker("127.0.0.1:1", rng=random.Random(7)) for _ in range(2))

    assert first.name == second.name
