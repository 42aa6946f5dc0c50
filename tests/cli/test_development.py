"""`herd dev` as a process: server, master and worker in one terminal, and how they end together."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from herdmaster.api import Future, Herd
from herdmaster.testing.ports import LOOPBACK, free_ports
from tests.cli.processes import HerdProcess, connect, run_herd, wait_until
from tests.pools.process_setting import is_alive

pytestmark = pytest.mark.long

APP = "--app=tests.cli.app"


def hosts_of(dev: HerdProcess) -> str:
    """Of one that was started with `--port=0`."""
    found = re.search(r"INFO zookeeper: serving on ([^,]+), ", dev.wait_for_log("serving on"))
    assert found is not None
    return found[1]


@contextmanager
def running_task(dev: HerdProcess, folder: Path) -> Iterator[Future[str]]:
    """A task that runs until `folder/go-on` is there."""
    with Herd(hosts_of(dev)) as herd:
        future: Future[str] = herd.submit_call("tests.cli.app:wait_for", [str(folder / "on"), str(folder / "go-on")])
        wait_until((folder / "on").exists, "the task did not start")
        yield future


def test_each_line_of_the_log_names_its_role() -> None:
    with HerdProcess("dev", APP, "--port=0", "--slots=3") as dev:
        assert hosts_of(dev).startswith(f"{LOOPBACK}:")
        assert "in memory: lost when it stops;" in dev.wait_for_log(" INFO zookeeper: serving on ")
        dev.wait_for_log(" INFO master: elected: master-")
        assert " INFO worker: worker-" in dev.wait_for_log("is ready: 3 slots, queues default")


def test_a_program_has_its_tasks_run_there() -> None:
    with HerdProcess("dev", APP, "--port=0") as dev, Herd(hosts_of(dev)) as herd:
        assert herd.submit_call("tests.cli.app:add", [2, 3]).result(timeout=60) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_lets_what_runs_end(number: signal.Signals, tmp_path: Path) -> None:
    data = f"--data-dir={tmp_path / 'data'}"
    with HerdProcess("dev", APP, "--port=0", data) as dev:
        with running_task(dev, tmp_path) as future:
            name = future.name
        dev.send(number)
        dev.wait_for_log(f" INFO dev: stopping; a second {number.name} stops at once")
        dev.wait_for_log(" drains: 1 task")
        (tmp_path / "go-on").touch()
        assert dev.wait() == 0
        assert re.search(r" INFO worker: worker-\S+ has drained\n", dev.stderr)
        assert "Traceback" not in dev.stderr
    with HerdProcess("zookeeper", "--port=0", data) as server, connect(hosts_of(server)) as client:
        assert b"went on" in client.get(f"/status/{name}")[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_waits_for_nothing(number: signal.Signals, code: int, tmp_path: Path) -> None:
    with HerdProcess("dev", APP, "--port=0") as dev, running_task(dev, tmp_path):
        dev.send(number)
        dev.wait_for_log("drains: 1 task")
        dev.send(number)
        assert dev.wait() == code
        assert " WARNING dev: stopping at once" in dev.stderr
        assert "Traceback" not in dev.stderr


def test_a_task_that_was_left_waiting_is_run_after_the_next_start_with_the_same_data(tmp_path: Path) -> None:
    data = f"--data-dir={tmp_path / 'data'}"
    with HerdProcess("dev", APP, "--port=0", "--slots=1", data) as dev, running_task(dev, tmp_path):
        dev.send(signal.SIGINT)
        dev.wait_for_log("drains: 1 task")
        dev.send(signal.SIGINT)
        assert dev.wait() == 130
    (tmp_path / "on").unlink()
    (tmp_path / "go-on").touch()
    with HerdProcess("dev", APP, "--port=0", data) as dev:
        dev.wait_for_log(f", data in {tmp_path / 'data'};")
        # The worker ended its session, so no role waits for its timeout of ten seconds.
        wait_until((tmp_path / "on").exists, "the task was not run again", timeout=8)


def test_a_child_that_a_task_has_left_keeps_neither_the_port_nor_the_data_directory(tmp_path: Path) -> None:
    app, data, stop = "--app=tests.cli.forking_app", f"--data-dir={tmp_path / 'data'}", tmp_path / "stop"
    (port,) = free_ports(1)  # one that the kernel gives to no other connection when it is free again
    with HerdProcess("dev", app, f"--port={port}", data) as dev, Herd(hosts_of(dev)) as herd:
        hosts = hosts_of(dev)
        child: object = herd.submit_call("tests.cli.forking_app:leave_a_child", [str(stop)]).result(timeout=60)
        assert isinstance(child, int)
        dev.kill()
    try:
        with HerdProcess("dev", app, f"--port={port}", data) as dev:
            assert hosts_of(dev) == hosts
        assert is_alive(child)
    finally:
        stop.touch()
        wait_until(lambda: not is_alive(child), "the child has not ended")


def test_a_port_in_use_is_told_in_one_line() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        result = run_herd("dev", APP, f"--port={port}")
    assert result.returncode == 1
    assert result.stderr == (
        f"herd dev: cannot listen on {LOOPBACK}:{port}: another process uses the port; choose another with --port\n"
    )


def test_a_damaged_data_directory_is_told_in_one_line(tmp_path: Path) -> None:
    with HerdProcess("dev", APP, "--port=0", f"--data-dir={tmp_path}") as dev:
        dev.wait_for_log("is ready")
        dev.send(signal.SIGINT)
        assert dev.wait() == 0
    for snapshot in tmp_path.glob("snapshot.*"):
        snapshot.write_bytes(snapshot.read_bytes()[:40])
    result = run_herd("dev", APP, "--port=0", f"--data-dir={tmp_path}")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert re.match(rf"herd dev: the journal is damaged: {re.escape(str(tmp_path))}/\S+ at offset \d+: ", line)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def area(:\n", "shop.py, line 1: SyntaxError: invalid syntax: def area(:"),
        ("x = 1\n  y = 2\n", "shop.py, line 2: IndentationError: unexpected indent: y = 2"),
    ],
)
def test_an_app_that_is_no_python_is_told_in_one_line(source: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(source)
    (tmp_path / "uses_shop.py").write_text("import shop\n")
    for app in ("shop", "uses_shop"):
        result = run_herd("dev", f"--app={app}", "--port=0", folder=tmp_path)
        assert result.returncode == 1
        assert result.stderr == f"herd dev: {tmp_path}/{told}\n"
    result = run_herd("worker", "127.0.0.1:1", "--app=shop", folder=tmp_path)
    assert (result.returncode, result.stderr) == (1, f"herd worker: {tmp_path}/{told}\n")


def test_a_syntax_error_of_code_that_the_app_compiles_itself_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("exec('a b')\n")
    result = run_herd("dev", "--app=shop", "--port=0", folder=tmp_path)
    assert result.returncode == 1
    assert 'shop.py", line 1, in <module>' in result.stderr
    assert result.stderr.endswith("SyntaxError: invalid syntax\n")
