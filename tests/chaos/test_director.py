"""The whole of it on a real ensemble: a scenario comes out clean, and sabotage does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

import chaos.director
from chaos.cast import NAMESPACE, Cast
from chaos.director import Director, Row
from chaos.failover import Failover, Takeovers
from chaos.scenarios import SCENARIOS, Scenario
from chaos.stage import Stage
from chaos.transactions import Kind, decode_transaction, split_entries
from herdmaster.testing.apache import ApacheZooKeeper, ZooKeeperNotInstalled
from tests.cli.processes import REPOSITORY, connect, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.apache, pytest.mark.timeout(240)]


@pytest.fixture(autouse=True)
def _installed() -> None:
    try:
        ApacheZooKeeper()
    except ZooKeeperNotInstalled as reason:
        pytest.skip(str(reason))


def play(*plays: Callable[[Stage], None]) -> list[Row]:
    """One row for each, and one for the end."""
    scenarios = [Scenario(f"test-{number}", "", each) for number, each in enumerate(plays)]
    with Director(lambda: Cast(session_timeout=2.0, rate=20.0), lambda _text: None, 0) as director:
        return list(director.play(scenarios))


def steal(stage: Stage, find: Callable[[KazooClient], Iterator[str]], at_least: int = 1) -> None:
    """Deletes what is found behind everybody's back."""
    with connect(stage.cast.ensemble.hosts + NAMESPACE) as znodes:
        stolen = 0

        def has_stolen() -> bool:
            nonlocal stolen
            for path in find(znodes):
                try:
                    znodes.delete(path)
                    stolen += 1
                except NoNodeError:
                    continue
            return stolen >= at_least

        wait_until(has_stolen, "there was nothing to steal", 60.0)


def assignments(znodes: KazooClient) -> Iterator[str]:
    for worker in znodes.get_children("/assign"):
        for task in znodes.get_children(f"/assign/{worker}"):
            yield f"/assign/{worker}/{task}"
            return


def test_a_scenario_and_a_takeover_come_out_clean() -> None:
    takeovers: list[Takeovers] = []
    primary_killed = next(each for each in SCENARIOS if each.name == "primary-killed")
    rows = play(primary_killed.play, lambda stage: takeovers.extend(Failover(stage).repeat(1)))
    assert [row.is_good for row in rows] == [True] * 3, rows
    assert all(row.judgement is not None and row.judgement.accepted > 30 for row in rows[:2])
    killed, terminated = takeovers
    assert (killed.signal, terminated.signal) == ("SIGKILL", "SIGTERM")
    assert killed.seconds[0] > 0.5  # the session had to expire
    assert 0 < terminated.seconds[0] < killed.seconds[0]


def test_a_task_that_is_deleted_by_hand_is_found_to_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos.director, "SETTLE_SECONDS", 10.0)  # its client waits, until it looks for the task
    row, *_ = play(lambda stage: steal(stage, assignments))
    assert not row.is_good
    assert row.judgement is not None
    assert [complaint for complaint in row.judgement.lost if complaint.endswith("never ended")]


def test_a_znode_that_is_left_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos.director, "SETTLE_SECONDS", 10.0)
    forgotten = "/status/task-00000000000000000000000000.default"

    def leave(stage: Stage) -> None:
        with connect(stage.cast.ensemble.hosts + NAMESPACE) as znodes:
            znodes.create(forgotten)

    row, *_ = play(leave)
    assert not row.is_good
    assert row.judgement is not None
    assert row.judgement.left == [forgotten]


def forget_a_deletion(stage: Stage) -> None:
    """One follower's log loses the deletion of a status, as if its disk had been full for a moment."""
    server = stage.followers()[0]
    server.kill()
    log = max((server.data_dir / "version-2").glob("log.*"), key=lambda path: path.stat().st_mtime)
    data = log.read_bytes()
    entries = list(split_entries(data[16:]))
    forgotten = next(
        entry
        for entry in reversed(entries)
        if any(
            change.kind is Kind.DELETED and "/status/" in change.path for change in decode_transaction(entry).changes
        )
    )
    start = data.index(forgotten)
    log.write_bytes(data[: start - 12] + data[start + len(forgotten) + 1 :])
    server.start()


def test_a_server_that_has_forgotten_something_is_told_of_and_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos.director, "DIVERGED_SECONDS", 3.0)
    row, after, _ = play(forget_a_deletion, lambda _stage: None)
    assert row.is_good
    assert len(row.diverged) == 1
    assert "its log lacks 1 transactions" in row.diverged[0]
    assert after.is_good
    assert after.diverged == ()


def test_ctrl_c_ends_every_process_and_removes_every_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chaos", "--short", "--verbose", "--scenario", "worker-killed"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = next((line for line in process.stderr if "SIGKILL" in line or "does not come up" in line), "nothing")
        assert "SIGKILL" in said
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    limit = time.monotonic() + 20
    while time.monotonic() < limit and (list(tmp_path.iterdir()) or _processes_with(str(tmp_path))):
        time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []
    assert _processes_with(str(tmp_path)) == []


def _processes_with(text: str) -> list[str]:
    """The command lines that hold it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found
