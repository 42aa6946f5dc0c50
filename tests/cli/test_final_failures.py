"""The hooks of an app are called for what a master ends, and nothing that they do harms the master."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from herdmaster import Future, Herd, errors
from herdmaster.cli import final_failures
from herdmaster.cli.final_failures import FinalFailures
from herdmaster.cli.program import herd
from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.history import EndState
from tests.cli import failures_app
from tests.cli.processes import HerdProcess, wait_until
from tests.pools.process_setting import children, is_alive

APP = "tests.cli.failures_app"


def ended(number: int, result: EndState = EndState.EXPIRED, text: str = "") -> AttemptEnd:
    return AttemptEnd(f"task-{text}{number}", "shop:send", "default", result, ended=1)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(failures_app.TOLD, str(tmp_path / "told"))
    (tmp_path / "told").touch()
    return tmp_path / "told"


@asynccontextmanager
async def running(app: str) -> AsyncIterator[FinalFailures]:
    failures = FinalFailures(app, (), "info", "text")
    run = asyncio.ensure_future(failures.run())
    try:
        yield failures
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


async def until_told(told: Path, name: str) -> None:
    await until(lambda: name in told.read_text())


def lines_of(file: Path, count: int) -> list[str] | None:
    """The lines, if they are as many."""
    text = file.read_text()
    return text.splitlines() if text.count("\n") == count else None


@pytest.mark.long
async def test_calls_that_wait_are_made_before_the_end(told: Path) -> None:
    async with running(APP) as failures:
        failures.task_ended(ended(100))
        await until_told(told, "task-100")
        for number, result in enumerate(EndState):
            failures.task_ended(ended(number, result))

    lines = (await asyncio.to_thread(told.read_text)).splitlines()[1:]
    assert len(lines) == len(EndState) - 2  # done, and retried
    assert sum("TaskCancelled" in line for line in lines) == 1
    assert sum("TaskExpired" in line for line in lines) == 1


@pytest.mark.long
async def test_a_process_that_a_hook_ends_is_replaced(
    told: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(final_failures, "FIRST_PAUSE", 0.01)
    async with running(APP) as failures:
        failures.task_ended(ended(1, text="crash-"))
        await until_told(told, "task-crash-1")
        await until(lambda: "exit code 7" in caplog.text)
        failures.task_ended(ended(2))
        await until_told(told, "task-2")


@pytest.mark.long
async def test_an_app_that_cannot_be_imported_is_named(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async with running("no_such_app"):
        await until(lambda: "has ended with exit code" in caplog.text)
    assert "herd master --app: no module 'no_such_app'" in capfd.readouterr().err


async def test_a_process_that_cannot_start_is_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(final_failures, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    async with running(APP), asyncio.timeout(20):
        while caplog.text.count("cannot be run: FileNotFoundError") < 2:
            await asyncio.sleep(0.005)
    assert "the next one starts in 0.02 s" in caplog.text


async def test_what_does_not_fit_is_dropped_and_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(final_failures, "MOST_WAITING", 2)
    monkeypatch.setattr(final_failures, "_MODULE", "this")  # reads nothing, and ends
    failures = FinalFailures(APP, (), "info", "text")
    for number in range(5):
        failures.task_ended(ended(number))
    run = asyncio.ensure_future(failures.run())
    async with asyncio.timeout(20):
        while "not called for 3 tasks" not in caplog.text:
            await asyncio.sleep(0.005)
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run


@pytest.mark.long
def test_a_master_with_an_app_calls_its_hooks(namespace: str, told: Path) -> None:
    environment = {failures_app.TOLD: str(told)}
    with HerdProcess("master", namespace, f"--app={APP}", environment=environment) as master, Herd(namespace) as client:
        late: Future[None] = client.submit_call("shop:send", queue="unserved", expires=0.05)
        with pytest.raises(errors.TaskExpired):
            late.result(timeout=60)
        unwanted: Future[None] = client.submit_call("shop:send", queue="unserved")
        assert unwanted.cancel()
        # Several threads call the hooks, so the calls come in any order.
        lines = wait_until(lambda: lines_of(told, 2), "there are no two calls")
        assert [line.partition("(")[0] for line in sorted(lines, key=lambda line: unwanted.name in line)] == [
            f"{late.name} unserved TaskExpired",
            f"{unwanted.name} unserved TaskCancelled",
        ]
        (beside,) = children(master.pid)
        master.send(signal.SIGTERM)
        with suppress(ProcessLookupError):  # the master has ended it already
            os.kill(beside, signal.SIGTERM)  # as a supervisor does that stops all processes of a unit
        assert master.wait() == 0
        assert not is_alive(beside)
        assert "exit code" not in master.stderr


@pytest.mark.long
def test_a_killed_master_leaves_no_process(namespace: str, told: Path) -> None:
    with HerdProcess("master", namespace, f"--app={APP}", environment={failures_app.TOLD: str(told)}) as master:
        master.wait_for_log("is primary")
        (beside,) = wait_until(lambda: children(master.pid), "no process beside the master")
        master.kill()
        wait_until(lambda: not is_alive(beside), "the process has not noticed the end of its master")


def test_modules_without_an_app_are_refused() -> None:
    done = CliRunner().invoke(herd, ["master", "--import", "shop"])
    assert done.exit_code == 2
    assert "give --app as well" in done.output
