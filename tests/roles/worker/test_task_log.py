"""What a worker logs of its tasks."""

from __future__ import annotations

import logging

import msgspec
import pytest

from herdmaster.core.attempt_end import AttemptEnd
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.history import EndState
from herdmaster.core.names import UlidFactory, call_name
from herdmaster.core.payload import Call
from herdmaster.roles.shared.line_limit import MOST_LINES
from herdmaster.roles.worker.task_log import TaskLog, line_of
from herdmaster.running.delivery import Delivered

ERROR = ErrorInfo("ValueError", "no", "Traceback (most recent call last):\nValueError: no\n")
DONE = AttemptEnd("task-1", "shop:area", "default", EndState.DONE, ended=3210, began=3000)
FAILED = msgspec.structs.replace(DONE, result=EndState.FAILED, error=ERROR)


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (DONE, "task-1 shop:area done in 0.21 s"),
        (msgspec.structs.replace(DONE, call=""), "task-1 done in 0.21 s"),
        (FAILED, "task-1 shop:area failed after 0.21 s, attempt 1 of 1: ValueError: no"),
        (
            msgspec.structs.replace(FAILED, result=EndState.REFUSED, began=None, is_dead=True, max_attempts=3),
            "task-1 shop:area failed, attempt 1 of 3: ValueError: no; dead: `herd dead show task-1`",
        ),
        (
            msgspec.structs.replace(DONE, result=EndState.EXPIRED, began=None),
            "task-1 shop:area expired before it began",
        ),
        (msgspec.structs.replace(DONE, result=EndState.CANCELLED, began=None), "task-1 shop:area was cancelled"),
        (
            msgspec.structs.replace(FAILED, error=ErrorInfo("E", "\x1b[2J\n\u202e" + "x" * 1000)),
            "task-1 shop:area failed after 0.21 s, attempt 1 of 1: E: \\x1b[2J\\n\\u202e" + "x" * (300 - 9),
        ),
    ],
)
def test_a_line_tells_how_an_attempt_ended(end: AttemptEnd, line: str) -> None:
    assert line_of(end) == line


async def test_the_level_tells_how_bad_it_is_and_only_the_last_failure_has_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "herdmaster.worker")
    name = call_name(UlidFactory(lambda: 1, lambda count: b"\0" * count).new())
    call = Call(1, "m:f", msgspec.Raw(b"[]"), msgspec.Raw(b"{}"), attempt=2)
    log = TaskLog()
    log.started(Delivered(name, b"", 1, call))
    log.ended(DONE)
    log.ended(msgspec.structs.replace(FAILED, result=EndState.RETRIED, again_in=3.0))
    log.ended(FAILED)
    log.ended(msgspec.structs.replace(FAILED, result=EndState.BURIED))
    log.ended(msgspec.structs.replace(DONE, result=EndState.EXPIRED))
    log.ended(msgspec.structs.replace(DONE, result=EndState.CANCELLED))

    found = [(record.levelname, record.exc_text) for record in caplog.records]
    traceback = ERROR.traceback.rstrip()
    assert found == [
        ("DEBUG", None), ("INFO", None), ("WARNING", None), ("ERROR", traceback), ("ERROR", traceback),
        ("WARNING", None), ("INFO", None),
    ]  # fmt: skip
    assert caplog.messages[0] == f"{name} m:f starts, attempt 2"


async def test_what_is_above_the_limit_is_summed_up_and_failures_have_their_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "herdmaster.worker")
    log = TaskLog()
    for _ in range(MOST_LINES + 5):
        log.ended(DONE)
    log.ended(FAILED)
    log.close()

    assert len(caplog.records) == MOST_LINES + 2
    assert caplog.messages[-2].startswith("task-1 shop:area failed")
    assert caplog.messages[-1].startswith("5 more tasks done in ")
    assert caplog.messages[-1].endswith(" s: shop:area 5")
    log.close()
    assert len(caplog.records) == MOST_LINES + 2
