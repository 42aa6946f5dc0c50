"""The pytest plugin, in pytest runs of its own, as users have it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.long

pytest_plugins = ("pytester",)

TASKS = """
from herdmaster import Herd

herd = Herd("nowhere.invalid:2181/prod")

@herd.task(queue="mail")
def add(x: int, y: int) -> int:
    return x + y
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(tasks=TASKS)
    return pytester


def run(project: pytest.Pytester, **modules: str) -> pytest.RunResult:
    project.makepyfile(**modules)
    # Without what the plugins of this very run would have to say about each other's settings.
    return project.runpytest_subprocess("-q", "-p", "no:cacheprovider", "-p", "no:asyncio")


def test_a_module_level_herd_is_directed_to_the_embedded_server(project: pytest.Pytester) -> None:
    result = run(
        project,
        test_tasks="""
        import tasks

        def test_adding(herd_worker):
            with herd_worker(tasks.herd):
                assert tasks.add.submit(2, 3).result(20) == 5
            assert tasks.herd.hosts == "nowhere.invalid:2181/prod"

        def test_adding_again(herd_worker):
            with herd_worker(tasks.herd, slots=2, masters=2, workers=2, session_timeout=1.0):
                assert sum(tasks.add.map(range(100), range(100))) == 9900
        """,
    )
    result.assert_outcomes(passed=2)


def test_hooks_and_tasks_in_processes_and_in_loops_run_as_in_a_real_worker(project: pytest.Pytester) -> None:
    result = run(
        project,
        app="""
        import os
        from herdmaster import Herd

        herd = Herd("nowhere.invalid:2181/prod")
        seen = []
        herd.on_worker_start(lambda: seen.append("start"))
        herd.after_task(lambda task, result: seen.append(result))

        @herd.task(pool="process")
        def pid() -> int:
            return os.getpid()

        @herd.task
        async def double(x: int) -> int:
            return 2 * x
        """,
        test_app="""
        import os
        import app

        def test_everywhere(herd_worker):
            with herd_worker(app.herd):
                assert app.pid.submit().result(30) != os.getpid()
                assert app.double.submit(2).result(30) == 4
            assert app.seen == ["start", 4]
        """,
    )
    result.assert_outcomes(passed=1)


def test_each_test_has_an_empty_server(project: pytest.Pytester) -> None:
    result = run(
        project,
        test_server="""
        import asyncio
        import pytest
        from herdmaster.zookeeper.client import Client

        @pytest.mark.parametrize("number", range(2))
        def test_nothing_is_there(herd_zookeeper, number):
            async def look():
                async with Client(herd_zookeeper.hosts) as client:
                    assert await client.exists("/left") is None
                    await client.create("/left")
            asyncio.run(look())
        """,
    )
    result.assert_outcomes(passed=2)


def test_a_failing_test_still_ends_its_master_and_worker(project: pytest.Pytester) -> None:
    result = run(
        project,
        test_failure="""
        import threading
        import tasks

        def test_failing(herd_worker):
            with herd_worker(tasks.herd):
                raise ValueError("on purpose")

        def test_afterwards():
            assert not [each.name for each in threading.enumerate() if each.name.startswith("herdmaster-roles")]
        """,
    )
    result.assert_outcomes(passed=1, failed=1)


def test_what_is_no_herd_is_refused_with_what_to_give(project: pytest.Pytester) -> None:
    result = run(
        project,
        nothing="",
        test_mistakes="""
        import re
        import nothing
        import pytest
        import tasks

        @pytest.mark.parametrize(("given", "told"), [
            (tasks, "not the module tasks: give tasks.herd"),
            (nothing, "not the module nothing: give its Herd, but it has none"),
            ("tasks", "not 'tasks': import the module that has the Herd, and give that, as in tasks.herd"),
            ("tasks:app", "not 'tasks:app': import the module that has the Herd, and give that, as in tasks.app"),
            (None, "not None: give the Herd that the tasks belong to"),
        ])
        def test_a_mistake(herd_worker, given, told):
            with pytest.raises(TypeError, match=re.escape(f"herd_worker takes a Herd, {told}")):
                with herd_worker(given):
                    pass

        @pytest.mark.parametrize("name", ["masters", "workers"])
        def test_a_number(herd_worker, name):
            with pytest.raises(ValueError, match=f"{name} is -1: it takes a whole number from 0"):
                with herd_worker(tasks.herd, **{name: -1}):
                    pass
        """,
    )
    result.assert_outcomes(passed=7)


def test_the_primary_and_the_workers_are_found_by_what_herd_worker_gives(project: pytest.Pytester) -> None:
    result = run(
        project,
        test_faults="""
        import tasks

        def test_a_killed_worker(herd_worker, herd_zookeeper):
            with herd_worker(tasks.herd) as hosts:
                lost = herd_zookeeper.kill_worker(hosts)
                assert tasks.add.submit(2, 3).result(20) == 5
                assert lost not in herd_zookeeper.worker_sessions(hosts)

        def test_an_expired_session(herd_worker, herd_zookeeper):
            with herd_worker(tasks.herd, workers=2) as hosts:
                before = herd_zookeeper.worker_sessions(hosts, least=2)
                first, second = before
                herd_zookeeper.expire(before[second])
                after = herd_zookeeper.worker_sessions(hosts, least=2)
                assert after[first] == before[first] and second not in after

        def test_a_killed_primary(herd_worker, herd_zookeeper):
            with herd_worker(tasks.herd, masters=2, session_timeout=1.0) as hosts:
                herd_zookeeper.kill_primary(hosts)
                assert tasks.add.submit(2, 3).result(20) == 5
        """,
    )
    result.assert_outcomes(passed=3)


def test_a_mistake_in_selects_fails_the_test_at_the_end_of_its_worker(project: pytest.Pytester) -> None:
    result = run(
        project,
        test_mistake="""
        import pytest
        import tasks

        def test_misspelt(herd_worker, herd_zookeeper):
            with pytest.raises(AttributeError, match="pth") as caught:
                with herd_worker(tasks.herd):
                    herd_zookeeper.drop_before(lambda request: request.pth == "/x")
                    assert tasks.add.submit(2, 3).result(20) == 5
            assert "the fault is removed" in caught.value.__notes__[0]

        def test_no_path(herd_worker, herd_zookeeper):
            with herd_worker(tasks.herd):
                herd_zookeeper.drop_before(lambda request: request.path == "/x")
                assert tasks.add.submit(2, 3).result(20) == 5
        """,
    )
    result.assert_outcomes(passed=2)
    assert "Fatal error" not in str(result.stdout) + str(result.stderr)


def test_the_plugin_costs_other_projects_no_imports() -> None:
    code = "import sys, herdmaster.testing.pytest_plugin; print(sorted(m for m in sys.modules if 'herdmaster' in m))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "herdmaster.roles" not in printed
    assert "herdmaster.zookeeper" not in printed
    assert "herdmaster.api" not in printed
