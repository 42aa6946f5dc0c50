"""A lost connection is never the last that the log says of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest

from herdmaster.core import layout
from herdmaster.roles.shared.connection_log import ConnectionLog
from herdmaster.zookeeper.model import SessionState
from tests.roles.stage import Stage, new_call_name, until

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock, level: int = INFO, found: str = "") -> ConnectionLog:
    return ConnectionLog("actor", clock, level, meanwhile=lambda: "it waits", found=lambda: found)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[int, str]]]:
    caplog.set_level(logging.DEBUG, "herdmaster")
    return lambda: [(record.levelno, record.getMessage()) for record in caplog.records]


def test_the_return_is_told_with_its_time_its_session_and_what_was_found(
    said: Callable[[], list[tuple[int, str]]],
) -> None:
    clock = Clock()
    log = make(clock, WARNING, "3 things wait")
    log.log_opened()
    log.listen(SessionState.CONNECTED)
    log.listen(SessionState.DISCONNECTED)
    clock.now += 2.34
    log.listen(SessionState.CONNECTED)
    log.listen(SessionState.CONNECTED)
    assert said() == [
        (WARNING, "actor: the connection to ZooKeeper was lost: it waits"),
        (WARNING, "actor: the connection to ZooKeeper is back after 2.3 s, with the same session; 3 things wait"),
    ]


def test_the_time_runs_from_the_loss_to_the_new_session_and_the_highest_level_counts(
    said: Callable[[], list[tuple[int, str]]],
) -> None:
    clock = Clock()
    log = make(clock)
    log.listen(SessionState.DISCONNECTED)
    clock.now += 5
    log.note_loss(ERROR)
    log.note_loss(WARNING)
    clock.now += 5
    log.log_opened()
    log.listen(SessionState.DISCONNECTED)
    log.listen(SessionState.CONNECTED)
    assert said()[1:] == [
        (ERROR, "actor: the connection to ZooKeeper is back after 10.0 s, with a new session"),
        (INFO, "actor: the connection to ZooKeeper was lost: it waits"),
        (INFO, "actor: the connection to ZooKeeper is back after 0.0 s, with the same session"),
    ]


async def test_roles_whose_connection_broke_say_when_it_is_back_and_what_they_found(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    gate = stage.gate()
    await stage.master()
    await stage.master(is_primary=False)
    worker = await stage.worker(raw=gate, slots=1, queues=("default",))
    client = await stage.client()
    running = client.put_raw()
    await until(lambda: gate.entered == [running.name], "a task that runs")
    await stage.put(*(layout.task_path(new_call_name("elsewhere")) for _ in range(3)), data=b"{}")
    caplog.clear()

    stage.break_connections()
    await until(lambda: caplog.text.count("is back after") == 4, "four returns")
    await until(lambda: "in its inbox" in caplog.text and "found tasks waiting: " in caplog.text, "what was found")
    text = re.sub(r"after \d\.\d s", "after N s", caplog.text)
    for line in (
        "master: the connection to ZooKeeper was lost: nothing is decided until it is back",
        "master: the connection to ZooKeeper was lost: it cannot take over until it is back",
        "found tasks waiting: 3, assigned: 1; workers: 1",
        "worker: the connection to ZooKeeper was lost: nothing is started until it is back",
        "worker: the connection to ZooKeeper is back after N s, with the same session",
        f"{worker.name} found tasks in its inbox: 1",
        "client: the connection to ZooKeeper was lost: what is submitted waits until it is back",
        "client: the connection to ZooKeeper is back after N s, with the same session; outcomes awaited: 1, ",
    ):
        assert line in text
    gate.open()
    await running.outcome()


async def test_roles_whose_session_has_expired_say_that_they_have_a_new_one(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    master, worker, client = await stage.master(), await stage.worker(), await stage.client()
    caplog.clear()
    for role in (master, worker, client):
        await stage.expire(role)
    await until(lambda: caplog.text.count("with a new session") >= 6, "three new sessions")
    for kind in ("master", "worker", "client"):
        lines = [record for record in caplog.records if record.getMessage().startswith(f"{kind}: ")]
        assert "starting again with a new session" in lines[-2].getMessage()
        assert re.search(r"is back after \d\.\d s, with a new session", lines[-1].getMessage())
        assert lines[-1].levelno == WARNING
    await until(lambda: "found tasks waiting: 0, assigned: 0; workers: " in caplog.text, "what the next primary found")
