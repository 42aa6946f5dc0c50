"""`herd tasks`, `herd dead`, `herd workers` and `herd queues` in a namespace with tasks in every place."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster.core import layout
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.keys import hash_key
from herdmaster.core.names import call_name
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import Call, encode_arguments, encode_call, with_asked, with_error
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Acl, Id, Permission
from tests.cli.processes import HerdProcess, run_herd

pytestmark = pytest.mark.long

PENDING = call_name("01jd0000000000000000000001", "mail", 9)
FAILED = call_name("01jd0000000000000000000002")
DEAD = call_name("01jd0000000000000000000003", "mail")
GONE = call_name("01jd0000000000000000000004")
PAYLOAD = encode_call(Call(1, "tests.cli.app:add", *encode_arguments([1, 2], {}), attempt=3))
ERROR = ErrorInfo("LookupError", "of no use", "Traceback: there")
FAILURE = Outcome(OutcomeState.FAILED, error=ERROR)


@pytest.fixture
async def filled(namespace: str) -> str:
    async with Client(namespace) as client:
        await make_folders(client)
        await client.create(layout.task_path(PENDING), with_asked(PAYLOAD, "worker-a"))
        await client.create(layout.status_path(FAILED), encode_outcome(FAILED, FAILURE))
        await client.create(layout.dead_path(DEAD), with_error(PAYLOAD, ERROR))
    return namespace


@pytest.fixture
def cluster(namespace: str) -> Iterator[str]:
    with HerdProcess("master", namespace) as master:
        master.wait_for_log("elected")
        with HerdProcess("worker", namespace, "--app=tests.cli.app") as worker:
            worker.wait_for_log("is ready")
            yield namespace


def test_tasks_are_listed_for_people_and_for_programs(filled: str) -> None:
    result = run_herd("tasks", "list", "--zookeeper", filled)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert (result.returncode, result.stderr) == (0, "")
    assert lines[0] == ["STATE", "AGE", "TASK", "CALL", "AND", "WHERE"]
    assert lines[1][3:] == ["tests.cli.app:add"]
    assert lines[3][3:] == ["tests.cli.app:add", "LookupError"]
    assert [(line[0], line[2]) for line in lines[1:]] == [("pending", PENDING), ("failed", FAILED), ("dead", DEAD)]

    result = run_herd("tasks", "list", "--zookeeper", filled, "--json", "--state=dead", "--queue=mail")
    (seen,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (seen["name"], seen["state"], seen["queue"], seen["priority"]) == (DEAD, "dead", "mail", 5)


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_listings_take_hosts_as_an_argument(filled: str, arguments: tuple[str, ...]) -> None:
    for verb, names in (("tasks", {PENDING, FAILED, DEAD}), ("dead", {DEAD}), ("queues", {"mail"})):
        result = run_herd(verb, *arguments, filled)
        assert result.returncode == 0, result.stderr
        assert names <= set(result.stdout.split()), verb
    if not arguments:
        assert run_herd("workers", filled).stderr == "no worker is alive: `herd worker` starts one\n"


async def test_what_may_not_be_read_keeps_no_command_from_the_rest(filled: str) -> None:
    only_al = (Acl(int(Permission.ALL), Id("digest", "al:x")),)
    async with Client(filled) as client:
        await client.create(layout.dead_path(GONE), PAYLOAD, acl=only_al)
        await client.create(layout.inbox_path("worker-b"), acl=only_al)
        result = await asyncio.to_thread(run_herd, "queues", filled)
        assert (result.returncode, result.stdout.split()[0]) == (0, "mail")
        left_out = f"1 znode was left out, because it cannot be read: NoAuth: {layout.inbox_path('worker-b')}: "
        assert result.stderr.startswith(left_out)

        result = await asyncio.to_thread(run_herd, "dead", "replay", "--all", "--zookeeper", filled)
        assert result.stdout.startswith(f"{DEAD}: runs again as ")
        assert f"{GONE}: stays dead: NoAuth: {layout.dead_path(GONE)}: " in result.stderr
        assert result.returncode == 1
        assert await client.children(layout.DEAD) == (GONE,)
        for path in (layout.dead_path(GONE), layout.inbox_path("worker-b")):
            await client.delete(path)  # what removes the namespace lists each znode first


def test_a_misspelt_command_is_not_taken_for_hosts() -> None:
    result = run_herd("tasks", "lst")
    assert result.returncode == 2
    assert "No such command 'lst'" in result.stderr


def test_a_listing_says_that_there_is_more(filled: str) -> None:
    result = run_herd("tasks", "list", "--zookeeper", filled, "--limit=1", "--older-than=1h")
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == "there are more than 1 tasks: --limit 0 lists all\n"


def test_a_task_is_shown_with_its_call_and_its_error(filled: str) -> None:
    result = run_herd("tasks", "show", "--zookeeper", filled, PENDING)
    assert "call        tests.cli.app:add\n" in result.stdout
    assert "arguments   [1,2] {}\n" in result.stdout
    assert "attempt 3" in result.stdout
    hint = "`herd worker --import tests.cli.app` imports its module"
    asked = f"worker-a: without this function, or these parameters; {hint}"
    assert f"asked       {asked}\n" in result.stdout
    result = run_herd("tasks", "show", "--zookeeper", filled, FAILED, "--json")
    assert json.loads(result.stdout)["outcome"]["error"]["type"] == "LookupError"


def test_a_dead_task_tells_its_error_although_its_outcome_is_collected(filled: str) -> None:
    for group in ("dead", "tasks"):
        result = run_herd(group, "show", "--zookeeper", filled, DEAD)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.endswith(f"error       failed: LookupError: of no use\n\n{'':12}Traceback: there\n")
    result = run_herd("dead", "show", "--zookeeper", filled, DEAD, "--json")
    assert json.loads(result.stdout)["call"]["error"]["type"] == "LookupError"


def test_the_result_of_a_failed_task_is_its_error(filled: str) -> None:
    result = run_herd("tasks", "result", "--zookeeper", filled, FAILED)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"herd tasks result: {FAILED} failed: LookupError: of no use\n\nTraceback: there")
    result = run_herd("tasks", "result", "--zookeeper", filled, PENDING)
    assert result.returncode == 1
    assert result.stderr.startswith(f"herd tasks result: {PENDING} has not ended: it is pending; there is no primary")


@pytest.mark.parametrize("verb", ["show", "result"])
def test_what_is_nowhere_is_an_error(filled: str, verb: str) -> None:
    result = run_herd("tasks", verb, "--zookeeper", filled, GONE)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"herd tasks {verb}: there is no {GONE}: it never existed")


@pytest.mark.parametrize("verb", ["show", "result", "wait", "cancel"])
def test_a_name_that_is_no_tasks_is_a_mistake_of_the_caller(verb: str) -> None:
    result = run_herd("tasks", verb, "x/y")
    assert result.returncode == 2
    assert "'x/y' is not the name of a task" in result.stderr


def test_waiting_tells_how_each_ended_and_leaves_the_outcomes(cluster: str) -> None:
    names = [
        run_herd("submit", "--zookeeper", cluster, *call).stdout.strip()
        for call in (("tests.cli.app:add", "1", "2"), ("tests.cli.app:fail", "no"))
    ]
    for _ in range(2):
        result = run_herd("tasks", "wait", "--zookeeper", cluster, *names)
        assert result.returncode == 1
        expected = [f"{names[0]}: done", f"{names[1]}: failed: LookupError: no"]
        assert sorted(result.stdout.splitlines()) == sorted(expected)
    result = run_herd("tasks", "result", "--zookeeper", cluster, names[0])
    assert (result.returncode, result.stdout) == (0, "3\n")


def test_waiting_gives_up_when_it_is_told_to(filled: str) -> None:
    result = run_herd("tasks", "wait", "--zookeeper", filled, "--timeout=0.5s", PENDING)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"{PENDING} has not ended within 0.5 s and goes on\n"


def test_a_running_task_is_cancelled(cluster: str, tmp_path: Path) -> None:
    sign = tmp_path / "begun"
    arguments = ("tests.cli.app:wait_for", str(sign), str(tmp_path / "never"))
    name = run_herd("submit", "--zookeeper", cluster, *arguments).stdout.strip()
    waiting = run_herd("tasks", "wait", "--zookeeper", cluster, "--timeout=1s", name)
    assert waiting.returncode == 1
    result = run_herd("tasks", "cancel", "--zookeeper", cluster, "--timeout=30s", name)
    assert (result.returncode, result.stdout) == (0, f"{name}: cancelled\n")
    result = run_herd("tasks", "cancel", "--zookeeper", cluster, name)
    assert (result.returncode, result.stdout) == (0, f"{name}: cancelled\n")


def test_a_task_that_has_ended_is_not_cancelled(cluster: str) -> None:
    name = run_herd("submit", "--zookeeper", cluster, "tests.cli.app:add", "1", "2").stdout.strip()
    assert run_herd("tasks", "wait", "--zookeeper", cluster, name).returncode == 0
    result = run_herd("tasks", "cancel", "--zookeeper", cluster, "--timeout=30s", name)
    assert (result.returncode, result.stdout) == (1, f"{name}: it had ended\n")
    assert "under systemd `journalctl _PID=" in run_herd("tasks", "show", "--zookeeper", cluster, name).stdout


def test_dead_tasks_are_listed_replayed_and_purged(filled: str) -> None:
    assert DEAD in run_herd("dead", "list", "--zookeeper", filled).stdout
    result = run_herd("dead", "replay", "--zookeeper", filled, DEAD)
    first, _, new = result.stdout.strip().partition(": runs again as ")
    assert (result.returncode, first) == (0, DEAD)
    assert new.endswith(".mail")
    assert new in run_herd("tasks", "list", "--zookeeper", filled, "--state=pending").stdout
    result = run_herd("dead", "purge", "--zookeeper", filled, DEAD)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{DEAD}: is not dead\nherd dead purge: not all of these tasks are dead")


def test_all_dead_tasks_are_purged_only_by_those_who_say_yes(filled: str) -> None:
    result = run_herd("dead", "purge", "--zookeeper", filled, "--all")
    assert result.returncode == 1
    result = run_herd("dead", "purge", "--zookeeper", filled, "--all", "--yes", "--queue=mail")
    assert (result.returncode, result.stdout) == (0, f"{DEAD}: purged\n")
    assert run_herd("dead", "list", "--zookeeper", filled).stdout == ""


@pytest.mark.parametrize("verb", ["replay", "purge"])
def test_dead_tasks_are_named_or_all_of_them(verb: str) -> None:
    result = run_herd("dead", verb)
    assert (result.returncode, result.stdout) == (2, "")
    assert "name the tasks, or choose them with --all or a filter" in result.stderr


def test_workers_are_listed(cluster: str) -> None:
    result = run_herd("workers", "--zookeeper", cluster)
    assert (result.returncode, result.stderr) == (0, "")
    assert "queues default  ready  0 assigned" in result.stdout
    (seen,) = [json.loads(line) for line in run_herd("workers", "--zookeeper", cluster, "--json").stdout.splitlines()]
    assert seen["state"] == "ready"
    assert seen["running"]["running"] == 0


def test_no_worker_is_told_as_such(filled: str) -> None:
    result = run_herd("workers", "--zookeeper", filled)
    assert (result.returncode, result.stdout) == (0, "")
    assert "no worker is alive" in result.stderr


def test_queues_are_paused_limited_and_listed(filled: str) -> None:
    result = run_herd("queues", "pause", "--zookeeper", filled, "mail")
    assert (result.returncode, result.stdout) == (0, "mail: paused\n")
    result = run_herd("queues", "limit", "--zookeeper", filled, "mail", "--max-running=3", "--rate=2.5")
    assert result.stdout == "mail: paused, at most 3 running, at most 2.5 a second\n"
    result = run_herd("queues", "list", "--zookeeper", filled)
    counts, limits = "1 pending  0 delayed  0 assigned", "paused, at most 3 running, at most 2.5 a second"
    assert result.stdout == f"{'mail':<16}  {counts}  no worker  {limits}\n"
    assert run_herd("queues", "resume", "--zookeeper", filled, "mail").stdout.startswith("mail: at most 3")
    result = run_herd("queues", "limit", "--zookeeper", filled, "mail", "--max-running=0", "--rate=0")
    assert result.stdout == "mail: no limits\n"
    (seen,) = map(json.loads, run_herd("queues", "list", "--zookeeper", filled, "--json").stdout.splitlines())
    assert (seen["name"], seen["pending"]) == ("mail", 1)


def test_keys_are_shown_and_released(filled: str) -> None:
    at = ("--zookeeper", filled)
    told = [
        run_herd("submit", *at, "--unchecked", "--key", "k", *scope, call, "1").stdout.strip()
        for call, scope in (("a:f", ()), ("a:g", ()), ("a:h", ("--key-scope=global",)), ("a:f", ()))
    ]
    f, g, h, again = told
    assert f == again
    result = run_herd("keys", *at)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert (result.returncode, result.stderr, lines[0]) == (0, "", ["AGE", "KEY", "CALL", "TASK"])
    assert sorted(line[1:] for line in lines[1:]) == [["k", "a:f", f], ["k", "a:g", g], ["k", "a:h", "(global)", h]]
    (seen,) = map(json.loads, run_herd("keys", "show", *at, "--json", "k", "--call=a:g").stdout.splitlines())
    assert (seen["key"], seen["call"], seen["scope"], seen["task"]) == ("k", "a:g", "call", g)

    result = run_herd("keys", "release", *at, "k")
    assert (result.returncode, result.stdout) == (2, "")
    assert "3 tasks hold a key 'k': choose one with --call, of a:f, a:g, a:h (global)" in result.stderr
    result = run_herd("keys", "release", *at, "k", "--call=a:f")
    assert (result.returncode, result.stdout) == (0, f"released: {f}, which is pending, held it\n")
    result = run_herd("keys", "release", *at, "k", "--call=a:f")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no task holds the key 'k' of a:f: `herd keys show` lists those that are held" in result.stderr
    assert run_herd("keys", "release", *at, seen["hash"]).stdout.startswith(f"released: {g}")
    assert run_herd("keys", "release", *at, "k").stdout.startswith(f"released: {h}")
    result = run_herd("keys", *at)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "no task holds a key\n")


async def test_a_dead_task_whose_key_is_taken_stays_dead_until_it_is_told_to_go_without_it(filled: str) -> None:
    key = hash_key("k", "tests.cli.app:add")
    payload = json.dumps(json.loads(PAYLOAD) | {"key": key, "unique": {"key": "k"}}).encode()
    async with Client(filled) as client:
        await client.set(layout.dead_path(DEAD), payload)
    at = ("--zookeeper", filled)
    holder = run_herd("submit", *at, "--key", "k", "tests.cli.app:add", "1", "2").stdout.strip()
    result = run_herd("dead", "replay", *at, "--all")
    assert (result.returncode, result.stdout) == (1, f"{DEAD}: stays dead, because {holder} holds its key\n")
    assert "--without-key" in result.stderr

    run_herd("keys", "release", *at, "k", "--call=tests.cli.app:add")
    new = run_herd("dead", "replay", *at, DEAD).stdout.strip().rpartition(" ")[2]
    (seen,) = map(json.loads, run_herd("keys", *at, "--json").stdout.splitlines())
    assert (seen["task"], seen["key"]) == (new, "k")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["queues", "pause", "Mail"], "'Mail' is not a queue name"),
        (["queues", "limit", "mail"], "--max-running, --rate, or both"),
        (["tasks", "list", "--older-than=soon"], "'soon' is not a duration, such as 90s"),
        (["tasks", "list", "--state=lost"], "'lost' is not one of"),
        (["tasks", "list", "--queue="], "'--queue': it is empty"),
        (["dead", "purge", "--queue=mail", "task-1"], "name the tasks, or choose them"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], said: str) -> None:
    result = run_herd(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_namespace_that_does_not_exist_is_told_as_such(namespace: str) -> None:
    for arguments in (["tasks", "list"], ["queues", "list"], ["workers"], ["tasks", "show", GONE]):
        result = run_herd(*arguments, "--zookeeper", f"{namespace}-absent")
        assert result.returncode == 2
        assert "does not exist" in result.stderr


def test_a_queue_that_seems_to_be_misspelt_is_changed_with_a_warning(filled: str) -> None:
    result = run_herd("queues", "pause", "--zookeeper", filled, "nosuch")
    assert (result.returncode, result.stdout) == (0, "nosuch: paused\n")
    assert result.stderr == "no worker serves queue nosuch, and no task is in it; there are mail\n"
    assert run_herd("queues", "pause", "--zookeeper", filled, "mail").stderr == ""


def test_queues_take_the_options_of_the_listing(filled: str) -> None:
    result = run_herd("queues", "--zookeeper", filled, "--json")
    assert (result.returncode, [json.loads(line)["name"] for line in result.stdout.splitlines()]) == (0, ["mail"])
    assert "Commands:" in run_herd("queues", "--help").stdout


def test_a_waiting_task_tells_what_keeps_it_from_running(filled: str) -> None:
    run_herd("queues", "pause", "--zookeeper", filled, "mail")
    shown = run_herd("tasks", "show", "--zookeeper", filled, PENDING).stdout
    assert "there is no primary: `herd master` starts one" in shown
    assert "queue mail is paused: `herd queues resume mail` resumes it" in shown
    assert "no worker serves queue mail: `herd worker --queue mail` starts one" in shown
    assert "queue mail is paused" in run_herd("tasks", "result", "--zookeeper", filled, PENDING).stderr
    assert "paused    mail" in run_herd("status", "--zookeeper", filled).stdout
    assert json.loads(run_herd("status", filled, "--json").stdout)["paused"] == ["mail"]


def test_a_call_waits_where_no_worker_has_an_app(namespace: str) -> None:
    with HerdProcess("master", namespace) as master, HerdProcess("worker", namespace) as worker:
        master.wait_for_log("elected")
        worker.wait_for_log("is ready")
        name = run_herd("submit", "--zookeeper", namespace, "--unchecked", "m:f").stdout.strip()
        shown = run_herd("tasks", "show", "--zookeeper", namespace, name).stdout
        assert "no worker that serves queue default has an app: `herd worker --app MODULE` gives it one" in shown
        assert "raw tasks only" in run_herd("workers", "--zookeeper", namespace).stdout


def test_what_is_dead_is_not_said_to_be_nowhere(filled: str) -> None:
    result = run_herd("tasks", "cancel", "--zookeeper", filled, DEAD)
    assert (result.returncode, result.stdout) == (1, f"{DEAD}: it neither waits nor runs, and has no outcome\n")


def test_the_servers_are_given_once(filled: str) -> None:
    result = run_herd("status", filled, "--zookeeper", filled)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("herd status: HOSTS is given twice, once with --zookeeper")


async def test_a_tasks_error_does_not_steer_the_terminal_that_shows_it(namespace: str) -> None:
    async with Client(namespace) as client:
        await make_folders(client)
        hostile = Outcome(OutcomeState.FAILED, error=ErrorInfo("LookupError", "\x1b]0;owned\x07", "line\r\x1b[2J"))
        await client.create(layout.status_path(FAILED), encode_outcome(FAILED, hostile))
    for result in (
        run_herd("tasks", "show", "--zookeeper", namespace, FAILED),
        run_herd("tasks", "result", "--zookeeper", namespace, FAILED),
        run_herd("tasks", "wait", "--zookeeper", namespace, FAILED),
    ):
        shown = result.stdout + result.stderr
        assert "\\x1b]0;owned\\x07" in shown
        assert not set("\x1b\x07") & set(shown)
