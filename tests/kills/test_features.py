"""Each feature in the middle of which the primary and a worker are killed: nothing is lost, doubled, early or left."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from herdmaster import HerdExecutor, TaskCancelled, TaskExpired, TaskFailed
from herdmaster.core import layout
from herdmaster.core.progress import TaskProgress
from tests.cli.processes import HerdProcess, connect, run_herd, wait_until
from tests.kills import features_app
from tests.kills.aftermath import assert_settled, is_alive, kill, parent_of, submit_and_die, wait_lines
from tests.kills.diary import BEGAN, CANCELLED, ENDED, KILLED, most_at_once, read, write
from tests.kills.test_kills import PATIENCE, SESSION_TIMEOUT, Cluster

APP = "tests.kills.features_app"
WORKER = (f"--app={APP}", "--slots=8", "--threads=4", "--processes=2")
UNSERVED = "unserved"
"""A queue that no worker serves."""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.long,
]  # a killed process is missed after its session's timeout, again and again

Start = Callable[..., Cluster]


@pytest.fixture
def start(namespace: str) -> Iterator[Start]:
    with ExitStack() as stack:

        def start(*workers: Sequence[str], hooks: Path | None = None) -> Cluster:
            environment = None if hooks is None else {"HOOKS_DIARY": str(hooks)}
            return Cluster(namespace, stack, workers or (WORKER, WORKER), environment)

        yield start


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary"


@pytest.mark.long
def test_delayed_and_expiring_tasks_keep_to_their_times(start: Start, diary: Path) -> None:
    cluster = start()
    work = cluster.herd.task(features_app.work.function)
    primary = cluster.primary()
    delays = (1.0, 2.0, 3.0, 4.0, 5.0)
    futures = {
        future.name: future
        for number, delay in enumerate(delays)
        for future in work.options(delay=delay, expires=600).submit_many([(diary, number, 0.3)] * 4)
    }
    later = {name: count // 4 for count, name in enumerate(futures)}
    waiting = work.options(queue=UNSERVED, expires=2).submit_many([(diary, 90, 0.0)] * 3)
    never = work.options(queue=UNSERVED, delay=1, expires=2).submit_many([(diary, 91, 0.0)] * 3)
    with connect(cluster.hosts) as client:
        names = [layout.parse_delayed_name(name) for name in client.get_children("/delayed")]
    kill(primary, cluster.workers[0])

    due = {later[name[1]]: name[0] / 1000 for name in names if name is not None and name[1] in later}
    assert len(due) >= 3, "they were due before the first kill"
    for future in (*waiting, *never):
        with pytest.raises(TaskExpired):
            future.result(PATIENCE)
    assert [future.result(PATIENCE) for future in futures.values()] == list(later.values())
    began = [line for line in read(diary, BEGAN) if line.number in due]
    assert all(line.time >= due[line.number] - 0.01 for line in began)
    assert {line.number for line in read(diary)} == set(range(len(delays)))
    assert_settled(cluster)
    cluster.ledger.check({*later, *(future.name for future in (*waiting, *never))})


def test_requests_to_cancel_stand_when_the_primary_dies_on_them(start: Start, diary: Path) -> None:
    cluster = start()
    work, wait = (cluster.herd.task(task.function) for task in (features_app.work, features_app.wait))
    tasks = enumerate((work, wait, work.options(pool="process")))
    running = [task.submit(diary, number, 600.0) for number, task in tasks for _ in range(2)]
    others = [work.options(delay=600).submit(diary, 9, 0.0), work.options(queue=UNSERVED).submit(diary, 9, 0.0)]
    wait_lines(diary, BEGAN, len(running))
    primary = cluster.primary()
    dying, living = cluster.workers
    for future in (*running[::2], others[0]):
        future.cancel_nowait()
    kill(primary, dying)

    for future in (*running[1::2], others[1]):
        assert future.cancel(PATIENCE)
    for future in (*running, *others):
        with pytest.raises(TaskCancelled):
            future.result(PATIENCE)
        assert future.cancelled()
    assert_settled(cluster)
    cluster.ledger.check({future.name for future in (*running, *others)})
    # What can be ended was ended, and there is room for others.
    coroutines = [line for line in read(diary, BEGAN) if line.number == 1 and line.pid == living.pid]
    wait_lines(diary, CANCELLED, len(coroutines))
    processes = [line.pid for line in read(diary, BEGAN) if line.number == 2]
    wait_until(lambda: not any(map(is_alive, processes)), "processes live on", PATIENCE)
    assert [future.result(PATIENCE) for future in work.submit_many([(diary, 5, 0.1)] * 8)] == [5] * 8


@pytest.mark.long
def test_coroutines_and_processes_run_again_elsewhere_and_leave_no_process_behind(
    start: Start, diary: Path, tmp_path: Path
) -> None:
    slots = (f"--app={APP}", "--slots=60", "--processes=2")
    cluster = start(slots, slots)
    wait = cluster.herd.task(features_app.wait.function)
    spawn = cluster.herd.task(features_app.spawn.function)
    work = cluster.herd.task(features_app.work.function).options(ignore_result=True)
    in_processes = [spawn.options(pool="process").submit(diary, number, tmp_path / "end") for number in range(4)]
    coroutines = wait.submit_many((diary, number, 1.5) for number in range(100, 200))
    work.submit_many((diary, number, 0.3) for number in range(200, 220))
    wait_lines(diary, BEGAN, 60)
    wait_until(lambda: {0, 1, 2, 3} <= {line.number for line in read(diary, BEGAN)}, "no processes", PATIENCE)
    primary, dying = cluster.primary(), cluster.workers[0]
    began = {line.pid: parent_of(line.pid) for line in read(diary, BEGAN) if line.number < 4}
    orphans = [pid for pid, parent in began.items() if dying.pid in (parent, began.get(parent))]
    assert len(orphans) == 4, "two processes, each with one of its own"
    kill(primary, dying)
    (tmp_path / "end").touch()

    assert [future.result(PATIENCE) for future in in_processes] == list(range(4))
    assert [future.result(PATIENCE) for future in coroutines] == list(range(100, 200))
    wait_until(lambda: {line.number for line in read(diary, ENDED)} >= set(range(200, 220)), "some never ran", PATIENCE)
    wait_until(lambda: not any(map(is_alive, orphans)), "processes live on", PATIENCE)
    assert_settled(cluster)
    cluster.ledger.check({future.name for future in (*in_processes, *coroutines)})


@pytest.mark.long
def test_a_key_outlives_its_submitter_its_worker_and_the_primary(start: Start, diary: Path) -> None:
    cluster = start()
    name = submit_and_die(cluster.hosts, diary, 600)
    wait_lines(diary, BEGAN, 1)
    primary = cluster.primary()
    dying = next(worker for worker in cluster.workers if worker.pid == read(diary)[0].pid)
    kill(primary, dying)
    assert submit_and_die(cluster.hosts, diary, 600) == name
    task = cluster.herd.task(features_app.work.function).options(key="once", outcome_ttl=600)
    future = task.submit(diary, 7, 2.0)

    assert (future.name, future.result(PATIENCE)) == (name, 7)
    assert submit_and_die(cluster.hosts, diary, 600) == name
    assert len(read(diary, ENDED)) == 1
    assert_settled(cluster, kept=(name,))
    with connect(cluster.hosts) as client:
        (key,) = (each for each in client.get_children("/keys") if not each.endswith(name))
        assert sorted(client.get_children("/keys")) == [key, f"{key}-{name}"]


@pytest.mark.long
def test_an_outcome_and_its_key_go_in_time_although_the_primary_died(namespace: str, diary: Path) -> None:
    with ExitStack() as stack:
        masters = [
            stack.enter_context(HerdProcess(namespace, str(SESSION_TIMEOUT), module="tests.kills.hasty_master"))
            for _ in range(2)
        ]
        stack.enter_context(HerdProcess("worker", namespace, *WORKER))
        client = stack.enter_context(connect(namespace))
        wait_until(lambda: client.exists("/workers") and client.get_children("/workers"), "no worker", PATIENCE)
        stays = run_herd("submit", f"{APP}:attempt_of", "1", "0", "--zookeeper", namespace).stdout.strip()
        name = submit_and_die(namespace, diary, 4)
        wait_until(lambda: {name, stays} <= set(client.get_children("/status")), "no outcomes", PATIENCE)
        ended = client.exists(f"/status/{name}").ctime
        next(master for master in masters if "elected" in master.stderr).kill()

        wait_until(lambda: not client.get_children("/keys"), "the key stays", PATIENCE)
        assert client.get_children("/status") == [stays]
        now = client.create("/now", makepath=True) and client.exists("/now").ctime
        assert now - ended >= 4000
        client.delete("/now")
        assert submit_and_die(namespace, diary, 4) != name


@pytest.mark.long
def test_chunks_of_processes_and_of_functions_to_import_come_back_complete_and_in_order(start: Start) -> None:
    options = (*WORKER, f"--allow-import={APP}")
    cluster = start(options, options)
    square = cluster.herd.task(features_app.square.function).options(pool="process")
    halves = HerdExecutor(cluster.herd).map(features_app.halve, range(600), [0.01] * 600, chunksize=10)
    squares = square.map(range(120), [0.05] * 120, chunksize=6)

    for number, half in enumerate(halves):
        assert half == number / 2
        if number == 60:
            kill(cluster.workers[0])
        if number == 120:
            kill(cluster.primary())
    assert number == 599
    assert list(squares) == [number * number for number in range(120)]
    assert_settled(cluster)


@pytest.mark.long
def test_limits_of_queues_hold_while_primaries_change(start: Start, tmp_path: Path) -> None:
    queues = ("default", "limited", "rated", "held")
    options = (*WORKER, *(f"--queue={queue}" for queue in queues))
    cluster = start(options, options)
    rate, most = 4.0, 3
    at = ("--zookeeper", cluster.hosts)
    for command in (("limit", "limited", f"--max-running={most}"), ("limit", "rated", f"--rate={rate}")):
        assert run_herd("queues", *command, *at).returncode == 0
    assert run_herd("queues", "pause", "held", *at).returncode == 0
    work = cluster.herd.task(features_app.work.function)
    diaries = {queue: tmp_path / queue for queue in queues}
    counts = {"limited": (36, 0.25), "rated": (20, 0.0), "held": (3, 0.0)}
    futures = {
        queue: work.options(queue=queue).submit_many((diaries[queue], number, seconds) for number in range(count))
        for queue, (count, seconds) in counts.items()
    }
    primary = cluster.primary()
    wait_lines(diaries["limited"], ENDED, 6)
    kill(primary)
    with connect(cluster.hosts) as client:
        unassigned = set(client.get_children("/tasks"))
        old = client.exists("/master").czxid
        new = wait_until(lambda: _newer(client.exists("/master"), old), "no master took over", PATIENCE)
        wait_lines(diaries["limited"], ENDED, 15)
        dying = cluster.workers[0]
        kill(dying)
        dying.wait()
        write(diaries["limited"], KILLED, 0, dying.pid)

        for queue in ("limited", "rated"):
            assert [future.result(PATIENCE) for future in futures[queue]] == list(range(counts[queue][0]))
        assert set(client.get_children("/tasks")) == {future.name for future in futures["held"]}
    assert most_at_once(diaries["limited"]) == most
    # The new primary saved up nothing; one assignment of the old one may have come after the look.
    left = {number for number, future in enumerate(futures["rated"]) if future.name in unassigned}
    assert len(left) >= 2, "all were assigned before it was killed"
    starts = sorted(line.time for line in read(diaries["rated"], BEGAN) if line.number in left)
    assert all(began >= new + (count - 1) / rate - 0.01 for count, began in enumerate(starts))
    assert read(diaries["held"]) == []
    assert run_herd("queues", "resume", "held", *at).returncode == 0
    assert [future.result(PATIENCE) for future in futures["held"]] == [0, 1, 2]
    assert_settled(cluster)


def _newer(stat: object, than: int) -> float | None:
    """When the znode was made, in unix seconds, if that was later."""
    czxid, ctime = getattr(stat, "czxid", 0), getattr(stat, "ctime", 0)
    return ctime / 1000 if czxid > than else None


@pytest.mark.long
def test_a_task_that_kills_its_workers_is_buried_and_what_is_dead_can_be_replayed(
    start: Start, diary: Path, tmp_path: Path
) -> None:
    cluster = start(WORKER, WORKER, WORKER)
    at = ("--zookeeper", cluster.hosts)
    mended = tmp_path / "mended"
    fragile = cluster.herd.task(features_app.fragile.function).options(max_attempts=2)
    poison_task = cluster.herd.task(features_app.poison.function).options(max_deliveries=1, key="poison")
    poison = poison_task.submit(tmp_path / "poison")
    futures = fragile.submit_many((diary, number, mended) for number in range(30))
    wait_until(lambda: read(tmp_path / "poison"), "it did not run", PATIENCE)
    cluster.primary().kill()

    with pytest.raises(TaskFailed, match="2 workers were lost while they held it; at most 1 are allowed"):
        poison.result(PATIENCE)
    for number, future in enumerate(futures):
        with pytest.raises(LookupError, match=f"number {number}"):
            future.result(PATIENCE)
    with connect(cluster.hosts) as client:
        assert set(client.get_children("/dead")) == {poison.name, *(future.name for future in futures)}
        assert client.get_children("/keys") == []  # freed by the primary that buried it
        assert run_herd("dead", "purge", poison.name, *at).returncode == 0
        mended.touch()
        with HerdProcess("dead", "replay", "--all", *at):
            wait_until(lambda: len(client.get_children("/dead")) < len(futures), "nothing was replayed", PATIENCE)
        # It was killed in the middle of it, most likely.
        assert run_herd("dead", "replay", "--all", *at).returncode == 0
        assert client.get_children("/dead") == []
        wait_lines(diary, ENDED, len(futures))
        outcomes = wait_until(
            lambda: _at_least(client.get_children("/status"), len(futures) + 1), "no outcomes", PATIENCE
        )
    assert sorted(line.number for line in read(diary)) == list(range(len(futures)))
    assert len(read(tmp_path / "poison")) == 2
    assert_settled(cluster, kept=outcomes)


def _at_least(names: list[str], count: int) -> list[str] | None:
    return names if len(names) >= count else None


@pytest.mark.long
def test_progress_and_hooks_tell_of_the_worker_that_runs_the_task_now(
    start: Start, diary: Path, tmp_path: Path
) -> None:
    cluster = start(hooks=diary)
    top = tmp_path / "top"
    climb = cluster.herd.task(features_app.climb.function)
    future = climb.submit(top)

    def seen(not_at: str | None = None) -> tuple[str, TaskProgress] | None:
        found = cluster.herd.find(future.name, PATIENCE)
        if found is None or found.worker in (None, not_at) or found.progress is None or not found.progress.done:
            return None
        assert found.worker is not None
        return found.worker, found.progress

    first, progress = wait_until(seen, "no progress is told", PATIENCE)
    assert progress.note == "climbing"
    pid = next(line.pid for line in read(diary) if line.what == f"before-{future.name}")
    dying, living = sorted(cluster.workers, key=lambda worker: worker.pid != pid)
    kill(cluster.primary(), dying)
    with connect(cluster.hosts) as client:
        wait_until(lambda: client.exists(f"/progress/{first}") is None, "it is told of still", PATIENCE)
    wait_until(lambda: seen(first), "no progress is told after the worker's death", PATIENCE)
    top.touch()
    assert future.result(PATIENCE) == "at the top"
    broken = cluster.herd.task(features_app.fragile.function).options(max_attempts=2).submit(diary, 1, tmp_path / "no")
    with pytest.raises(LookupError):
        broken.result(PATIENCE)
    living.send(signal.SIGTERM)
    assert living.wait(PATIENCE) == 0

    lines = [(line.what, line.number, line.pid) for line in read(diary)]
    both = {dying.pid, living.pid}
    assert {line for line in lines if line[0] == "start"} == {("start", 0, pid) for pid in both}
    assert [line for line in lines if line[0] == "stop"] == [("stop", 0, living.pid)]
    assert [line for line in lines if line[0].endswith(future.name)] == [
        (f"before-{future.name}", 1, dying.pid),
        (f"before-{future.name}", 1, living.pid),
        (f"after-{future.name}", 1, living.pid),
    ]
    assert [line[:2] for line in lines if line[0].endswith(broken.name)] == [
        (f"{kind}-{broken.name}", attempt) for attempt in (1, 2) for kind in ("before", "error")
    ]


@pytest.mark.long
def test_calls_find_their_worker_although_one_that_lacks_the_function_is_killed(start: Start) -> None:
    cluster = start(("--app=tests.kills.app", "--slots=4"), WORKER)
    attempt_of = cluster.herd.task(features_app.attempt_of.function)
    primary, lacking = cluster.primary(), cluster.workers[0]
    with connect(cluster.hosts) as client:  # first: all is done after two seconds
        futures = attempt_of.submit_many((number, 0.1) for number in range(60))
        wait_until(lambda: client.get_children("/delayed"), "nothing was passed on", PATIENCE)
    kill(primary, lacking)

    assert [future.result(PATIENCE) for future in futures] == [[number, 1] for number in range(60)]
    assert_settled(cluster)
    cluster.ledger.check({future.name for future in futures})
