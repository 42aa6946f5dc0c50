"""How the processes of a pool begin and end, together with those around them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from herdmaster.pools.folder import Folder
from herdmaster.pools.limits import Died, Limits, TimedOut
from tests.pools.conditions import until
from tests.pools.process_setting import Setting, children, command, is_alive, open_fds

pytestmark = pytest.mark.long

StartParent = Callable[[str], tuple[subprocess.Popen[str], list[int]]]


@pytest.fixture
def start_parent() -> Iterator[StartParent]:
    started: list[subprocess.Popen[str]] = []

    def start(seconds: str) -> tuple[subprocess.Popen[str], list[int]]:
        """It leads a process group, as a worker in a terminal does. And the pids of its task's family."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.pools.pool_parent", seconds],
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        started.append(process)
        assert process.stdout is not None
        return process, [int(pid) for pid in process.stdout.readline().split()]

    yield start
    for process in started:
        process.kill()
        process.communicate()


async def test_when_the_worker_is_killed_its_processes_end_and_what_their_tasks_started(
    start_parent: StartParent,
) -> None:
    parent, family = start_parent("100")
    assert len(family) == 3
    assert all(is_alive(pid) for pid in family)
    descendants = children(parent.pid)
    assert family[0] in descendants
    parent.send_signal(signal.SIGKILL)
    await until(lambda: not any(is_alive(pid) for pid in (*family, *descendants)))


async def test_when_the_worker_and_the_guardian_are_killed_its_processes_still_end(start_parent: StartParent) -> None:
    parent, family = start_parent("100")
    (guardian,) = (pid for pid in children(parent.pid) if command(pid) == "sh")
    for pid in (guardian, parent.pid):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not is_alive(family[0]))
    os.killpg(family[0], signal.SIGKILL)  # what the task had started is left alone


async def test_ctrl_c_reaches_the_worker_and_none_of_its_tasks(start_parent: StartParent, tmp_path: Path) -> None:
    parent, family = start_parent(str(tmp_path / "end"))
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "interrupted\n"
    (tmp_path / "end").touch()
    output, _ = parent.communicate(timeout=50)

    assert output.split() == ["b'done'"]
    assert parent.returncode == 0
    await until(lambda: not any(is_alive(pid) for pid in family))


async def test_what_stops_a_worker_ends_neither_its_processes_nor_the_guardian() -> None:
    """As a supervisor may send it to each process of a worker, also to one that is being started."""
    setting = Setting(1)
    setting.pool.submit(["sleep 0.5"])
    (child,) = setting.pool._starting
    guardian = setting.pool._guardian._process
    assert guardian is not None
    while "sleep 0.5" not in setting.deliveries.results:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(child.pid, number)
            guardian.send_signal(number)
        await asyncio.sleep(0.01)

    assert setting.deliveries.all == [("sleep 0.5", b"slept")]
    assert await setting.run_text("pid") == str(child.pid)
    assert guardian.poll() is None
    ended = [-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP]
    assert await setting.run_text("children_obey") == str(ended)
    setting.pool.close()


async def test_a_process_that_says_what_is_no_answer_before_it_is_ready_is_killed_and_the_reason_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setting = Setting(1)
    setting.pool.submit(["echo one"])
    (child,) = setting.pool._starting
    setting.pool._heard(child, None)
    await until(lambda: "echo one" in setting.deliveries.results)

    assert setting.deliveries.all == [
        ("echo one", Died("no process could be started for it: it sent what is no answer"))
    ]
    assert "no process of the pool can be started: it sent what is no answer; the next attempt is in" in caplog.text
    setting.pool.close()


async def test_closing_ends_what_is_idle_and_what_runs_and_leaves_nothing_behind() -> None:
    processes, fds = children(os.getpid()), open_fds()
    setting = Setting(2)
    await setting.run("sleep 0.3", "sleep 0.30")
    setting.limits = {"spin hard": Limits(hard=0.1)}
    await setting.run("spin hard", "segfault", "refuse this")
    setting.pool.submit(["start_family 60"])
    await until(lambda: setting.notes[-1:] and setting.notes[-1][0] == "start_family 60")
    family = [int(pid) for pid in setting.notes[-1][1].split()]
    await setting.run("echo idle")
    delivered = len(setting.deliveries.all)
    setting.pool.close()
    await until(lambda: not any(is_alive(pid) for pid in family))
    await until(lambda: children(os.getpid()) <= processes)
    await until(lambda: open_fds() <= fds)

    assert len(setting.deliveries.all) == delivered


async def test_closing_before_the_first_process_is_ready_leaves_nothing_behind() -> None:
    processes, fds = children(os.getpid()), open_fds()
    setting = Setting(2)
    jobs = setting.pool.submit(["echo one", "echo two"])
    setting.pool.close()
    await until(lambda: children(os.getpid()) <= processes)
    await until(lambda: open_fds() <= fds)

    assert [job.claim() for job in jobs] == [False, False]
    assert not setting.deliveries.all


async def test_a_long_life_with_many_deaths_leaks_nothing() -> None:
    setting = Setting(1)
    await setting.run("echo warm")
    await until(lambda: not setting.pool._leaving)
    processes, fds = len(children(os.getpid())), len(open_fds())
    for number in range(5):
        await setting.run(f"exit_with {number}", "echo next")
    await until(lambda: len(children(os.getpid())) <= processes)
    await until(lambda: len(open_fds()) <= fds)
    setting.pool.close()


@pytest.mark.parametrize(
    ("handler", "argument", "words"),
    [
        (
            "tests.pools.process_code:make_handler",
            "broken",
            "tests.pools.process_code:make_handler cannot be made: LookupError: there is no such app",
        ),
        (
            "tests.missing:make_handler",
            "",
            "tests.missing:make_handler cannot be made: ModuleNotFoundError: No module named 'tests.missing'",
        ),
    ],
)
async def test_when_processes_cannot_start_the_cause_is_named_and_attempts_become_rare(
    handler: str, argument: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    setting = Setting(1, handler=handler, handler_argument=argument)
    with caplog.at_level(logging.ERROR, "herdmaster.worker"):
        setting.pool.submit(["echo one", "echo two", "echo three"])
        await until(lambda: len(setting.deliveries.all) == 3)

    assert set(setting.deliveries.results.values()) == {Died(f"no process could be started for it: {words}")}
    assert [record.getMessage() for record in caplog.records] == [
        f"no process of the pool can be started: {words}; the next attempt is in {pause:g} s"
        for pause in (0.25, 0.5, 1)
    ]
    assert setting.output[-1][:2] == (None, "stderr"), "the traceback"
    assert setting.made == []
    setting.pool.close()


async def test_a_system_that_refuses_processes_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting(1)
    with monkeypatch.context() as context:
        context.setattr(sys, "executable", "/nonexistent/python")
        assert await setting.run("echo one") == [
            Died("no process could be started for it: [Errno 2] No such file or directory: '/nonexistent/python'")
        ]
    assert await setting.run("echo two") == [b"two"]
    setting.pool.close()


async def test_processes_start_where_the_pool_was_made_whatever_became_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, elsewhere = tmp_path / "start", tmp_path / "elsewhere"
    start.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(start)
    setting = Setting(1, Limits(max_tasks=2), folder=Folder())
    monkeypatch.setattr(sys, "path", ["modules", *sys.path])
    monkeypatch.chdir(elsewhere)
    elsewhere.rmdir()

    assert await setting.run_text("where") == f"{start} {start}/modules"
    assert await setting.run_text("move /") == "/"
    assert await setting.run_text(f"move {tmp_path}") == str(tmp_path)
    assert await setting.run_text("where 2") == f"{start} {start}/modules", "a task begins where one before it has gone"
    start.rmdir()
    assert await setting.run_text("where 3") == f"/ {start}/modules"
    assert await setting.run_text("echo spent") == "spent"
    assert await setting.run_text("where 4") == f"/ {start}/modules"
    assert [record.getMessage() for record in caplog.records] == [
        f"the directory that the worker was started in, {start}, is gone: its processes start in / from now on"
    ]
    setting.pool.close()


async def test_a_killed_guardian_is_replaced() -> None:
    setting = Setting(1)
    await setting.run("echo warm")
    guardian = setting.pool._guardian._process
    assert guardian is not None
    guardian.kill()
    guardian.wait()
    await setting.run("exit_with 0", "echo next")
    assert setting.pool._guardian._process is not guardian
    setting.pool.close()


async def test_deaths_are_noticed_without_process_descriptors_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems other than Linux."""
    monkeypatch.delattr(os, "pidfd_open")
    processes = children(os.getpid())
    setting = Setting(1, limits=Limits(hard=1.0))
    assert await setting.run("exit_with 3", "spin", "echo next") == [
        Died("its process exited with code 3"),
        TimedOut(1.0),
        b"next",
    ]
    setting.pool.close()
    await until(lambda: children(os.getpid()) <= processes)
