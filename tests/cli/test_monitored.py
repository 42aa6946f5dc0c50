"""Masters and workers that are monitored, as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from herdmaster import Future, Herd
from herdmaster.api.internals import core_of
from herdmaster.cli.named_app import make_worker
from herdmaster.monitoring.metrics import Metrics
from herdmaster.roles.shared.system import System
from herdmaster.roles.worker.worker import WorkerSettings
from herdmaster.testing.ports import free_ports
from tests.cli.processes import HerdProcess, run_herd, wait_until

pytestmark = pytest.mark.long


def address_of(process: HerdProcess) -> str:
    line = process.wait_for_log("monitoring: listening on")
    return line.split()[-1]


def get(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
        body: bytes = response.read()
        return body.decode()


def sample(address: str, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(get(address, "/metrics")):
        for each in family.samples:
            if each.name == name and labels.items() <= each.labels.items():
                return float(each.value)
    return None


def until(look: Callable[[], bool], what: str) -> None:
    wait_until(lambda: True if look() else None, what)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A service manager: its socket, and the environment of the processes that it starts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        yield listening, {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}


def hear(listening: socket.socket, message: str) -> list[str]:
    """Return what was said until the message, which is the last one."""
    heard: list[str] = []
    while message not in heard:
        heard.append(listening.recv(1000).decode())
    return heard


def test_a_cluster_is_measured_from_submission_to_end(namespace: str) -> None:
    with HerdProcess("master", namespace, "--listen", ":0") as master:
        on_master = address_of(master)
        until(lambda: sample(on_master, "herd_primary") == 1, "a primary")
        with Herd(namespace) as herd:
            future: Future[int] = herd.submit_call("tests.cli.app:add", (2, 3))
            until(lambda: sample(on_master, "herd_tasks", queue="default", state="pending") == 1, "a waiting task")
            assert json.loads(get(on_master, "/scale?queue=default"))["slots_wanted"] == 1
            with HerdProcess("worker", namespace, "--app=tests.cli.app", "--listen", ":0") as worker:
                on_worker = address_of(worker)
                assert future.result(timeout=60) == 5
                runs = {"call": "tests.cli.app:add", "queue": "default", "outcome": "done"}
                until(lambda: sample(on_worker, "herd_task_runs_total", **runs) == 1, "a run")
                assert sample(on_worker, "herd_task_wait_seconds_count", queue="default") == 1
                assert (sample(on_worker, "herd_zookeeper_request_duration_seconds_count", operation="multi") or 0) > 0
                until(lambda: sample(on_master, "herd_workers", state="ready") == 1, "a ready worker")
                assert sample(on_worker, "herd_slots_busy") == 0
                assert run_herd("health", on_worker).returncode == 0
                os.kill(worker.pid, signal.SIGTERM)
                worker.wait()
            assert run_herd("health", on_worker).returncode == 1


def test_a_backup_is_ready_and_answers_how_many_slots_are_wanted(namespace: str) -> None:
    with HerdProcess("master", namespace) as primary:
        primary.wait_for_log("elected")
        with HerdProcess("master", namespace, "--listen", ":0") as backup:
            address = address_of(backup)
            backup.wait_for_log("standing by")
            assert get(address, "/readyz") == "ok\n"
            assert json.loads(get(address, "/scale")) == {"queue": None, "slots_wanted": 0}
            assert sample(address, "herd_primary") == 0


def test_a_master_without_zookeeper_is_alive_and_not_ready() -> None:
    (unused_port,) = free_ports(1)
    with HerdProcess("master", f"127.0.0.1:{unused_port}", "--listen", ":0", "--connect-timeout=60") as master:
        address = address_of(master)
        assert get(address, "/livez") == "ok\n"
        asked = run_herd("health", address)
        assert (asked.returncode, asked.stderr) == (1, "the master has no session with ZooKeeper\n")
        assert run_herd("health", address, "--live").returncode == 0
        master.send(signal.SIGKILL)
        master.wait()


def test_systemd_hears_of_the_start_of_the_loop_and_of_the_stop(
    namespace: str, manager: tuple[socket.socket, dict[str, str]]
) -> None:
    listening, environment = manager
    with HerdProcess("master", namespace, environment=environment) as master:
        before = hear(listening, "READY=1")
        assert "WATCHDOG=1" not in before[:1]
        hear(listening, "WATCHDOG=1")
        hear(listening, "WATCHDOG=1")
        master.wait_for_log("elected")
        master.send(signal.SIGTERM)
        hear(listening, "STOPPING=1")
        assert master.wait() == 0


def test_what_a_worker_starts_does_not_speak_to_systemd(
    namespace: str, manager: tuple[socket.socket, dict[str, str]], tmp_path: Path
) -> None:
    listening, environment = manager
    with (
        HerdProcess("master", namespace),
        Herd(namespace) as herd,
        HerdProcess("worker", namespace, "--app=tests.cli.app", environment=environment) as worker,
    ):
        hear(listening, "READY=1")
        sign, answer = tmp_path / "sign", tmp_path / "answer"
        future: Future[int] = herd.submit_call("tests.cli.app:wait_in_process", (str(sign), str(answer)))
        wait_until(lambda: sign.exists() or None, "the task runs")
        children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
        environments = [Path(f"/proc/{child}/environ").read_text() for child in children]
        answer.touch()
        assert future.result(timeout=60) == 1
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
    assert environments
    assert not any("NOTIFY_SOCKET" in each or "WATCHDOG" in each for each in environments)


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:1", "a..b:9100"])
def test_a_health_check_of_what_does_not_answer_fails(address: str) -> None:
    asked = run_herd("health", address)

    assert asked.returncode == (2 if address == "nowhere" else 1)
    assert address in asked.stderr


def test_a_worker_measures_the_herd_of_its_app_unless_the_app_does() -> None:
    for measured in (None, Metrics()):
        herd = Herd()
        if measured is not None:
            core_of(herd).measure(measured)
        system = System(instruments=Metrics())
        make_worker("127.0.0.1:1", "tests.cli.app:herd", herd, WorkerSettings(), system=system)
        assert core_of(herd).instruments is (measured or system.instruments)
        make_worker("127.0.0.1:1", "tests.cli.app:herd", herd, WorkerSettings(), system=System())
        assert core_of(herd).instruments is (measured or system.instruments)
