"""Which Herds a direction is for, and where it ends."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from herdmaster import ConfigurationError, Herd, HerdClosed
from herdmaster.api.direction import Target
from herdmaster.running.current import Running, running_now
from tests.api.tasks import App

ELSEWHERE = "localhost:9/elsewhere"


@pytest.mark.parametrize(
    ("hosts", "is_directed"),
    [
        ("b:1,a:2/prod", True),
        ("a:2,b:1/prod", True),
        ("b:1,a:2/other", False),
        ("b:1/prod", False),
        (None, False),
    ],
)
def test_herds_of_the_same_servers_and_namespace_are_directed_too(hosts: str | None, is_directed: bool) -> None:
    directed, other = Herd("a:2,b:1/prod"), Herd(hosts)
    own = other.hosts
    with directed.directed_to(ELSEWHERE):
        assert directed.hosts == ELSEWHERE
        assert other.hosts == (ELSEWHERE if is_directed else own)
    assert (directed.hosts, other.hosts) == ("a:2,b:1/prod", own)


def test_a_herd_that_names_what_the_variable_says_is_the_same_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERD_ZOOKEEPER", "prod:2181")
    with Herd().directed_to(ELSEWHERE):
        assert Herd("prod").hosts == ELSEWHERE
        assert Herd("staging").hosts == "staging"


def test_each_of_two_herds_of_one_deployment_goes_where_it_was_directed() -> None:
    first, second, third = Herd("prod"), Herd("prod"), Herd("prod")
    with ExitStack() as stack:
        stack.enter_context(first.directed_to("localhost:1"))
        with second.directed_to("localhost:2"):
            assert (first.hosts, second.hosts, third.hosts) == ("localhost:1", "localhost:2", "localhost:2")
        assert (first.hosts, second.hosts, third.hosts) == ("localhost:1", "localhost:1", "localhost:1")
        with first.directed_to("localhost:3"):
            assert first.hosts == "localhost:3"
        assert first.hosts == "localhost:1"
    assert first.hosts == "prod"


def test_directions_may_end_in_any_order() -> None:
    herd = Herd("prod")
    end_first, end_second = (herd._core.direct_to(Target(hosts), None) for hosts in ("localhost:1", "localhost:2"))
    end_first()
    assert herd.hosts == "localhost:2"
    end_second()
    assert herd.hosts == "prod"
    assert "HERD_DIRECTIONS" not in os.environ


@pytest.mark.long
def test_a_process_that_is_started_meanwhile_directs_each_herd_alike(tmp_path: Path) -> None:
    (tmp_path / "herds_of_two.py").write_text(
        "from herdmaster import Herd\nfirst, second, third = Herd('prod'), Herd('prod'), Herd('other')\n"
        "class Inner:\n    herd = Herd('prod')\n"
    )
    program = """
import sys, json, subprocess
sys.path.insert(0, sys.argv[1])
import herds_of_two as app
child = "import sys; sys.path.insert(0, sys.argv[1]); import json, herds_of_two as app;" + (
    "print(json.dumps([each.hosts for each in (app.first, app.second, app.third, app.Inner.herd)]))"
)
def look():
    print(subprocess.run([sys.executable, "-c", child, sys.argv[1]], text=True, capture_output=True).stdout, end="")
with app.first.directed_to("localhost:1"), app.second.directed_to("localhost:2"):
    look()
look()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=50
    )
    during, after = map(json.loads, ended.stdout.splitlines())
    assert during == ["localhost:1", "localhost:2", "other", "localhost:2"]
    assert after == ["prod", "prod", "other", "prod"]


@pytest.mark.long
def test_a_variable_that_holds_something_else_is_refused() -> None:
    program = (
        "from herdmaster import Herd, ConfigurationError\ntry: Herd().hosts\nexcept ConfigurationError as e: print(e)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, timeout=50, env={**os.environ, "HERD_DIRECTIONS": "prod:2181"},
    )  # fmt: skip
    assert ended.stdout.startswith("$HERD_DIRECTIONS does not hold what Herdmaster writes there")


def test_a_task_that_outlives_its_worker_may_not_use_the_first_servers(nowhere: Herd) -> None:
    """Its thread cannot be ended. What it submits then must not go where the test may not write."""
    gate, told = threading.Event(), list[object]()

    def run() -> None:
        running_now.set(cast("Running", SimpleNamespace(name="task-1", started=time.time_ns() // 1_000_000)))
        gate.wait(20)
        try:
            nowhere.submit_raw(b"late")
        except HerdClosed as error:
            told.append(str(error))

    thread = threading.Thread(target=run)
    with nowhere.directed_to("127.0.0.1:9"):
        thread.start()
    gate.set()
    thread.join(20)
    assert told == [
        f"task-1 outlived the worker that ran it, which was directed elsewhere: it may not use {nowhere.hosts}"
    ]


@pytest.mark.long
def test_what_another_herd_of_the_deployment_has_open_moves_too(
    served: str, namespace: str, make_herd: Callable[..., Herd]
) -> None:
    one, other = App(make_herd(served)), App(make_herd(served))
    assert other.add.submit(2, 3).result(20) == 5
    with one.herd.directed_to(namespace):
        waiting = other.add.submit(2, 3)
        assert other.herd.find(waiting.name) is not None
    with pytest.raises(HerdClosed):
        waiting.result(10)
    assert other.add.submit(2, 3).result(20) == 5


def test_a_direction_to_no_connect_string_is_refused() -> None:
    herd = Herd("prod")
    with pytest.raises(ValueError, match="connect string"), herd.directed_to("/x"):
        pass
    assert herd.hosts == "prod"
    assert issubclass(ConfigurationError, ValueError)
