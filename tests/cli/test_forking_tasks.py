"""Tasks whose code forks, in a real worker."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster.api import Herd
from tests.cli.processes import HerdProcess, wait_until
from tests.pools.process_setting import children, command, is_alive

pytestmark = pytest.mark.long

POOLS = ("thread", "process", "coroutine")


class Crew:
    def __init__(self, herd: Herd, worker: HerdProcess) -> None:
        self.herd = herd
        self.worker = worker

    def submit(self, task: str, *args: object) -> object:
        return self.herd.submit_call(f"tests.cli.forking_app:{task}", list(args))

    def run(self, task: str, *args: object) -> object:
        return self.herd.submit_call(f"tests.cli.forking_app:{task}", list(args)).result(timeout=60)


@pytest.fixture
def crew(namespace: str) -> Iterator[Crew]:
    with (
        HerdProcess("master", namespace),
        HerdProcess("worker", namespace, "--app=tests.cli.forking_app", "--processes=1") as worker,
        Herd(namespace) as herd,
    ):
        yield Crew(herd, worker)


def test_a_forked_child_that_returns_from_a_task_ends_and_results_stay_with_their_tasks(
    crew: Crew, tmp_path: Path
) -> None:
    crew.submit("step", str(tmp_path / "steps"), 500)
    wanted = {"returns": 0, "exits": 3, "raises": 1}
    for pool in POOLS:
        for how, code in wanted.items():
            assert crew.run(f"fork_in_{pool}", how) == code, (pool, how)
            assert crew.run("double", 7) == 14
    assert crew.run("fork_in_coroutine", "awaits") == 1
    # What a process of the pool prints comes through a pipe, and may be logged after its result.
    crew.worker.wait_for_log("cannot await in the loop of its parent")
    wait_until(lambda: crew.worker.stderr.count("LookupError: in the child") >= len(POOLS), "an error is not told")
    assert crew.worker.stderr.count("LookupError: in the child") == len(POOLS)

    steps = wait_until(lambda: _lines(tmp_path / "steps", 500), "the other coroutine has not ended")
    assert set(steps) == {str(crew.worker.pid)}, "a child ran a step of a coroutine that was not its own"
    wait_until(lambda: len(children(crew.worker.pid)) == 2, "children are left beside the pool's and the guardian")


def test_the_standard_librarys_processes_work_in_every_pool_and_do_not_stop_the_worker(crew: Crew) -> None:
    wanted = {"pool": [0, 1, 4], "executor": [0, 1, 4], "terminate": -signal.SIGTERM, "subprocess": -signal.SIGTERM}
    for pool in POOLS:
        for what, result in wanted.items():
            assert crew.run(f"use_in_{pool}", what) == result, (pool, what)
    assert crew.run("double", 7) == 14
    assert "stopping" not in crew.worker.stderr


def test_a_child_that_lives_on_keeps_nothing_of_the_workers_open(crew: Crew, tmp_path: Path) -> None:
    assert crew.run("double", 7) == 14
    stop = tmp_path / "stop"
    child = crew.run("leave_a_child", str(stop))
    assert isinstance(child, int)
    try:
        (guardian,) = (pid for pid in children(crew.worker.pid) if command(pid) == "sh")
        tcp = {f"socket:[{line.split()[9]}]" for line in _tcp_lines()}
        of_worker, of_child = _descriptors(crew.worker.pid), _descriptors(child)
        assert of_worker & tcp, "its session"
        assert not of_child & tcp
        pipe = str(Path(f"/proc/{guardian}/fd/0").readlink())
        assert pipe in of_worker
        assert pipe not in of_child
        crew.worker.kill()
        wait_until(lambda: not is_alive(guardian), "the guardian has not noticed the worker's end")
        assert is_alive(child)
    finally:
        stop.touch()
        wait_until(lambda: not is_alive(child), "the child has not ended")


def _lines(file: Path, least: int) -> list[str] | None:
    lines = file.read_text().splitlines() if file.exists() else []
    return lines if len(lines) >= least else None


def _tcp_lines() -> list[str]:
    files = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    return [line for file in files if file.exists() for line in file.read_text().splitlines()[1:]]


def _descriptors(pid: int) -> set[str]:
    return {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
