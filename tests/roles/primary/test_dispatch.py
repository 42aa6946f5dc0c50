"""How decisions are carried out, reply by reply: what is read first, what is committed, and how each task ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from herdmaster.core import layout
from herdmaster.core.dispatcher import Dispatcher
from herdmaster.core.names import call_name
from herdmaster.core.payload import Call, encode_arguments, encode_call, with_asked, with_isolation
from herdmaster.core.recovery import Recovery
from herdmaster.roles.primary.dispatch import Dispatch
from herdmaster.roles.primary.log import PrimaryLog
from herdmaster.roles.primary.part import MAX_UNDER_WAY, SET_ASIDE_SECONDS, TRY_LATER_SECONDS
from herdmaster.roles.shared.system import System
from herdmaster.zookeeper import errors
from tests.roles.primary.scripted import STATE, FakeServerClock, ScriptedClient, W, new_dispatcher

pytestmark = pytest.mark.fallback("SET_ASIDE_SECONDS", "TRY_LATER_SECONDS")  # the clock is the test's

TASK, X = "task-a", "worker-x"
CONDITIONAL = call_name(f"0{1:025d}", conditional=True)
CALL = call_name(f"0{2:025d}")


def expiring(expires: int, attempt: int = 1) -> bytes:
    return encode_call(Call(1, "m:f", *encode_arguments((), {}), attempt=attempt, expires=expires))


class Rig:
    def __init__(self, dispatcher: Dispatcher) -> None:
        self.client = ScriptedClient()
        self.dispatcher = dispatcher
        self.server_clock = FakeServerClock()
        self.recovery = Recovery(max_deliveries=3)
        self.listings = 0
        client: Any = self.client
        clock: Any = self.server_clock
        self.dispatch = Dispatch(
            client,
            dispatcher,
            clock,
            recovery=self.recovery,
            report=PrimaryLog(System(), lambda _end: None),
            wake=lambda: None,
            list_again=self.list_again,
        )

    def list_again(self) -> None:
        self.listings += 1

    async def step(self) -> list[str]:
        """One step, and the turn of the loop in which its moves leave. Return the calls that are not answered."""
        self.dispatch.step()
        await asyncio.sleep(0)
        return self.client.pending()

    async def read(self, *data: bytes | errors.ServerError) -> list[str]:
        self.client.answer_read(*data)
        await asyncio.sleep(0)
        return self.client.pending()


# --- expiry, at a takeover and later ---------------------------------------------------------------------------------


async def test_a_task_that_may_have_expired_is_not_assigned_before_the_servers_time_is_known() -> None:
    """A takeover finds it, and the machine's own clock says nothing."""
    rig = Rig(new_dispatcher(CONDITIONAL))
    assert await rig.step() == ["read"]
    assert await rig.read(expiring(5000)) == []
    rig.client.now = 0.05
    assert await rig.step() == ["read"]  # the header once more, since nothing was decided
    rig.server_clock.time = 6000
    assert await rig.read(expiring(5000)) == []

    assert await rig.step() == ["read"]
    assert await rig.read(expiring(5000)) == ["commit"]
    assert rig.client.answer("commit") == (
        ("delete", layout.task_path(CONDITIONAL)),
        ("create", layout.status_path(CONDITIONAL)),
    )


async def test_a_task_that_never_expires_waits_for_no_clock() -> None:
    rig = Rig(new_dispatcher(CONDITIONAL))
    await rig.step()
    await rig.read(encode_call(Call(1, "m:f", *encode_arguments((), {}))))
    await rig.step()

    assert await rig.read(b"payload") == ["commit"]


async def test_what_has_expired_by_an_older_header_is_looked_at_again() -> None:
    """The name left and came back in between, with its next attempt: an attempt that is not the first never expires."""
    rig = Rig(new_dispatcher(CONDITIONAL))
    rig.server_clock.time = 4000
    await rig.step()
    await rig.read(expiring(5000))
    assert await rig.step() == ["read"]  # to be assigned
    rig.client.answer("read", None, errors.ConnectionLoss())
    rig.server_clock.time = 6000
    assert await rig.step() == ["read"]
    assert await rig.read(expiring(5000, attempt=2)) == []

    await rig.step()
    await rig.read(expiring(5000, attempt=2))
    assert rig.client.answer("commit")[-1] == ("create", layout.assignment_path(W, CONDITIONAL))


async def test_what_would_expire_is_not_refused_when_the_servers_time_is_lost_meanwhile() -> None:
    rig = Rig(new_dispatcher(CONDITIONAL))
    rig.server_clock.time = 6000
    await rig.step()
    await rig.read(expiring(5000))
    assert await rig.step() == ["read"]
    rig.server_clock.time = None

    assert await rig.read(expiring(5000)) == []


# --- how a task ends -------------------------------------------------------------------------------------------------


async def assigning(*tasks: str) -> Rig:
    """Their assignments are sent, and not answered."""
    rig = Rig(new_dispatcher(*tasks))
    await rig.step()
    await rig.read(*(b"payload" for _ in tasks))
    assert rig.client.pending() == ["commit"]
    return rig


async def test_a_committed_assignment_ends_the_mark_and_moves_nothing() -> None:
    rig = await assigning(TASK)
    assert rig.dispatcher.under_way == 1
    rig.client.answer("commit")

    assert rig.dispatcher.under_way == 0


@pytest.mark.parametrize(
    ("index", "error", "seconds"),
    [
        (0, errors.NoNode("worker"), 0.0),  # another worker is chosen
        (2, errors.NoNode("inbox"), 0.0),
        (1, errors.NoAuth("task"), SET_ASIDE_SECONDS),
    ],
)
async def test_a_refused_assignment_is_decided_again_after_its_time(
    index: int, error: errors.ServerError, seconds: float
) -> None:
    rig = await assigning(TASK)
    rig.client.refuse(index, error)
    if seconds:
        rig.client.now = seconds - 0.01
        assert await rig.step() == []
    rig.client.now = seconds

    assert await rig.step() == ["read"]


async def test_a_folder_that_is_missing_is_asked_for_and_the_move_is_tried_again() -> None:
    rig = Rig(new_dispatcher(TASK))
    await rig.step()
    await rig.read(b"x" * 2_000_000)  # too large, so it is refused
    wanted = [rig.dispatch.is_folder_missing]
    rig.client.refuse(1, errors.NoNode(layout.STATUS))
    wanted.append(rig.dispatch.is_folder_missing)

    assert wanted == [False, True]
    rig.client.now = TRY_LATER_SECONDS - 0.01
    assert await rig.step() == []
    rig.client.now = TRY_LATER_SECONDS
    assert await rig.step() == ["read"]


async def test_what_is_not_there_although_the_picture_shows_it_makes_it_list_once_in_a_while() -> None:
    rig = await assigning(TASK, "task-b")
    assert rig.client.refuse(1, errors.NoNode("task"))
    assert rig.listings == 1
    rig.client.refuse(1, errors.NoNode("task"))
    assert rig.listings == 1

    rig.client.now = SET_ASIDE_SECONDS
    await rig.step()
    await rig.read(errors.NoNode("task"), errors.NoNode("task"))
    assert rig.listings == 2


async def test_an_unknown_reply_is_not_guessed_at() -> None:
    rig = await assigning(TASK)
    rig.client.answer("commit", None, errors.ConnectionLoss())
    assert rig.dispatcher.under_way == 0

    assert await rig.step() == ["read"]


async def test_what_may_not_be_read_is_refused_and_what_cannot_be_read_is_set_aside() -> None:
    rig = Rig(new_dispatcher(TASK, "task-b"))
    await rig.step()
    assert await rig.read(errors.NoAuth("a"), errors.UnknownServerError("b", -99)) == ["commit"]
    assert rig.client.answer("commit")[-1] == ("create", layout.status_path(TASK))
    rig.dispatcher.remove_task(TASK)
    assert await rig.step() == []
    rig.client.now = SET_ASIDE_SECONDS

    assert await rig.step() == ["read"]


async def test_a_call_whose_worker_lacks_its_function_goes_to_another() -> None:
    rig = Rig(new_dispatcher(CALL))
    await rig.step()
    rig.dispatcher.add_inbox(X, 0.0)
    rig.dispatcher.add_worker(X, 0.0)
    rig.dispatcher.set_worker_state(X, STATE)
    await rig.read(with_asked(encode_call(Call(1, "m:f", *encode_arguments((), {}))), W))
    assert rig.client.answer("commit")[-1] == ("create", layout.assignment_path(X, CALL))


async def test_a_call_waits_a_second_while_the_workers_that_may_have_its_function_are_full() -> None:
    rig = Rig(new_dispatcher(CALL))
    await rig.step()
    rig.dispatcher.add_inbox(X, 0.0)
    for number in range(STATE.slots):
        rig.dispatcher.add_assignment(X, f"task-{number}")
    rig.dispatcher.add_worker(X, 0.0)
    rig.dispatcher.set_worker_state(X, STATE)

    assert await rig.read(with_asked(encode_call(Call(1, "m:f", *encode_arguments((), {}))), W)) == []
    rig.client.now = 0.99
    assert await rig.step() == []
    assert rig.dispatch.next_wakeup() == 1.0
    rig.client.now = 1.0
    assert await rig.step() == ["read"]


async def test_a_suspect_that_gets_no_worker_to_itself_is_decided_anew() -> None:
    rig = Rig(new_dispatcher(CALL, inbox=("task-long",)))
    await rig.step()
    payload = with_isolation(encode_call(Call(1, "m:f", *encode_arguments((), {}))))

    assert await rig.read(payload) == []
    assert rig.dispatcher.under_way == 0
    assert await rig.step() == []
    rig.dispatcher.remove_assignment(W, "task-long")
    assert await rig.step() == ["read"]
    assert await rig.read(payload) == ["commit"]


async def test_no_more_is_under_way_than_there_is_room_for() -> None:
    rig = Rig(new_dispatcher(*(f"task-{number}" for number in range(10))))
    assert rig.dispatch.room == MAX_UNDER_WAY
    await rig.step()

    assert rig.dispatch.room == MAX_UNDER_WAY - rig.dispatcher.under_way == MAX_UNDER_WAY - 4


# --- lost workers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_status", [True, False])
async def test_a_lost_workers_task_is_recovered_or_dropped_as_its_status_says(has_status: bool) -> None:
    rig = Rig(new_dispatcher(inbox=(TASK,), is_alive=False))
    assert await rig.step() == ["exists", "read"]
    rig.client.answer("exists", object() if has_status else None)
    assert await rig.read(b"payload") == ["commit"]

    commit = rig.client.answer("commit")
    deleted = ("delete", layout.assignment_path(W, TASK))
    put = ("check", layout.status_path(TASK)) if has_status else ("create", layout.task_path(TASK))
    assert set(commit) == {deleted, put}


async def test_a_lost_workers_task_stays_while_its_status_cannot_be_looked_for() -> None:
    rig = Rig(new_dispatcher(inbox=(TASK,), is_alive=False))
    await rig.step()
    rig.client.answer("exists", None, errors.NoAuth("status"))

    assert await rig.read(b"payload") == []
    rig.client.now = SET_ASIDE_SECONDS
    assert await rig.step() == ["exists", "read"]


@pytest.mark.parametrize(("before", "is_buried"), [(1, False), (3, True)])
async def test_the_losses_of_a_raw_task_are_counted_until_it_is_buried(before: int, is_buried: bool) -> None:
    rig = Rig(new_dispatcher(inbox=(TASK,), is_alive=False))
    for number in range(before):
        rig.recovery.move(f"worker-{number}", TASK, b"payload", has_status=False)
    await rig.step()
    rig.client.answer("exists")
    await rig.read(b"payload")
    commit = rig.client.answer("commit")

    assert (("create", layout.dead_path(TASK)) in commit) == is_buried
    assert rig.recovery.runs_alone(TASK, b"payload") != is_buried


async def test_an_inbox_that_is_not_empty_is_looked_at_again_later() -> None:
    rig = Rig(new_dispatcher(is_alive=False))
    rig.client.now = 60.0
    assert await rig.step() == ["delete"]
    rig.client.answer("delete", None, errors.NotEmpty("inbox"))
    assert await rig.step() == []
    rig.client.now += SET_ASIDE_SECONDS

    assert await rig.step() == ["delete"]
