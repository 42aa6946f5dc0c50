"""Questions that the code in a process asks, and the answers of its pool."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from herdmaster.pools.limits import NO_LIMITS, Died, Limits
from herdmaster.pools.messages import Answer
from tests.pools.conditions import until
from tests.pools.process_setting import Setting

pytestmark = pytest.mark.long

MakeSetting = Callable[..., Setting]


@pytest.fixture
def make_setting() -> Iterator[MakeSetting]:
    made: list[Setting] = []

    def make(slots: int = 1, limits: Limits = NO_LIMITS) -> Setting:
        made.append(Setting(slots, limits))
        return made[-1]

    yield make
    for setting in made:
        setting.pool.close()


async def asked(setting: Setting, *data: bytes) -> None:
    await until(lambda: [question for _, question, _ in setting.questions] == list(data))


async def test_a_question_is_answered_while_the_code_waits(make_setting: MakeSetting) -> None:
    setting = make_setting()
    setting.pool.submit(["ask how"])
    await asked(setting, b"how")
    item, _, answer = setting.questions[0]
    assert item == "ask how"
    assert not setting.deliveries.all
    answer(b"so")
    await until(lambda: setting.deliveries.all == [("ask how", b"so")])
    answer(b"again")  # the request is over: dropped
    assert await setting.run("echo next") == [b"next"]


async def test_threads_of_one_task_get_their_own_answers(make_setting: MakeSetting) -> None:
    setting = make_setting()
    setting.pool.submit(["ask_on_threads 20"])
    for number in range(20):
        await until(lambda number=number: len(setting.questions) > number)  # type: ignore[misc]  # bound now
        _, question, answer = setting.questions[number]
        answer(b"re " + question)
    await until(lambda: bool(setting.deliveries.all))
    assert setting.deliveries.all[0][1] == b" ".join(b"re %d" % number for number in range(20))


async def test_the_answer_to_a_question_that_was_given_up_is_not_taken_for_another_one(
    make_setting: MakeSetting,
) -> None:
    setting = make_setting(1, Limits(soft=0.3))
    setting.pool.submit(["ask_impatiently"])
    await asked(setting, b"first", b"second")
    setting.questions[0][2](b"stale")
    setting.questions[1][2](b"fresh")
    await until(lambda: setting.deliveries.all == [("ask_impatiently", b"fresh")])


async def test_an_answer_with_another_number_is_refused(make_setting: MakeSetting) -> None:
    setting = make_setting()
    setting.pool.submit(["ask how"])
    await asked(setting, b"how")
    ((child, run),) = setting.pool._busy.items()
    child.send(Answer(run.number - 1, 1, b"of another request"))
    child.send(Answer(run.number, 2, b"to another question"))
    setting.questions[0][2](b"so")
    await until(lambda: setting.deliveries.all == [("ask how", b"so")])


async def test_a_thread_that_still_waits_at_the_end_of_its_request_is_told_so(make_setting: MakeSetting) -> None:
    setting = make_setting()
    assert await setting.run("ask_for_ever") == [b"left"]
    assert await setting.run("echo next") == [b"next"]
    await until(lambda: any("the task has ended" in line for _, _, line in setting.output))
    setting.questions[0][2](b"too late")
    assert await setting.run("echo third") == [b"third"]


async def test_a_process_that_dies_with_an_unread_answer_had_begun_its_request(make_setting: MakeSetting) -> None:
    setting = make_setting()
    setting.pool.submit(["ask how"])
    await asked(setting, b"how")
    ((child, _),) = setting.pool._busy.items()
    os.kill(child.pid, signal.SIGSTOP)
    setting.questions[0][2](b"so")
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: bool(setting.deliveries.all))
    assert isinstance(setting.deliveries.all[0][1], Died)


async def test_a_forked_process_cannot_ask(make_setting: MakeSetting) -> None:
    setting = make_setting()
    assert await setting.run("ask_in_a_fork") == [b"7"]
    assert not setting.questions
