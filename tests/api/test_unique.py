"""Unique tasks: while a task or its outcome holds a key, a submission with the same key gives the same future."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from herdmaster import ConfigurationError, DuplicateTask, Future, Herd, OutcomeGone
from herdmaster.core.keys import hash_key
from herdmaster.testing.child_server import ChildServer
from tests.api import tasks
from tests.api.conftest import run_roles
from tests.api.proxy import Proxy
from tests.api.tasks import App
from tests.api.znodes import Znodes, expire, session_of, wait_until

pytestmark = pytest.mark.long


def test_a_second_submission_with_the_same_key_gives_the_same_future(app: App, gate: str) -> None:
    task = app.wait.options(key=gate)
    future = task.submit(gate)

    assert task.submit(gate) is future
    assert (
        app.herd._core.begin_task(task._core.callee(), (gate,), {}, task._core.options).name != future.name
    )  # not known yet
    tasks.gates[gate].set()
    assert future.result(30) == gate


async def test_so_it_is_in_a_loop(app: App, gate: str) -> None:
    task = app.wait.options(key=gate)
    future = await task.submit_async(gate)

    assert await task.submit_async(gate) is future
    tasks.gates[gate].set()
    assert await future == gate


def test_an_outcome_keeps_its_key_and_is_there_for_all_who_come_later(
    app: App, served: str, make_herd: Callable[..., Herd], gate: str
) -> None:
    task = app.count.options(key=gate)
    first = task.submit(gate)
    assert first.result(30) == gate
    name = first.name
    del first
    gc.collect()

    assert task.submit(gate).name == name
    assert task.submit(gate).result(30) == gate
    other = App(make_herd(served)).count.options(key=gate).submit(gate)
    assert (other.name, other.result(30)) == (name, gate)
    assert tasks.executions[gate] == 1


def test_a_duplicate_may_be_an_error_that_names_the_other_task(app: App, gate: str) -> None:
    task = app.wait.options(key=gate, on_duplicate="error")
    future = task.submit(gate)

    with pytest.raises(DuplicateTask, match=r"holds the same key: wait for it with herd\.future") as caught:
        task.submit(gate)
    assert caught.value.name == future.name
    begun: Future[str] = app.herd._core.begin_task(task._core.callee(), (gate,), {}, task._core.options)
    assert isinstance(begun.exception(30), DuplicateTask)
    assert app.herd.future(caught.value.name) is future


def test_a_key_may_be_made_of_the_arguments(app: App, gate: str) -> None:
    task = app.echo_all.options(key=lambda item, *, scale=1: f"{gate}-{item}-{scale}")
    one, same, other = task.submit("a", scale=2), task.submit("a", scale=2), task.submit("a")

    assert one.name == same.name
    assert other.name != one.name
    assert same.result(30) == [["a"], {"scale": 2}]


def test_what_a_key_function_returns_has_to_be_text(quiet: App) -> None:
    with pytest.raises(ConfigurationError, match=r"key= returned 5: it returns text that is not empty"):
        quiet.echo.options(key=lambda value: value).submit(5)
    with pytest.raises(ZeroDivisionError):
        quiet.echo.options(key=lambda value: str(1 / value)).submit(0)
    assert quiet.herd._core._io_thread is None


def test_a_map_runs_each_key_once_and_gives_every_item_its_result(app: App, gate: str) -> None:
    task = app.count.options(key=lambda item: item)
    items = [f"{gate}-{number % 7}" for number in range(200)]

    assert list(task.map(items, window=100, timeout=30)) == items
    assert {tasks.executions[item] for item in items} == {1}


def test_a_key_is_free_again_when_its_outcome_is_gone(
    app: App, served: str, znodes: Callable[[str], Znodes], gate: str
) -> None:
    task = app.count.options(key=gate)
    first = task.submit(gate)
    assert first.result(30) == gate
    znodes(served).delete(f"status/{first.name}")
    znodes(served).delete(f"keys/{hash_key(gate, task.call)}")

    second = task.submit(gate)
    assert second.name != first.name
    assert second.result(30) == gate


def test_each_function_has_keys_of_its_own_unless_told_otherwise(app: App, gate: str) -> None:
    one, other = app.count.options(key=gate), app.echo_all.options(key=gate)
    assert one.submit(gate).name != other.submit(gate).name

    one, other = one.options(key_scope="global"), other.options(key_scope="global")
    first = one.submit(gate)
    assert other.submit(gate).name == first.name


def test_a_task_that_failed_does_not_keep_its_key_unless_it_is_to(app: App, gate: str) -> None:
    mended = app.fail_until_mended.options(key=gate)
    first = mended.submit(gate)
    with pytest.raises(LookupError):
        first.result(30)
    tasks.mended.add(gate)
    second = mended.submit(gate)
    assert (second.name != first.name, second.result(30)) == (True, gate)

    tasks.mended.discard(gate)
    always = mended.options(key=f"{gate} always", key_holds="always")
    failed = always.submit(gate)
    with pytest.raises(LookupError):
        failed.result(30)
    tasks.mended.add(gate)
    assert always.submit(gate).name == failed.name


def test_those_that_got_the_future_of_a_task_by_its_key_get_its_failure_as_well(
    app: App, served: str, make_herd: Callable[..., Herd], gate: str
) -> None:
    failing = app.wait_and_fail.options(key=gate)
    first = failing.submit(gate)
    second = App(make_herd(served)).wait_and_fail.options(key=gate).submit(gate)
    assert second.name == first.name
    tasks.gates[gate].set()

    for future in (first, second):
        with pytest.raises(LookupError):
            future.result(30)


def test_a_released_key_makes_the_next_submission_a_task(app: App, gate: str) -> None:
    task = app.wait.options(key=gate)
    first = task.submit(gate)
    assert app.herd.release_key(gate) is None  # of the namespace
    assert app.herd.release_key(gate, task) == first.name
    assert app.herd.release_key(gate, task.call) is None
    second = task.submit(gate)
    assert second.name != first.name
    tasks.gates[gate].set()

    assert (first.result(30), second.result(30)) == (gate, gate)
    assert task.submit(gate).name == second.name


async def test_a_key_is_released_in_a_loop_as_well(app: App, gate: str) -> None:
    task = app.count.options(key=gate, key_scope="global")
    first = await task.submit_async(gate)
    with pytest.raises(RuntimeError, match="await release_key_async"):
        app.herd.release_key(gate)
    assert await app.herd.release_key_async(gate) == first.name


def test_what_is_no_key_or_call_is_not_released(quiet: App) -> None:
    with pytest.raises(ConfigurationError, match="'' is no key"):
        quiet.herd.release_key("")
    with pytest.raises(ConfigurationError, match="no call"):
        quiet.herd.release_key("k", "no call")
    with pytest.raises(ConfigurationError, match="key_scope='queue'"):
        quiet.echo.options(key="k", key_scope="queue")  # type: ignore[arg-type]  # the mistake that is shown
    assert quiet.herd._core._io_thread is None


RACER = """\
import sys
import threading
from herdmaster import Herd

hosts, key, times = sys.argv[1:]
with Herd(hosts, session_timeout=2.0) as herd:
    herd.future("task-nothing")  # so that there is a session
    print("ready", flush=True)
    sys.stdin.readline()
    names = set()
    for number in range(int(times)):
        future = herd.submit_call("tests.api.tasks:count", [f"{key}-{number}"], key=f"{key}-{number}")
        print(future.name, future.result(30), flush=True)
"""


def test_processes_that_race_with_the_same_keys_run_each_task_once(served: str, app: App, gate: str) -> None:
    times = 20
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, served, gate, str(times)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    told: list[list[str]] = []
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        output, _ = racer.communicate(timeout=50)
        assert racer.returncode == 0
        told.append(output.splitlines())

    assert told[0] == told[1] == told[2]
    assert len(set(told[0])) == times
    assert [tasks.executions[f"{gate}-{number}"] for number in range(times)] == [1] * times


def test_each_key_is_run_once_while_sessions_expire(
    app: App, shared_zookeeper: ChildServer, served: str, make_herd: Callable[..., Herd], gate: str
) -> None:
    other = App(make_herd(served))
    keys = [f"{gate}-{number}" for number in range(60)]
    assert app.add.submit(1, 1).result(30) == 2

    def submit_all(each: App) -> list[str]:
        task = each.count.options(key=lambda item: item)
        return [task.submit(key).result(30) for key in keys]

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(submit_all, each) for each in (app, other)]
        for _ in range(4):
            expire(shared_zookeeper.hosts, session_of(app.herd))
            wait_until(
                lambda: app.herd._core.started()._client.outcomes._client is not None, "there is a session again"
            )
        assert [each.result(50) for each in running] == [keys, keys]
    assert [tasks.executions[key] for key in keys] == [1] * len(keys)


def test_a_key_outlives_the_death_of_a_primary(
    namespace: str, quiet: App, make_herd: Callable[..., Herd], gate: str
) -> None:
    with run_roles(namespace):
        task = quiet.wait.options(key=gate)
        first = task.submit(gate)
        assert tasks.reached[gate].wait(30)
    other = App(make_herd(namespace))
    second = other.wait.options(key=gate).submit(gate)
    assert second.name == first.name
    tasks.gates[gate].set()
    with run_roles(namespace):
        assert first.result(30) == gate
        assert second.result(30) == gate


def test_a_duplicate_with_an_ignored_result_does_not_wait(app: App, gate: str) -> None:
    task = app.wait.options(key=gate, ignore_result=True)
    first = task.submit(gate)
    second = task.submit(gate)
    begun: Future[str] = app.herd._core.begin_task(task._core.callee(), (gate,), {}, task._core.options)

    assert second.name == first.name
    for future in (first, second, begun):
        assert isinstance(future.exception(30), OutcomeGone)
    assert begun.name == first.name


def test_each_key_is_run_once_while_connections_are_cut(
    shared_zookeeper: ChildServer, served: str, make_herd: Callable[..., Herd], gate: str
) -> None:
    keys = [f"{gate}-{number}" for number in range(100)]
    stop = threading.Event()
    with Proxy(shared_zookeeper.hosts) as proxy:
        hosts = proxy.hosts + served[served.index("/") :]
        herds = [App(make_herd(hosts)) for _ in range(2)]

        def cut_often() -> None:
            pause = 0.1
            while not stop.wait(pause):
                proxy.cut()
                pause *= 1.1  # at a fixed pace a slow machine would get no request through

        def run_all(app: App) -> list[str]:
            return list(app.count.options(key=lambda item: item).map(keys, window=20, timeout=40))

        cutting = threading.Thread(target=cut_often)
        cutting.start()
        try:
            with ThreadPoolExecutor(2) as threads:
                assert list(threads.map(run_all, herds)) == [keys, keys]
        finally:
            stop.set()
            cutting.join()
        assert proxy.connections > 2
        for app in herds:
            app.herd.close()
    assert [tasks.executions[key] for key in keys] == [1] * len(keys)
