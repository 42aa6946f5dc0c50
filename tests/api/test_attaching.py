"""Waiting for a task by its name, here or in another process."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from herdmaster import Herd, InvalidName, OutcomeGone
from tests.api import tasks
from tests.api.tasks import App
from tests.api.znodes import Znodes, wait_until


def test_a_dropped_future_leaves_its_status_for_a_process_that_attaches(
    app: App, served: str, znodes: Callable[[str], Znodes]
) -> None:
    name = app.add.submit(2, 3).name
    gc.collect()

    wait_until(lambda: znodes(served).has(f"status/{name}"), "it has run")
    assert app.add.submit(1, 1).result(10) == 2  # whatever was on its way has arrived
    assert znodes(served).has(f"status/{name}")
    assert app.herd.future(name).result(10) == 5


def test_another_process_attaches_by_name(app: App, served: str, gate: str) -> None:
    future = app.wait.submit(gate)
    name = future.name
    del future
    gc.collect()
    program = (
        "import sys; from herdmaster import Herd\n"
        "with Herd(sys.argv[1]) as herd:\n"
        "    future = herd.future(sys.argv[2])\n"
        "    print('attached', flush=True)\n"
        "    print(future.result(20))\n"
    )

    with subprocess.Popen([sys.executable, "-c", program, served, name], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "attached\n"
        tasks.gates[gate].set()
        assert process.stdout.readline() == f"{gate}\n"
    assert process.returncode == 0


def test_attaching_finds_an_outcome_that_came_before(app: App, served: str) -> None:
    name = app.echo.submit({"a": [1]}).name
    gc.collect()

    with Herd(served, session_timeout=2.0) as other:
        assert other.future(name).result(20) == {"a": [1]}


def test_attaching_to_what_was_collected_says_that_it_is_gone(app: App) -> None:
    future = app.add.submit(2, 3)
    assert future.result(10) == 5

    with pytest.raises(OutcomeGone, match="no such task waits or runs, and no outcome is kept"):
        app.herd.future(future.name).result(20)


def test_attaching_to_what_never_was_says_that_it_is_gone(app: App) -> None:
    with pytest.raises(OutcomeGone, match="task-nothing"):
        app.herd.future("task-nothing").result(20)


def test_attaching_takes_only_names_of_tasks(app: App) -> None:
    with pytest.raises(InvalidName, match=r"it is what `future\.name` gave"):
        app.herd.future("resize")
    assert app.herd._core._io_thread is None


def test_attaching_to_what_this_herd_waits_for_already_gives_the_same_future(app: App, gate: str) -> None:
    future = app.wait.submit(gate)

    assert app.herd.future(future.name) is future
    tasks.gates[gate].set()
    assert future.result(10) == gate


def test_attaching_at_once_after_dropping_the_first_future_still_gets_the_outcome(app: App, gate: str) -> None:
    """The first future is forgotten only later; that must not forget the second one."""
    for _ in range(8):
        future = app.wait.submit(gate)
        name = future.name
        del future
        again = app.herd.future(name)
        tasks.gates[gate].set()
        assert again.result(10) == gate
        tasks.gates[gate].clear()


def test_all_herds_that_wait_for_one_task_get_its_result(
    app: App, served: str, znodes: Callable[[str], Znodes], gate: str
) -> None:
    future = app.wait.submit(gate)
    with Herd(served, session_timeout=2.0) as second, Herd(served, session_timeout=2.0) as third:
        attached = [second.future(future.name), third.future(future.name)]
        wait_until(lambda: len(znodes(served).children(f"waiters/{future.name}")) == 2, "both are known to wait")
        tasks.gates[gate].set()

        assert future.result(20) == gate
        assert [each.result(20) for each in attached] == [gate, gate]


def test_a_name_is_json_so_it_can_be_handed_on(app: App, gate: str) -> None:
    future = app.wait.submit(gate)
    again = app.herd.future(json.loads(json.dumps(future.name)))
    tasks.gates[gate].set()

    assert again.result(10) == gate
