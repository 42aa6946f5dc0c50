"""A test for each finding of `herd doctor`, from a snapshot, and some from a real server."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import herdmaster.inspection
from herdmaster.core import layout
from herdmaster.core.members import FLOWS, WorkerRecord, encode_record
from herdmaster.core.payload import with_asked, with_isolation, with_start
from herdmaster.core.progress import TaskProgress, WorkerProgress, encode_progress
from herdmaster.core.queues import QueueSettings, encode_queue
from herdmaster.core.schedules import Schedule, Tick, encode_tick
from herdmaster.core.timetable import Every
from herdmaster.inspection.diagnosis import diagnose
from herdmaster.inspection.finding import Severity
from herdmaster.inspection.overview import MasterSeen, Overview, TaskCounts, WorkerSeen
from herdmaster.inspection.queue_findings import QueueView
from herdmaster.inspection.servers import Answer, ServerSeen, look_at_servers, read_answer
from herdmaster.inspection.snapshot import FolderSize, Snapshot, take_snapshot
from herdmaster.inspection.tasks import Inspector
from herdmaster.inspection.why_waiting import why_waiting
from herdmaster.operations.schedules import add_schedule
from herdmaster.zookeeper.client import parse_connect_string
from herdmaster.zookeeper.client.connect_string import Address
from tests.roles.stage import REFERENCE, Stage, call_payload, new_call_name, new_raw_name

NOW = 1_700_000_000_000
PRIMARY = MasterSeen("master-aa", NOW, "h1", 1)
BACKUP = MasterSeen("master-bb", NOW, "h2", 1)
WORKER = WorkerSeen("worker-aa", NOW, "ready", 0, 2, ("mail",), "h", 7, "1.0", calls=True)
OVERVIEW = Overview(PRIMARY, (BACKUP,), (WORKER,), TaskCounts(), 0)
WELL = Snapshot(NOW, OVERVIEW)
IDLE = WorkerProgress(0)
BUSY = WorkerProgress(
    2, (TaskProgress("task-1", NOW - 720_000, "shop:resize"), TaskProgress("task-2", NOW - 5_000, "shop:resize"))
)
ALONE = WorkerProgress(1, (TaskProgress("task-1", NOW - 720_000, "shop:resize", alone=True),))
FLOW = "flow-01arz3ndektsv4rrffq69g5fav"
SERVER = ServerSeen("zk1:2181", Answer.SERVES, {"server_state": "leader"})


def overview(**changes: object) -> Snapshot:
    return msgspec.structs.replace(WELL, overview=msgspec.structs.replace(OVERVIEW, **changes))


def queue(worker: WorkerSeen | None = WORKER, progress: WorkerProgress = IDLE, **changes: object) -> Snapshot:
    serving = ((worker, progress),) if worker is not None else ()
    view = msgspec.structs.replace(QueueView("mail", NOW, PRIMARY, serving=serving), **changes)
    return msgspec.structs.replace(WELL, queues=(view,), pending={"mail": 3}, oldest={"mail": NOW - 300_000})


def snapshot(**changes: object) -> Snapshot:
    return msgspec.structs.replace(WELL, **changes)


def worker(**changes: object) -> WorkerSeen:
    return msgspec.structs.replace(WORKER, **changes)


def serves(**values: object) -> ServerSeen:
    values = {"server_state": "follower", **values}
    return ServerSeen("zk2:2181", Answer.SERVES, {name: str(value) for name, value in values.items()})


CASES = [
    ("no-primary", "critical", overview(primary=None), "there is no primary: `herd master` starts one"),
    ("no-primary", "critical", overview(primary=None, master_is_left=True), "Curator masters have left /master"),
    ("no-backup", "note", overview(backups=()), "the primary has no backup"),
    (
        "reference-primary",
        "note",
        overview(primary=MasterSeen("1a", NOW, program="Java or C")),
        "a Java or C reference",
    ),
    ("recovering", "warning", overview(tasks=TaskCounts(recovering=4)), "4 tasks are in inboxes of lost workers"),
    ("dead", "note", overview(tasks=TaskCounts(dead=4)), "4 tasks are dead"),
    ("cancelling", "note", snapshot(cancels=2), "2 requests to cancel are not decided"),
    ("no-worker", "critical", queue(None), "3 tasks wait (the oldest for 5m): no worker serves queue mail"),
    ("draining", "critical", queue(worker(state="drained")), "all workers that serve queue mail are draining"),
    ("no-app", "critical", queue(worker(calls=False)), "no worker that serves queue mail has an app"),
    ("no-app", "critical", queue(worker(calls=False, app="shop:herd")), "its app (shop:herd) registers none"),
    ("no-flows", "critical", queue(worker(), has_steps=True), "no worker that serves queue mail knows flows"),
    ("stalled", "critical", queue(WORKER, WorkerProgress(2, (), stalled=True)), "waits for other tasks"),
    (
        "paused",
        "warning",
        queue(settings=QueueSettings(paused=True)),
        "queue mail is paused: `herd queues resume mail`",
    ),
    ("limited", "warning", queue(settings=QueueSettings(max_running=2), assigned=2), "limited to 2 running tasks"),
    ("limited", "note", queue(settings=QueueSettings(rate=2.0)), "queue mail is limited: see `herd queues`"),
    (
        "slots-full",
        "warning",
        queue(WORKER, BUSY),
        "all slots are taken (2 slots for queue mail), by 2 of shop:resize (the longest for 12m: task-1)",
    ),
    (
        "isolated",
        "warning",
        queue(WORKER, ALONE),
        "worker-aa begins nothing (1 of 2 slots taken) beside task-1 of shop:resize, which has run alone for 12m",
    ),
    (
        "isolated",
        "warning",
        snapshot(suspects={f"task-{number}": "shop:x" for number in range(4)}),
        "because workers were lost with them: task-0 of shop:x, task-1 of shop:x, task-2 of shop:x and 1 more",
    ),
    ("unknown-call", "warning", snapshot(unknown_calls={"shop:x": ("worker-aa",)}), "shop:x is not known to worker-aa"),
    ("overdue", "warning", snapshot(overdue=3), "3 delayed tasks have been due for more than a minute"),
    ("delayed", "note", snapshot(delayed=2, next_due=NOW + 300_000), "2 tasks are delayed, the next one for 5m"),
    ("key-held", "note", snapshot(held_keys=5, kept_keys=2), "2 of 5 keys are held by tasks that have ended"),
    ("key-held", "note", snapshot(held_keys=5), "5 keys are held by tasks that have not ended"),
    (
        "schedule-late",
        "warning",
        snapshot(late_schedules=("a", "b", "c", "d")),
        ": a, b, c and 1 more",
    ),
    ("schedule-broken", "warning", snapshot(broken_schedules={"a": "no zone X/Y"}), "cannot be used: a (no zone X/Y)"),
    ("clocks", "warning", snapshot(clocks={"worker-aa": 90_000, "master-aa": 10}), "worker-aa by +90 s"),
    ("versions", "warning", overview(workers=(WORKER, worker(version="0.9"))), "different versions: 0.9, 1.0"),
    ("long-folder", "warning", snapshot(folders={"/tasks": FolderSize(20_000, 900_000)}), "the 20000 names in /tasks"),
    ("foreign", "note", snapshot(foreign=("/a", "/b", "/c", "/d")), "no role understands /a, /b, /c and 1 more"),
]

SERVER_CASES = [
    ("server-lost", "warning", [SERVER, ServerSeen("zk2:2181", Answer.UNREACHABLE, error="refused")], "zk2:2181 can"),
    ("server-lost", "critical", [ServerSeen("zk2:2181", Answer.UNREACHABLE, error="refused")], "(refused)"),
    ("no-quorum", "critical", [ServerSeen("zk1:2181", Answer.NO_QUORUM)], "no quorum: zk1:2181 serves no requests"),
    ("no-quorum", "warning", [SERVER, ServerSeen("zk2:2181", Answer.NO_QUORUM)], "no quorum: zk2:2181 serves"),
    ("no-quorum", "critical", [SERVER, serves(server_state="read-only")], "zk2:2181 is read-only"),
    ("mntr", "note", [ServerSeen("zk1:2181", Answer.NOT_ALLOWED)], "zk1:2181 do not allow mntr"),
    ("no-leader", "note", [serves()], "the leader is not in the connect string"),
    ("standalone", "note", [serves(server_state="standalone")], "ZooKeeper has one server"),
    ("slow", "warning", [SERVER, serves(avg_latency="250.5")], "zk2:2181 takes 250 ms for a request"),
    ("outstanding", "warning", [SERVER, serves(outstanding_requests=5000)], "5000 requests wait at zk2:2181"),
    ("not-synced", "warning", [serves(server_state="leader", followers=2, synced_followers=1)], "1 of 2 followers"),
    (
        "descriptors",
        "warning",
        [SERVER, serves(open_file_descriptor_count=900, max_file_descriptor_count=1000)],
        "900 of 1000 files open",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("code", "severity", "seen", "text"), CASES)
def test_each_cause_is_found_in_a_snapshot(code: str, severity: str, seen: Snapshot, text: str) -> None:
    assert [(each.code, each.severity) for each in diagnose([SERVER], seen)] == [(code, severity)]
    assert text in str(diagnose([SERVER], seen)[0])


@pytest.mark.parametrize(("code", "severity", "servers", "text"), SERVER_CASES)
def test_each_state_of_the_servers_is_found(code: str, severity: str, servers: list[ServerSeen], text: str) -> None:
    (found,) = diagnose(servers, WELL)
    assert (found.code, found.severity) == (code, severity)
    assert text in str(found)


def test_nothing_is_found_where_all_is_well() -> None:
    assert diagnose([SERVER], WELL) == []
    assert diagnose([SERVER], queue()) == []  # tasks that wait their turn


def test_workers_that_run_a_suspect_and_full_ones_are_said_side_by_side() -> None:
    serving = ((WORKER, BUSY), *((worker(name=f"worker-{number}"), ALONE) for number in range(4)))
    found = diagnose([SERVER], queue(serving=serving))
    assert [each.code for each in found] == ["isolated"] * 4 + ["slots-full"]
    assert "1 more workers keep slots empty" in str(found[3])

    room = diagnose([SERVER], queue(serving=((WORKER, IDLE), (WORKER, ALONE))))
    assert [each.code for each in room] == ["isolated"]


def test_the_worst_is_said_first() -> None:
    seen = msgspec.structs.replace(queue(None), overview=msgspec.structs.replace(OVERVIEW, backups=()), overdue=1)
    assert [each.severity for each in diagnose([SERVER], seen)] == list(Severity)


def test_no_session_is_critical_although_the_servers_answer() -> None:
    (found,) = diagnose([SERVER], None)
    assert (found.code, found.severity) == ("no-session", "critical")


def test_every_finding_has_a_case() -> None:
    folder = Path(herdmaster.inspection.__file__).parent
    text = "".join((folder / f"{name}.py").read_text() for name in ("diagnosis", "queue_findings", "why_waiting"))
    codes = set(re.findall(r'(?:critical|warning|note)\)?\(\s*"([a-z-]+)"', text))
    of_one_task = {"due", "alone", "assigned"}  # below, by `why_waiting`
    assert codes - of_one_task == {case[0] for case in (*CASES, *SERVER_CASES)} | {"no-session"}


def test_answers_of_servers_are_told_apart() -> None:
    assert read_answer("a", "zk_server_state\tleader\nzk_avg_latency\t0.5\n").number("avg_latency") == 0.5
    assert read_answer("a", "This ZooKeeper instance is not currently serving requests\n").answer is Answer.NO_QUORUM
    assert read_answer("a", "mntr is not executed because it is not in the whitelist.\n").answer is Answer.NOT_ALLOWED
    assert read_answer("a", "zk_x\tnonsense\n").number("x") == 0


async def test_a_server_is_asked_and_one_that_is_away_is_said(namespace: str) -> None:
    (address,) = parse_connect_string(namespace).addresses
    here, away = await look_at_servers([address, Address("127.0.0.1", 1)], 5)
    assert here.answer in (Answer.SERVES, Answer.NOT_ALLOWED)
    assert (away.answer, away.address) == (Answer.UNREACHABLE, "127.0.0.1:1")
    assert away.error


async def codes(stage: Stage) -> set[str]:
    return {each.code for each in diagnose([SERVER], await take_snapshot(stage.zk))}


async def test_the_snapshot_of_a_real_namespace_shows_the_causes(stage: Stage) -> None:
    assert await codes(stage) == {"no-primary"}
    await stage.play_primary()
    mail = new_call_name("mail")
    await stage.put(layout.task_path(mail), data=with_asked(call_payload("shop:x"), "worker-aa"))
    suspect = new_call_name("mail")
    await stage.put(layout.task_path(suspect), data=with_isolation(call_payload("shop:z")))
    await stage.put(layout.task_path(new_raw_name()), data=b"raw")
    await stage.put(layout.delayed_path(5, new_call_name()), data=call_payload("shop:y"))
    await stage.put(layout.queue_path("mail"), data=encode_queue(QueueSettings(paused=True)))
    record = WorkerRecord(1, ("default",), since=5, version="1")
    await stage.put(layout.worker_path("worker-aa"), data=encode_record(record))
    await stage.put("/litter", "/tasks/litter", "/flows/litter")
    await stage.put(*(f"{folder}/{FLOW}" for folder in (layout.FLOWS, layout.STATUS, layout.WAITERS)))
    assert await codes(stage) == {
        "no-backup", "no-worker", "paused", "unknown-call", "isolated", "overdue", "clocks", "foreign",
    }  # fmt: skip
    found = await take_snapshot(stage.zk)
    assert found.foreign == ("/flows/litter", "/litter", "/tasks/litter")
    assert found.suspects == {suspect: "shop:z"}
    assert (found.pending, found.overdue) == ({"default": 1, "mail": 2}, 1)


async def test_schedules_that_are_late_or_broken_are_said(stage: Stage) -> None:
    await stage.play_primary()
    plain = Schedule(id="0a1b2c3d", timetable=Every(60_000), payload=msgspec.Raw(call_payload("shop:x")))
    for name in ("late", "broken", "fine", "paused"):
        await add_schedule(stage.zk, name, msgspec.structs.replace(plain, paused=name == "paused"))
    (old,) = [name for name in await stage.names(layout.TICKS) if name.endswith("-late")]
    await stage.zk.delete(f"{layout.TICKS}/{old}")
    await stage.put(f"{layout.TICKS}/{5:013d}-0a1b2c3d-late", data=encode_tick(Tick(due_ms=5)))
    await stage.zk.set(layout.schedule_path("broken"), b"?")
    found = await take_snapshot(stage.zk)
    assert (found.late_schedules, list(found.broken_schedules)) == (("late",), ["broken"])
    assert found.foreign == ()
    assert await codes(stage) == {"no-backup", "schedule-late", "schedule-broken"}


async def test_a_reference_primary_is_said(stage: Stage) -> None:
    await stage.play_primary(REFERENCE)
    assert "reference-primary" in await codes(stage)


@pytest.mark.long  # a worker writes its progress every two seconds
async def test_what_takes_the_slots_or_keeps_them_empty_is_said(stage: Stage) -> None:
    await stage.play_primary()
    gate = stage.gate()
    full = await stage.worker(raw=gate, slots=1)
    isolated = await stage.worker({"m:wait": lambda: gate("m:wait", b"")}, slots=2, queues=("mail",))
    raw, suspect = new_raw_name(), new_call_name("mail")
    await stage.put(layout.assignment_path(full.name, raw), data=b"x")
    alone = with_start(with_isolation(call_payload("m:wait")), isolated.name)
    await stage.put(layout.assignment_path(isolated.name, suspect), data=alone)
    waiting = {new_raw_name(): "all slots are taken", new_call_name("mail"): f"beside {suspect}"}
    for name in waiting:
        await stage.put(layout.task_path(name), data=call_payload("m:wait"))
    await stage.until_exists(layout.progress_path(full.name))
    await stage.until_exists(layout.progress_path(isolated.name))

    found = {each.code: each.text for each in diagnose([SERVER], await take_snapshot(stage.zk))}
    assert f"{raw})" in found["slots-full"]
    assert f"begins nothing (1 of 2 slots taken) beside {suspect} of m:wait" in found["isolated"]
    for name, reason in waiting.items():
        details = await Inspector(stage.zk).find(name)
        assert details is not None
        assert reason in await why_waiting(stage.zk, details)


async def test_a_task_says_why_it_does_not_run(stage: Stage) -> None:
    await stage.play_primary()
    later, held, lost, alone = new_call_name(), new_raw_name(), new_raw_name(), new_call_name()
    await stage.put(layout.delayed_path(NOW, later), data=call_payload("m:f"))
    await stage.put(layout.worker_path("worker-aa"), data=encode_record(WorkerRecord(1)))
    await stage.put(*map(layout.inbox_path, ("worker-aa", "worker-bb")))
    await stage.put(layout.assignment_path("worker-aa", held), layout.assignment_path("worker-bb", lost), data=b"x")
    await stage.put(layout.task_path(alone), data=with_isolation(call_payload("m:f")))

    async def why(name: str, now: int = NOW) -> str:
        details = await Inspector(stage.zk).find(name)
        assert details is not None
        return await why_waiting(stage.zk, details, now)

    assert await why(later, NOW - 300_000) == "it is delayed, and due in 5m"
    assert "it is due, and the primary is about to move it" in await why(later)
    assert "it is in the inbox of worker-aa" in await why(held)
    progress = encode_progress([TaskProgress("task-1", NOW - 300_000, "m:g", alone=True)])
    await stage.put(layout.progress_path("worker-aa"), data=progress)
    assert "worker-aa begins nothing (1 of 1 slots taken) beside task-1 of m:g" in await why(held)
    await stage.zk.set(layout.progress_path("worker-aa"), encode_progress([TaskProgress("task-1", NOW, "m:g")]))
    assert "all slots are taken (1 slot for worker-aa), by 1 of m:g" in await why(held)
    assert "its worker worker-bb is lost" in await why(lost)
    assert "it runs alone, because workers were lost with it" in await why(alone)
    await stage.put(layout.cancel_path(later))
    assert "a request to cancel it is not decided yet" in await why(later)


async def test_a_step_says_that_no_worker_of_its_queue_knows_flows(stage: Stage) -> None:
    step = f"{new_call_name('mail')}.f"
    await stage.put(layout.task_path(step), data=call_payload("m:f"))
    await stage.put(layout.worker_path("worker-0"), data=encode_record(WorkerRecord(2, ("mail",))))
    details = await Inspector(stage.zk).find(step)
    assert details is not None
    for wanted in (True, False):
        assert ("knows flows" in await why_waiting(stage.zk, details)) is wanted
        assert any(each.code == "no-flows" for each in diagnose((), await take_snapshot(stage.zk))) is wanted
        await stage.zk.set(
            layout.worker_path("worker-0"), encode_record(WorkerRecord(2, ("mail",), features=(FLOWS, "later")))
        )


@pytest.mark.parametrize(
    ("settings", "records", "says"),
    [
        (QueueSettings(), (), "no worker serves queue mail"),
        (QueueSettings(paused=True), (WorkerRecord(2, ("mail",)),), "queue mail is paused"),
        (QueueSettings(max_running=1), (WorkerRecord(2, ("mail",)),), "limited to 1 running tasks, and 1"),
        (QueueSettings(rate=2.0), (WorkerRecord(2, ("mail",)),), "queue mail is limited"),
        (QueueSettings(), (WorkerRecord(2, ("mail",), "draining"),), "all workers that serve queue mail are draining"),
        (QueueSettings(), (WorkerRecord(2, ("mail",), calls=False),), "no worker that serves queue mail has an app"),
    ],
)
async def test_a_task_says_what_holds_its_queue_back(
    stage: Stage, settings: QueueSettings, records: tuple[WorkerRecord, ...], says: str
) -> None:
    waiting, running = new_call_name("mail"), new_call_name("mail")
    await stage.put(layout.task_path(waiting), data=call_payload("m:f"))
    await stage.put(layout.queue_path("mail"), data=encode_queue(settings))
    await stage.put(layout.assignment_path("worker-0", running), data=call_payload("m:f"))
    for number, record in enumerate(records):
        await stage.put(layout.worker_path(f"worker-{number}"), data=encode_record(record))
    details = await Inspector(stage.zk).find(waiting)
    assert details is not None
    reasons = await why_waiting(stage.zk, details)
    assert "there is no primary: `herd master` starts one" in reasons
    assert says in reasons
