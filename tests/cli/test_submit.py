"""`herd client`, `herd submit` and `herd status` against a master and a worker that run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster.api import Herd
from herdmaster.api.callee import Callee
from herdmaster.api.direction import Target
from herdmaster.api.options import TaskOptions
from herdmaster.cli.submission import make_order, submit_and_leave
from herdmaster.core import layout
from herdmaster.errors import NotSubmitted
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.testing.child_server import ChildServer
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.errors import NoServerReachable
from tests.cli.processes import HERD, HerdProcess, connect, run_herd, wait_until

pytestmark = pytest.mark.long

_CALL = re.compile(r"task-[0-9a-z]{26}\.default\n").fullmatch
NOWHERE = "127.0.0.1:1"


@pytest.fixture
def cluster(namespace: str) -> Iterator[str]:
    """HOSTS of a master and a worker."""
    with HerdProcess("master", namespace) as master:
        master.wait_for_log("elected")
        with HerdProcess("worker", namespace, "--app=tests.cli.app") as worker:
            worker.wait_for_log("is ready")
            yield namespace


def test_client_prints_outcomes_in_the_order_of_the_data(cluster: str) -> None:
    result = run_herd("client", cluster, "one", "bad", "two")
    names, outcomes = zip(*(line.split(": ", 1) for line in result.stdout.splitlines()), strict=True)
    assert outcomes == ("done", "failed: LookupError", "done")
    assert list(names) == sorted(names)
    assert (result.returncode, result.stderr) == (1, "")


def test_client_takes_hosts_from_the_option_or_the_variable_too(cluster: str) -> None:
    result = run_herd("client", "--zookeeper", cluster, "a:1", "two")
    assert (result.returncode, result.stdout.count(": done\n")) == (0, 2)
    result = run_herd("client", "one", environment={"HERD_ZOOKEEPER": cluster})
    assert (result.returncode, result.stdout.count(": done\n")) == (0, 1)


def test_client_carries_bytes_that_are_no_text(namespace: str) -> None:
    with (
        HerdProcess("master", namespace) as master,
        HerdProcess("worker", namespace, "--app=tests.cli.app") as worker,
    ):
        master.wait_for_log("elected")
        result = subprocess.run([*HERD, "client", namespace, b"\xff\xfe"], capture_output=True, check=False, timeout=40)
        assert (result.returncode, result.stderr) == (0, b"")
        wait_until(lambda: r"has b'\xff\xfe'" in worker.stdout, "the worker has not printed it")


def test_submit_prints_a_name_that_any_program_can_wait_for(cluster: str) -> None:
    result = run_herd("submit", "--zookeeper", cluster, "tests.cli.app:add", "2", "y=-3")
    assert (result.returncode, result.stderr) == (0, "")
    assert _CALL(result.stdout)
    with Herd(cluster) as herd:
        assert herd.future(result.stdout.strip()).result(timeout=60) == -1


async def test_submit_leaves_an_outcome_to_others_that_is_there_before_it_has_left(namespace: str) -> None:
    task = make_order(Callee("shop:add"), [2], {"y": 3}, TaskOptions()).new_task
    async with Client(namespace) as client:
        await make_folders(client)
        await client.create(layout.status_path(task.name), b"the outcome")
        await submit_and_leave(Target(namespace), task, connect_timeout=10.0, submit_timeout=10.0)
        assert await client.exists(layout.task_path(task.name)) is not None
        assert await client.exists(layout.status_path(task.name)) is not None


async def test_submit_does_not_wait_for_ever_to_be_accepted(own_zookeeper: ChildServer) -> None:
    task = make_order(Callee("shop:add"), [], {}, TaskOptions()).new_task
    own_zookeeper.pause()
    started = time.monotonic()
    with pytest.raises((NotSubmitted, NoServerReachable)):
        await submit_and_leave(Target(own_zookeeper.hosts), task, connect_timeout=5.0, submit_timeout=1.0)
    assert time.monotonic() - started < 20.0
    own_zookeeper.resume()


def test_submit_waits_and_prints_the_result_as_json(cluster: str) -> None:
    arguments = ["-5", "text", "ü", "null", '"2"', "k=[1]", "who=me", "--", "--flag"]
    result = run_herd("submit", "--zookeeper", cluster, "--wait", "tests.cli.app:echo", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == [[-5, "text", "ü", None, "2", "--flag"], {"k": [1], "who": "me"}]


def test_submit_tells_what_a_task_failed_with(cluster: str) -> None:
    result = run_herd("submit", "--zookeeper", cluster, "--wait", "tests.cli.app:fail", "of no use")
    assert (result.returncode, result.stdout) == (1, "")
    first, *_, last = result.stderr.splitlines()
    assert re.fullmatch(r"herd submit: task-\S+ failed: LookupError: of no use", first)
    assert last == "LookupError: of no use"
    assert "herdmaster/cli" not in result.stderr  # the traceback is the task's, not the command's


def test_submit_tells_that_no_worker_knows_the_function(cluster: str) -> None:
    result = run_herd("submit", "--zookeeper", cluster, "--unchecked", "--wait", "no_such_module:function")
    assert (result.returncode, result.stdout) == (1, "")
    assert "UnknownCall: no_such_module:function is not registered" in result.stderr


def test_submit_passes_queue_and_priority_on(cluster: str) -> None:
    result = run_herd("submit", "--zookeeper", cluster, "--queue=mail", "--priority=9", "--unchecked", "shop:add")
    assert result.stdout.strip().endswith(".mail.p9")


def test_submit_passes_the_options_of_a_submission_on(namespace: str) -> None:
    result = run_herd(
        "submit", "--zookeeper", namespace, "--delay=1h", "--expires=2h", "--max-attempts=3", "--unchecked", "--create",
        "shop:add",
    )  # fmt: skip
    name = result.stdout.strip()
    shown = json.loads(run_herd("tasks", "show", "--zookeeper", namespace, "--json", name).stdout)
    assert shown["seen"]["state"] == "delayed"
    call, submitted = shown["call"], shown["seen"]["submitted"]
    assert call["options"]["max_attempts"] == 3
    assert abs(shown["seen"]["due"] - submitted - 3_600_000) < 60_000
    assert abs(call["expires"] - submitted - 7_200_000) < 60_000


def test_submit_with_a_key_that_is_held_names_its_holder_and_submits_nothing(namespace: str) -> None:
    command = ("submit", "--zookeeper", namespace, "--key=nightly", "--unchecked", "--create", "shop:add")
    first, again = run_herd(*command), run_herd(*command)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert again.stderr == f"nothing was submitted: {first.stdout.strip()} holds the key\n"
    listed = run_herd("tasks", "list", "--zookeeper", namespace, "--json")
    assert listed.stdout.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["client", NOWHERE], ["submit", "--zookeeper", NOWHERE, "--unchecked", "a:b"], ["status", NOWHERE]]
)
def test_without_zookeeper_they_fail_with_one_line(arguments: list[str]) -> None:
    result = run_herd(*arguments, "--connect-timeout=0.5")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"herd {arguments[0]}: ")
    assert "is ZooKeeper running?" in line


def test_interrupted_while_it_waits_client_names_what_goes_on(namespace: str) -> None:
    with HerdProcess("client", "--zookeeper", namespace, "one", "two") as client:
        client.wait_for_log("still waiting for 2 tasks")  # since no worker runs them
        client.send(signal.SIGINT)
        assert client.wait() == 130
        lines = client.stderr.splitlines()[1:]
    assert [re.fullmatch(r"task-[0-9a-z]{26} was submitted and goes on", line) is None for line in lines] == [
        False,
        False,
    ]


def test_status_shows_who_is_there(cluster: str) -> None:
    with HerdProcess("master", cluster) as backup:
        backup.wait_for_log("standing by")
        result = run_herd("status", cluster)
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["primary", "backup", "worker", "tasks"]
    assert f"pid {backup.pid}" in result.stdout.splitlines()[1]
    assert "\x1b" not in result.stdout


def test_status_as_json_is_one_object(cluster: str) -> None:
    with Herd(cluster) as herd:
        assert herd.submit_call("tests.cli.app:add", [2, 3]).result(timeout=60) == 5
    result = run_herd("status", cluster, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["zookeeper"] == cluster
    assert found["primary"]["name"].startswith("master-")
    assert found["backups"] == []
    (worker,) = found["workers"]
    assert worker["name"].startswith("worker-")
    assert (worker["state"], worker["queues"], worker["assigned"]) == ("ready", ["default"], 0)
    assert found["tasks"] == {"backlog": 0, "delayed": 0, "assigned": 0, "recovering": 0, "ended": 0, "dead": 0}


def test_a_namespace_whose_master_starts_meanwhile_is_used(namespace: str) -> None:
    with HerdProcess("submit", "--unchecked", "m:f", "--zookeeper", namespace) as submit:
        submit.wait_for_log("waiting for a master to create the folders")
        with HerdProcess("master", namespace):
            assert submit.wait() == 0
            assert _CALL(submit.stdout)


def test_a_namespace_that_no_program_has_used_is_refused(namespace: str) -> None:
    for hosts in (namespace, f"{namespace}/typo"):
        result = run_herd("submit", "--unchecked", "m:f", "--zookeeper", hosts, "--connect-timeout=1.5")
        assert (result.returncode, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert line == (
            f"herd submit: the namespace in {hosts} has never been used: check the connect string, start a "
            "master there, or submit with --create"
        )
    with connect(namespace) as client:
        assert client.get_children("/") == []


def test_status_of_a_namespace_that_is_not_there_says_so(namespace: str) -> None:
    result = run_herd("status", f"{namespace}/nothing")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "does not exist" in line


def test_a_reader_that_goes_away_is_no_fault_of_ours(namespace: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with (tmp_path / "errors").open("w+b") as errors:
        command = [*HERD, "status", namespace]
        code = subprocess.run(command, stdout=writing, stderr=errors, check=False, timeout=40).returncode
        os.close(writing)
        errors.seek(0)
        assert (code, errors.read()) == (128 + signal.SIGPIPE, b"")
