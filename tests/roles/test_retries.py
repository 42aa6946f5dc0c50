"""Tasks that are tried again, elsewhere, or not any more: the test plays the primary."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from herdmaster.core import layout
from herdmaster.core.names import call_name
from herdmaster.core.options import Overrides, RunOptions
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome, decode_result
from herdmaster.core.payload import Call, decode_call, encode_call
from herdmaster.errors import Retry
from herdmaster.running.registration import Registration
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, multi_with, request_of
from tests.roles.stage import REFERENCE, Stage, StagedWorker, new_call_name, new_raw_name, until

pytestmark = pytest.mark.long

NO_ARGUMENTS = (msgspec.Raw(b"[]"), msgspec.Raw(b"{}"))


@pytest.fixture(autouse=True)
async def _primary(stage: Stage) -> None:
    await stage.play_primary()


class Fails:
    """A function that raises until it has been called so many times."""

    def __init__(self, times: int, error: Exception | None = None) -> None:
        self.times = times
        self.error = error or ValueError("not yet")
        self.ran: list[float] = []

    def __call__(self) -> int:
        self.ran.append(time.monotonic())
        if len(self.ran) <= self.times:
            raise self.error
        return len(self.ran)


async def assign(stage: Stage, worker: StagedWorker, name: str | None = None, **fields: object) -> str:
    """Puts a call of `m:f` into the worker's inbox."""
    name = name or new_call_name()
    data = encode_call(Call(1, "m:f", *NO_ARGUMENTS, **fields))  # type: ignore[arg-type]
    await stage.put(layout.assignment_path(worker.name, name), data=data)
    return name


async def outcome(stage: Stage, name: str) -> Outcome:
    await stage.until_exists(layout.status_path(name))
    return decode_outcome(name, await stage.data(layout.status_path(name)))


async def delayed(stage: Stage, name: str) -> tuple[int, Call]:
    """When it is due, in milliseconds from now by the server's clock, and the call."""
    found: list[tuple[int, str]] = []

    async def is_there() -> bool:
        found[:] = [each for each in map(layout.parse_delayed_name, await stage.names(layout.DELAYED)) if each]
        return name in [task for _, task in found]

    await until(is_there, f"{name} among the delayed")
    (due,) = [due for due, task in found if task == name]
    _, stat = await stage.zk.get(layout.delayed_path(due, name))
    return due - stat.mtime, decode_call(await stage.data(layout.delayed_path(due, name)))


async def test_a_task_that_failed_waits_among_the_delayed_with_its_next_attempt(stage: Stage) -> None:
    function = Fails(9, Retry("later", after=20.0))
    worker = await stage.worker({"m:f": Registration(function, RunOptions(max_attempts=3))})
    name = await assign(stage, worker, deliveries=1)
    wait, call = await delayed(stage, name)

    assert (call.attempt, call.deliveries, call.started) == (2, 1, None)
    assert 15_000 < wait <= 20_001  # from the moment at which it failed, by the servers' clock
    assert await stage.names(layout.inbox_path(worker.name)) == await stage.names(layout.STATUS) == []


async def test_the_backoff_is_drawn_below_a_bound_that_doubles(stage: Stage) -> None:
    options = RunOptions(max_attempts=9, backoff=100.0, max_backoff=350.0)
    worker = await stage.worker({"m:f": Registration(Fails(99), options)})
    names = {attempt: [await assign(stage, worker, attempt=attempt) for _ in range(6)] for attempt in (1, 2, 3)}
    waits = {attempt: [(await delayed(stage, name))[0] for name in found] for attempt, found in names.items()}

    for attempt, bound in ((1, 100_000), (2, 200_000), (3, 350_000)):
        assert max(waits[attempt]) <= bound + 1
        assert len(set(waits[attempt])) > 1  # chance, so that those who failed together come back apart


async def test_what_is_to_be_tried_again_at_once_goes_back_to_the_tasks(stage: Stage) -> None:
    worker = await stage.worker({"m:f": Registration(Fails(9, Retry(after=0)), RunOptions(max_attempts=2))})
    name = await assign(stage, worker)
    await stage.until_exists(layout.task_path(name))

    assert decode_call(await stage.data(layout.task_path(name))).attempt == 2


async def test_the_last_attempt_leaves_a_failed_status_and_the_payload_among_the_dead(stage: Stage) -> None:
    worker = await stage.worker({"m:f": Registration(Fails(9), RunOptions(max_attempts=3))})
    name = await assign(stage, worker, attempt=3, outcome=False)
    found = await outcome(stage, name)

    assert found.error is not None
    assert (found.error.type, found.attempt) == ("ValueError", 3)
    dead = decode_call(await stage.data(layout.dead_path(name)))
    assert dead.attempt == 3
    assert dead.error is not None
    assert (dead.error.type, dead.error.message) == ("ValueError", found.error.message)
    await stage.until_gone(layout.assignment_path(worker.name, name))


async def test_a_task_that_may_be_tried_once_is_not_buried(stage: Stage) -> None:
    worker = await stage.worker({"m:f": Fails(9)})
    name = await assign(stage, worker)

    assert (await outcome(stage, name)).state is OutcomeState.FAILED
    assert await stage.names(layout.DEAD) == []


async def test_what_a_call_says_of_its_options_wins_over_its_function(stage: Stage) -> None:
    worker = await stage.worker({"m:f": Registration(Fails(9), RunOptions(max_attempts=1, give_up_on=("ValueError",)))})
    wanted = Overrides(max_attempts=2, give_up_on=(), backoff=60.0)
    name = await assign(stage, worker, options=wanted)

    assert (await delayed(stage, name))[1].options == wanted


async def test_an_exception_to_give_up_on_is_not_tried_again(stage: Stage) -> None:
    options = RunOptions(max_attempts=3, give_up_on=("LookupError",))
    worker = await stage.worker({"m:f": Registration(Fails(9, KeyError("x")), options)})
    name = await assign(stage, worker)

    assert (await outcome(stage, name)).attempt == 1
    assert await stage.exists(layout.dead_path(name))


async def test_a_lost_reply_to_a_retry_costs_nothing(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        function = Fails(9, Retry(after=0))
        worker = await stage.worker({"m:f": Registration(function, RunOptions(max_attempts=3))}, hosts=proxy.hosts)
        name = new_call_name()
        lost = proxy.lose_reply(multi_with(layout.task_path(name)))
        await assign(stage, worker, name)
        await until(lost.happened.is_set, "the retry")
        await stage.until_exists(layout.task_path(name))
        await assign(stage, worker)  # it works on
        await until(lambda: len(function.ran) >= 2, "the next to run")
        await stage.stop(worker)

    assert decode_call(await stage.data(layout.task_path(name))).attempt == 2
    assert await stage.names(layout.inbox_path(worker.name)) == []


async def test_a_retry_whose_request_was_lost_is_committed_after_the_reconnect(namespace: str, stage: Stage) -> None:
    async with Proxy(namespace) as proxy:
        function = Fails(1, Retry(after=0))
        worker = await stage.worker({"m:f": Registration(function, RunOptions(max_attempts=3))}, hosts=proxy.hosts)
        lost = proxy.lose_reply(request_of(OpCode.GET_DATA, layout.MASTER))  # it asked whose primary there is
        name = await assign(stage, worker)
        await stage.until_exists(layout.task_path(name))

        assert lost.happened.is_set()
        assert len(function.ran) == 1
        await stage.stop(worker)


async def test_it_drains_while_tasks_go_back(stage: Stage) -> None:
    gate = stage.gate()

    def fail() -> None:
        gate("f", b"")
        raise Retry(after=30.0)

    worker = await stage.worker({"m:f": Registration(fail, RunOptions(max_attempts=2))})
    name = await assign(stage, worker)
    await until(lambda: gate.entered == ["f"], "it to run")
    end = asyncio.ensure_future(stage.stop(worker))
    await until(lambda: worker._session is not None and not worker._session.may_start, "it to drain")
    gate.open()
    await end

    assert (await delayed(stage, name))[1].attempt == 2
    assert await stage.names(layout.ASSIGN) == []


# --- under a primary of the reference ------------------------------------------------------------------------------


async def test_under_a_reference_primary_the_worker_itself_waits_and_tries_again(stage: Stage) -> None:
    await stage.play_primary(REFERENCE)
    function = Fails(2, Retry(after=0.3))
    worker = await stage.worker({"m:f": Registration(function, RunOptions(max_attempts=3))})
    name = await assign(stage, worker)
    found = await outcome(stage, name)

    assert (decode_result(found), found.attempt) == (3, 3)
    assert all(later - earlier >= 0.3 for earlier, later in zip(function.ran, function.ran[1:], strict=False))
    assert await stage.names(layout.DELAYED) == await stage.names(layout.TASKS) == []


async def test_a_task_that_waits_in_its_inbox_keeps_its_attempt_when_its_worker_is_lost(stage: Stage) -> None:
    await stage.play_primary(REFERENCE)
    function = Fails(9, Retry(after=60.0))
    worker = await stage.worker({"m:f": Registration(function, RunOptions(max_attempts=3))}, drain_timeout=0.3)
    name = await assign(stage, worker)

    async def is_counted() -> bool:
        return decode_call(await stage.data(layout.assignment_path(worker.name, name))).attempt == 2

    await until(is_counted, "the attempt to be counted")
    await stage.stop(worker)  # which gives up when its drain timeout is over
    assert await is_counted()
    assert len(function.ran) == 1


# --- elsewhere, and not any more -------------------------------------------------------------------------------------


async def test_a_call_that_the_worker_lacks_goes_on_to_others(stage: Stage) -> None:
    worker = await stage.worker({"m:g": lambda: None})
    name = await assign(stage, worker, asked=("worker-a",))
    wait, call = await delayed(stage, name)

    assert call.asked == ("worker-a", worker.name)
    assert (call.attempt, call.deliveries) == (1, 0)
    assert wait <= 101  # of the time of the commit, which may be long after the decision


async def test_a_call_that_enough_workers_lack_fails_and_names_them(stage: Stage) -> None:
    worker = await stage.worker({"m:g": lambda: None})
    name = await assign(stage, worker, asked=("worker-a", worker.name, "worker-b", "worker-c"))
    error = (await outcome(stage, name)).error

    assert error is not None
    assert error.type == "UnknownCall"
    assert "m:f is not registered" in error.message
    assert "m:g" in error.message
    assert f"worker-a, {worker.name}, worker-b, worker-c" in error.message


async def test_a_task_whose_time_is_over_at_its_turn_ends_as_expired(stage: Stage) -> None:
    gate = stage.gate()
    function = Fails(0)
    worker = await stage.worker({"m:f": function}, raw=gate, slots=1)
    await stage.put(layout.assignment_path(worker.name, first := new_raw_name()))
    await until(lambda: gate.entered == [first], "the slot to be taken")
    soon = int(time.time() * 1000) + 300
    conditional = call_name(new_raw_name().removeprefix("task-"), conditional=True)
    name = await assign(stage, worker, conditional, expires=soon, key="ab" * 16)
    # A worker that hears from its server late takes the time for earlier than it is.
    await until(lambda: time.time() * 1000 > soon + 1200, "its time to be over")
    gate.open()
    found = await outcome(stage, name)

    assert (found.state, found.key) == (OutcomeState.EXPIRED, "ab" * 16)
    assert function.ran == []
