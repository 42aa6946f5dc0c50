"""Masters and workers as real processes: how they start, what they say, how they end."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from herdmaster.api import Future, Herd
from herdmaster.inspection.overview import Overview, OverviewReader
from herdmaster.zookeeper.client import Client
from tests.cli.processes import HerdProcess, connect, run_herd, wait_until

pytestmark = pytest.mark.long

APP = "--app=tests.cli.app"
NOWHERE = "127.0.0.1:1"


def look(hosts: str) -> Overview:
    async def look_once() -> Overview:
        async with Client(hosts, connect_timeout=10.0) as client:
            return await OverviewReader(client).look()

    return asyncio.run(look_once())


def wait_for_overview(hosts: str, condition: Callable[[Overview], bool], otherwise: str) -> Overview:
    def find() -> Overview | None:
        overview = look(hosts)
        return overview if condition(overview) else None

    return wait_until(find, otherwise)


def inboxes(hosts: str) -> list[str]:
    with connect(hosts) as client:
        return list(client.get_children("/assign"))


def submit_sum(herd: Herd, x: int, y: int, queue: str = "default") -> Future[int]:
    return herd.submit_call("tests.cli.app:add", [x, y], queue=queue)


class Blocking:
    """A task that runs until it is told to go on."""

    def __init__(self, herd: Herd, folder: Path) -> None:
        self._started, self._go_on = folder / "started", folder / "go-on"
        self.future: Future[str] = herd.submit_call("tests.cli.app:wait_for", [str(self._started), str(self._go_on)])

    def wait_started(self) -> None:
        wait_until(self._started.exists, "the task did not start")

    def let_go_on(self) -> None:
        self._go_on.touch()


def test_the_first_signal_drains_a_worker(namespace: str, tmp_path: Path) -> None:
    with (
        HerdProcess("master", namespace),
        HerdProcess("worker", namespace, APP, "--slots=1") as worker,
        Herd(namespace) as herd,
    ):
        blocking = Blocking(herd, tmp_path)
        blocking.wait_started()
        others = [submit_sum(herd, 1, n) for n in range(5)]
        worker.send(signal.SIGTERM)
        worker.wait_for_log("drains")
        wait_for_overview(namespace, lambda seen: seen.tasks.backlog == len(others), "the others were not handed back")
        blocking.let_go_on()
        assert worker.wait() == 0
        assert blocking.future.result(timeout=60) == "went on"
        worker.wait_for_log("has drained")
        assert inboxes(namespace) == []
        assert look(namespace).workers == ()
        with HerdProcess("worker", namespace, APP):
            assert [future.result(timeout=60) for future in others] == [1, 2, 3, 4, 5]


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_stops_a_worker_at_once(
    number: signal.Signals, code: int, namespace: str, tmp_path: Path
) -> None:
    with HerdProcess("master", namespace), HerdProcess("worker", namespace, APP) as worker, Herd(namespace) as herd:
        blocking = Blocking(herd, tmp_path)
        blocking.wait_started()
        worker.send(number)
        worker.wait_for_log("drains")
        worker.send(number)
        assert worker.wait() == code
        # It ended its session, so no role waits for its timeout of ten seconds.
        wait_for_overview(namespace, lambda seen: seen.tasks.backlog == 1, "the task was not given back at once")
        blocking.let_go_on()
        with HerdProcess("worker", namespace, APP):
            assert blocking.future.result(timeout=60) == "went on"


def test_a_worker_that_may_not_drain_longer_hands_back_what_runs(namespace: str, tmp_path: Path) -> None:
    with (
        HerdProcess("master", namespace),
        HerdProcess("worker", namespace, APP, "--drain-timeout=0.3") as worker,
        Herd(namespace) as herd,
    ):
        blocking = Blocking(herd, tmp_path)
        blocking.wait_started()
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        assert "gives up waiting" in worker.stderr
        assert inboxes(namespace) == []
        assert look(namespace).tasks.backlog == 1


def test_a_master_that_is_told_to_stop_hands_over_at_once(namespace: str) -> None:
    with HerdProcess("master", namespace) as first:
        first.wait_for_log("elected")
        with HerdProcess("master", namespace) as second:
            second.wait_for_log("standing by")
            first.send(signal.SIGTERM)
            # Its session would have lasted ten seconds.
            second.wait_for_log("elected", timeout=5)
            assert first.wait() == 0
            second.send(signal.SIGINT)
            assert second.wait() == 0


def test_a_role_stops_while_it_still_looks_for_zookeeper() -> None:
    with HerdProcess("worker", NOWHERE) as worker:
        worker.wait_for_log("connecting to")
        time.sleep(0.3)  # into the attempts; either moment must do
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.parametrize("verb", ["master", "worker"])
def test_a_role_that_finds_no_zookeeper_says_so_and_fails(verb: str) -> None:
    result = run_herd(verb, NOWHERE, "--connect-timeout=0.5", "--log-level=error")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"herd {verb}: no session with {NOWHERE}")
    assert "is ZooKeeper running?" in line


def test_the_log_tells_who_came_and_went_and_what_was_recovered(namespace: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        herd = stack.enter_context(Herd(namespace))
        master = stack.enter_context(HerdProcess("master", namespace))
        master.wait_for_log("INFO master: elected: master-")
        worker = stack.enter_context(HerdProcess("worker", namespace, APP, "--session-timeout=2"))
        name = worker.wait_for_log("is ready: ").split()[4]
        master.wait_for_log(f"{name} joined")
        blocking = Blocking(herd, tmp_path)
        blocking.wait_started()
        worker.kill()
        master.wait_for_log(f"{name} was lost")
        master.wait_for_log(f"recovered 1 tasks of {name}")
        with HerdProcess("master", namespace) as backup:
            backup.wait_for_log("INFO master: standing by")


def test_log_lines_as_json_can_all_be_read(namespace: str) -> None:
    with HerdProcess("master", namespace, "--log-format=json", "--log-level=debug") as master:
        master.wait_for_log("elected")
        master.send(signal.SIGTERM)
        assert master.wait() == 0
        lines = [json.loads(line) for line in master.stderr.splitlines()]
    assert all(line.keys() == {"time", "level", "logger", "message"} for line in lines)
    assert any(line["logger"] == "herdmaster.master" and "elected" in line["message"] for line in lines)


def test_what_a_process_logs_stands_in_the_workers_log_with_its_level_and_logger(namespace: str) -> None:
    with (
        HerdProcess("master", namespace),
        HerdProcess("worker", namespace, APP, "--log-format=json") as worker,
        Herd(namespace) as herd,
    ):
        herd.submit_call("tests.cli.app:log_in_process", ["no such item"]).result(timeout=60)
        line = json.loads(worker.wait_for_log('"shop"'))
        assert (line["level"], line["logger"], line["message"]) == ("error", "shop", "failed")
        assert line["exception"].endswith("LookupError: no such item")
        assert "too fine" not in worker.stderr


def test_a_worker_finds_its_app_in_the_working_directory_and_zookeeper_in_the_app(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from herdmaster import Herd\nherd = Herd('127.0.0.1:1/of-the-app')\n")
    options = ["--app=shop", "--connect-timeout=0.2"]
    environment = {"HERD_ZOOKEEPER": "127.0.0.1:1/of-the-variable"}
    result = run_herd("worker", *options, folder=tmp_path, environment=environment)
    assert "connecting to 127.0.0.1:1/of-the-app\n" in result.stderr
    result = run_herd("worker", "127.0.0.1:1/given", *options, folder=tmp_path, environment=environment)
    assert "connecting to 127.0.0.1:1/given\n" in result.stderr
    result = run_herd("worker", "--connect-timeout=0.2", folder=tmp_path, environment=environment)
    assert "connecting to 127.0.0.1:1/of-the-variable\n" in result.stderr


def test_a_task_that_leaves_and_deletes_the_working_directory_harms_no_other(namespace: str, tmp_path: Path) -> None:
    (tmp_path / "later.py").write_text("answer = 42\n")
    (tmp_path / "shop.py").write_text(
        """
import os, sys, tempfile
from herdmaster import Herd
herd = Herd()
os.makedirs("lib", exist_ok=True)
with open("lib/from_lib.py", "w") as file:
    file.write("answer = 43")
sys.path.insert(0, "lib")

@herd.task
def unpack():
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)

@herd.task
def import_later():
    import from_lib, later
    return [later.answer, from_lib.answer]

@herd.task(pool="process")
def import_in_process():
    return [*import_later(), os.getcwd()]
"""
    )
    with (
        HerdProcess("master", namespace),
        HerdProcess("worker", namespace, "--app=shop", folder=tmp_path),
        Herd(namespace) as herd,
    ):
        assert herd.submit_call("shop:unpack", []).result(timeout=60) is None
        assert herd.submit_call("shop:import_later", []).result(timeout=60) == [42, 43]
        assert herd.submit_call("shop:import_in_process", []).result(timeout=60) == [42, 43, str(tmp_path)]


def test_an_app_with_a_fault_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import no_such_module_of_the_app\n")
    result = run_herd("worker", NOWHERE, "--app=shop", folder=tmp_path)
    assert result.returncode == 1
    assert "ModuleNotFoundError: No module named 'no_such_module_of_the_app'" in result.stderr


def test_a_worker_serves_the_queues_that_it_was_given(namespace: str) -> None:
    with (
        HerdProcess("master", namespace) as master,
        HerdProcess("worker", namespace, APP, "--queue=mail", "--queue=audio", "--slots=3"),
        Herd(namespace) as herd,
    ):
        assert submit_sum(herd, 2, 3, queue="mail").result(timeout=60) == 5
        (worker,) = look(namespace).workers
        assert (worker.queues, worker.slots) == (("mail", "audio"), 3)
        waiting = submit_sum(herd, 2, 3)
        master.wait_for_log("no worker serves queue default")
        assert not waiting.done()


@pytest.mark.long
def test_the_four_steps_of_the_reference_do_their_work(namespace: str) -> None:
    """A ZooKeeper, a master, two workers, a client."""
    with ExitStack() as stack:
        stack.enter_context(HerdProcess("master", namespace))
        workers = [stack.enter_context(HerdProcess("worker", namespace)) for _ in range(2)]
        result = run_herd("client", namespace)
        assert (result.returncode, result.stderr) == (0, "")
        names = [line.removesuffix(": done") for line in result.stdout.splitlines()]
        assert [name.startswith("task-") for name in names] == [True, True]
        expected = sorted([f"{names[0]}: Sample task", f"{names[1]}: Another sample task"])

        def is_printed() -> bool:  # by a thread of the worker, perhaps after the outcome
            return sorted("".join(worker.stdout for worker in workers).splitlines()) == expected

        wait_until(is_printed, f"not printed: {expected}")
