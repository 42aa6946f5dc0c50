"""A current task for plain calls."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from herdmaster import ConfigurationError, Herd, InvalidName, NoCurrentTask, current_task
from herdmaster.core.names import parse_task_name
from herdmaster.running.current import CurrentTask
from herdmaster.testing import task_context

herd = Herd("127.0.0.1:1")
NAME = "task-01jd0000000000000000000001.mail"


@herd.task(queue="slow", max_attempts=3, timeout=600)
def count(steps: int) -> CurrentTask:
    task = current_task()
    for number in range(steps):
        task.progress(number + 1, steps, f"step {number}")
    return task


@herd.task
async def count_async(steps: int) -> CurrentTask:
    await asyncio.sleep(0)
    return count(steps)


def test_a_plain_call_finds_the_task_and_what_it_says_is_kept() -> None:
    with task_context() as context:
        found = count(2)
        assert context.progress == [(1, 2, "step 0"), (2, 2, "step 1")]
        assert context.progress[-1].note == "step 1"
        count(1)
    assert len(context.progress) == 3
    assert (found.name, found.queue, found.attempt, found.max_attempts, found.deadline) == (
        context.name, "default", 1, 1, None
    )  # fmt: skip
    parsed = parse_task_name(context.name)
    assert parsed is not None
    assert parsed.queue == "default"


def test_outside_of_it_there_is_no_task() -> None:
    with task_context(), pytest.raises(LookupError, match="of the code"):
        raise LookupError("of the code")
    with pytest.raises(NoCurrentTask):
        count(1)


async def test_a_coroutine_finds_it_and_others_do_not() -> None:
    async def outside() -> None:
        with pytest.raises(NoCurrentTask):
            await count_async(1)

    other = asyncio.ensure_future(outside())
    with task_context(attempt=2) as context:
        assert (await count_async(1)).attempt == 2
        await other
    assert context.progress == [(1, 1, "step 0")]


def test_queue_attempts_and_timeout_are_those_of_the_task() -> None:
    with task_context(count, attempt=2) as context:
        found = count(0)
    assert (found.queue, found.attempt, found.max_attempts) == ("slow", 2, 3)
    assert found.deadline is not None
    assert abs(found.deadline - datetime.now(UTC) - timedelta(minutes=10)) < timedelta(seconds=30)
    assert context.current.deadline == found.deadline
    with task_context(count.options(queue="mail", max_attempts=7, timeout=None)):
        found = count(0)
    assert (found.queue, found.max_attempts, found.deadline) == ("mail", 7, None)


def test_what_is_given_comes_first() -> None:
    with task_context(count, name=NAME, attempt=4, timeout=timedelta(seconds=5).total_seconds()):
        found = count(0)
    assert (found.name, found.queue, found.attempt, found.max_attempts) == (NAME, "mail", 4, 4)
    with task_context(count, queue="other", max_attempts=9):
        assert (count(0).queue, count(0).max_attempts) == ("other", 9)


def test_contexts_may_be_nested() -> None:
    with task_context(attempt=1) as outer:
        with task_context(attempt=2) as inner:
            assert count(1).attempt == 2
        assert count(0).attempt == 1
    assert (outer.progress, inner.progress) == ([], [(1, 1, "step 0")])


def test_a_thread_finds_no_task_as_on_a_worker() -> None:
    told: list[str] = []

    def run() -> None:
        try:
            count(1)
        except NoCurrentTask as error:
            told.append(str(error))

    with task_context():
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(20)
    assert len(told) == 1


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"name": "add"}, InvalidName, "'add' is no task's name, such as task-01h...default: or leave it out"),
        ({"name": 3}, InvalidName, "3 is no task's name"),
        ({"queue": "No Queue"}, InvalidName, "No Queue"),
        ({"name": NAME, "queue": "slow"}, ConfigurationError, "is of queue mail; give one of the two"),
        ({"attempt": 0}, ConfigurationError, "attempt=0: it takes a whole number from 1"),
        ({"attempt": 3, "max_attempts": 2}, ConfigurationError, "attempt=3: a task has at most max_attempts=2"),
        ({"max_attempts": 0}, ConfigurationError, "max_attempts=0: it takes a whole number from 1"),
        ({"timeout": 0}, ConfigurationError, "timeout=0: it takes seconds"),
    ],
)
def test_a_task_that_cannot_be_is_refused(options: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says), task_context(**options):  # type: ignore[arg-type]  # the mistakes
        pass


def test_what_is_no_task_is_refused() -> None:
    wrong = task_context(len)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="task_context takes a task"), wrong:
        pass


@pytest.mark.long
def test_the_plugin_still_imports_nothing_before_a_fixture_is_used() -> None:
    program = "import sys, herdmaster.testing.pytest_plugin; print('msgspec' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert ended.stdout == "False\n"


def test_a_task_can_be_that_of_a_schedule() -> None:
    due = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    with task_context(scheduled_for=due, previous_scheduled_for=due - timedelta(days=1), schedule="nightly"):
        task = current_task()
        assert (task.schedule, task.scheduled_for) == ("nightly", due)
        assert task.previous_scheduled_for == due - timedelta(days=1)
    with task_context(scheduled_for=due) as context:
        assert context.current.previous_scheduled_for is None
    with task_context() as context:
        assert (context.current.schedule, context.current.scheduled_for) == (None, None)


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"scheduled_for": datetime(2026, 3, 29)}, ConfigurationError),  # noqa: DTZ001 - without a zone
        ({"previous_scheduled_for": datetime(2026, 3, 29, tzinfo=UTC)}, ConfigurationError),
        ({"scheduled_for": datetime(2026, 3, 29, tzinfo=UTC), "schedule": "a b"}, InvalidName),
    ],
)
def test_times_and_names_that_no_schedule_has_are_refused(keywords: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error), task_context(**keywords):
        pass


def test_the_code_finds_the_parents_that_are_missing() -> None:
    with task_context(missing=("fetch", "measure[7]")):
        assert current_task().missing == ("fetch", "measure[7]")
    with task_context():
        task = current_task()
        assert (task.missing, task.flow, task.step) == ((), None, None)
