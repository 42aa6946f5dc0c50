"""An app whose Herd names servers that are not there: what its tasks reach shows that it is directed elsewhere.

Lines of `$DIRECTED_DIARY` are written by tasks, so each proves that one was submitted to where the worker is.
"""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from herdmaster import Herd, HerdExecutor
from herdmaster.running.current import CurrentTask

herd = Herd("127.0.0.1:1", submit_timeout=20.0, connect_timeout=20.0)
same_deployment = Herd("127.0.0.1:1", submit_timeout=20.0, connect_timeout=20.0)
SECONDS = 50.0


@herd.task
def double(x: int) -> int:
    return 2 * x


@herd.task
def note(text: str) -> None:
    with Path(os.environ["DIRECTED_DIARY"]).open("a") as diary:
        diary.write(f"{text}\n")


def use_all() -> list[object]:
    """Every way to use a Herd, from code that may block."""
    delayed = double.options(delay=60).submit(1)
    seen = herd.find(delayed.name)
    delayed.cancel()
    with herd.flow("f") as flow:
        step = double.step(6)
    return [
        double.submit(1).result(SECONDS),
        list(double.map([2, 3], timeout=SECONDS)),
        HerdExecutor(herd).submit(double, 4).result(SECONDS),
        same_deployment.submit_call(double.call, [5]).result(SECONDS),
        flow.submit(step).result(SECONDS),
        seen is not None,
    ]


USED_ALL = [2, [4, 6], 8, 10, 12, True]


@herd.task(queue="watched")
def in_thread() -> list[object]:
    return use_all()


@herd.task(queue="watched")
async def in_loop() -> list[object]:
    delayed = await double.options(delay=60).submit_async(1)
    seen = await herd.find_async(delayed.name)
    await delayed.cancel_async()
    with herd.flow("f") as flow:
        step = double.step(6)
    return [
        await (await double.submit_async(1)),
        [each async for each in double.map([2, 3], timeout=SECONDS)],
        await asyncio.wrap_future(HerdExecutor(herd).submit(double, 4)),
        await (await same_deployment.submit_call_async(double.call, [5])),
        await (await flow.submit_async(step)),
        seen is not None,
    ]


@herd.task(pool="process", queue="watched")
def in_process() -> list[object]:
    return use_all()


@herd.task(pool="process")
def in_subprocess() -> str:
    program = f"from {__name__} import *; print(use_all())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@herd.task(queue="watched")
def fail_in_thread() -> None:
    raise ValueError


@herd.task(queue="watched")
async def fail_in_loop() -> None:
    raise ValueError


@herd.task(pool="process", queue="watched")
def fail_in_process() -> None:
    raise ValueError


def leave_note(text: str) -> None:
    """From anywhere, also from a running loop."""
    HerdExecutor(herd, ignore_result=True).submit(note, text)


@herd.before_task
def before(task: CurrentTask) -> None:
    if task.queue == "watched":
        leave_note("before")


@herd.after_task
def after(task: CurrentTask, _result: object) -> None:
    if task.queue == "watched":
        leave_note("after")


@herd.on_error
def error(task: CurrentTask, _error: BaseException) -> None:
    if task.queue == "watched":
        leave_note("error")


@herd.on_worker_start
def start() -> None:
    note.submit("start")


@herd.on_worker_stop
def stop() -> None:
    note.submit("stop")


if "DIRECTED_DIARY" in os.environ:
    leave_note("import")
