from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from herdmaster.core import layout, schedule_moves, transitions
from herdmaster.core.schedule_decisions import NextTick
from herdmaster.core.schedules import Tick
from herdmaster.core.table import TransitionName, Verdict
from herdmaster.core.transitions import Move
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.roles.shared.committer import MAX_BATCH_BYTES, MAX_BATCH_MOVES, Committer, Fate, Gathering, Settlement
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Transaction
from herdmaster.zookeeper.model import READ_ONLY_ACL
from herdmaster.zookeeper.wire.opcodes import OpCode
from tests.proxy import Proxy, multi_with, request_of
from tests.roles.primary.scripted import ScriptedClient
from tests.roles.stage import Stage, end_session, until

W, X = "worker-w", "worker-x"
NAMES = [f"task-{number:010d}" for number in range(100)]


class Settled:
    def __init__(self) -> None:
        self.all: list[Settlement] = []

    def __call__(self, settlement: Settlement) -> None:
        self.all.append(settlement)

    def fate(self, task: str) -> tuple[Fate, Verdict | None]:
        (found,) = (each for each in self.all if each.move.task == task)
        return found.fate, found.verdict

    @property
    def fates(self) -> set[tuple[Fate, Verdict | None]]:
        return {(each.fate, each.verdict) for each in self.all}


class CountingClient:
    """A client whose transactions are counted. The server's zxid counts those of others too: sessions that lapse."""

    def __init__(self, client: Client) -> None:
        self.transactions = 0
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transaction(self) -> Transaction:
        self.transactions += 1
        return self._client.transaction()


async def commit(client: Any, *moves: Move) -> Settled:
    settled = Settled()
    Committer(client).commit(moves, settled)
    await until(lambda: len(settled.all) == len(moves), "every move to be settled once")
    return settled


@pytest.fixture
async def scene(stage: Stage) -> Stage:
    """Two inboxes, a live worker, and a hundred tasks."""
    await make_folders(stage.zk)
    await stage.put(f"/workers/{W}", f"/assign/{W}", f"/assign/{X}", *(f"/tasks/{name}" for name in NAMES))
    return stage


def assign_all(worker: str = W) -> list[Move]:
    return [transitions.assign(name, worker, b"payload") for name in NAMES]


COMMITTED = (Fate.COMMITTED, None)


async def test_a_hundred_moves_are_one_transaction(scene: Stage) -> None:
    settled = await commit(scene.zk, *assign_all())

    assert settled.fates == {COMMITTED}
    created = {(await scene.zk.exists(f"/assign/{W}/{name}")).czxid for name in NAMES}  # type: ignore[union-attr]
    assert len(created) == 1


async def test_one_bad_item_in_a_batch_of_a_hundred_fails_alone(scene: Stage) -> None:
    await scene.zk.delete(f"/tasks/{NAMES[41]}")
    settled = await commit(scene.zk, *assign_all())

    assert settled.fate(NAMES[41]) == (Fate.REFUSED, Verdict.RACE_LOST)
    assert sum(each.fate is Fate.COMMITTED for each in settled.all) == 99
    assert await scene.names(f"/assign/{W}") == [name for name in NAMES if name != NAMES[41]]
    assert await scene.names(layout.TASKS) == []


async def test_several_bad_items_fail_alone_each_with_its_own_reason(scene: Stage) -> None:
    moves = assign_all()
    await scene.zk.delete(f"/tasks/{NAMES[3]}")
    await scene.put(f"/assign/{W}/{NAMES[50]}", f"/status/{NAMES[70]}")
    moves[70] = transitions.refuse(NAMES[70], b"failed")
    moves[99] = transitions.assign(NAMES[99], "worker-absent", b"payload")
    settled = await commit(scene.zk, *moves)

    assert settled.fate(NAMES[3]) == (Fate.REFUSED, Verdict.RACE_LOST)
    assert settled.fate(NAMES[50]) == (Fate.REFUSED, Verdict.DROP_TASK_ASSIGNED)
    assert settled.fate(NAMES[70]) == (Fate.REFUSED, Verdict.DROP_TASK_ENDED)
    assert settled.fate(NAMES[99]) == (Fate.REFUSED, Verdict.CHOOSE_ANOTHER_WORKER)
    assert sum(each.fate is Fate.COMMITTED for each in settled.all) == 96


async def test_only_no_node_at_the_guards_own_index_means_that_the_race_is_lost(scene: Stage) -> None:
    await scene.put(f"/workers/{X}")
    await scene.zk.delete(f"/assign/{X}")
    # The same error, NoNode, at three different operations.
    no_guard = await commit(scene.zk, transitions.assign("task-absent", W, b""))
    no_inbox = await commit(scene.zk, transitions.assign(NAMES[0], X, b""))
    no_worker = await commit(scene.zk, transitions.assign(NAMES[0], "worker-absent", b""))

    assert no_guard.fates == {(Fate.REFUSED, Verdict.RACE_LOST)}
    assert no_inbox.fates == no_worker.fates == {(Fate.REFUSED, Verdict.CHOOSE_ANOTHER_WORKER)}
    assert await scene.exists(f"/tasks/{NAMES[0]}")


async def test_a_worker_that_is_gone_is_learned_of_once_for_all_of_its_tasks(scene: Stage) -> None:
    await scene.zk.delete(f"/workers/{W}")
    await scene.put(f"/workers/{X}")
    moves = [transitions.assign(name, (W, X)[number % 2], b"") for number, name in enumerate(NAMES)]
    client = CountingClient(scene.zk)
    settled = await commit(client, *moves)

    assert settled.fate(NAMES[0]) == (Fate.REFUSED, Verdict.CHOOSE_ANOTHER_WORKER)
    assert settled.fate(NAMES[1]) == COMMITTED
    assert await scene.names(f"/assign/{X}") == NAMES[1::2]
    assert client.transactions == 2  # the batch, and what is left of it


async def test_an_inbox_that_is_gone_is_learned_of_once_for_all_of_its_tasks(scene: Stage) -> None:
    await scene.put(f"/workers/{X}")
    await scene.zk.delete(f"/assign/{X}")
    client = CountingClient(scene.zk)
    settled = await commit(client, *assign_all(X))

    assert settled.fates == {(Fate.REFUSED, Verdict.CHOOSE_ANOTHER_WORKER)}
    assert client.transactions == 1


async def test_status_exists_already_says_drop_the_assignment(scene: Stage) -> None:
    await scene.put(f"/assign/{W}/task-1", "/status/task-1")
    settled = await commit(scene.zk, transitions.complete(W, "task-1", b"done"))

    assert settled.fates == {(Fate.REFUSED, Verdict.DROP_ASSIGNMENT)}
    assert await scene.exists(f"/assign/{W}/task-1")


async def test_tasks_exists_already_says_keep_the_assignment_and_try_later(scene: Stage) -> None:
    await scene.put(f"/assign/{W}/{NAMES[0]}")
    settled = await commit(scene.zk, transitions.recover(W, NAMES[0], b""))

    assert settled.fates == {(Fate.REFUSED, Verdict.KEEP_AND_TRY_LATER)}


async def test_what_nothing_of_the_protocol_explains_is_set_aside_and_does_no_harm(
    scene: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.put(f"/tasks/{NAMES[7]}/child")  # so it cannot be deleted
    settled = await commit(scene.zk, *assign_all())

    assert settled.fate(NAMES[7]) == (Fate.REFUSED, Verdict.UNEXPECTED)
    assert sum(each.fate is Fate.COMMITTED for each in settled.all) == 99
    assert any(NAMES[7] in message and "NotEmpty" in message for message in caplog.messages)


async def test_an_operation_that_may_not_be_done_is_unexpected(scene: Stage) -> None:
    await scene.zk.set_acl(f"/assign/{W}", READ_ONLY_ACL)
    settled = await commit(scene.zk, transitions.assign(NAMES[0], W, b""))

    assert settled.fates == {(Fate.REFUSED, Verdict.UNEXPECTED)}
    assert await scene.exists(f"/tasks/{NAMES[0]}")


async def test_a_move_that_is_too_large_is_refused_alone_and_the_connection_stays(scene: Stage) -> None:
    moves = [
        transitions.assign(NAMES[0], W, b"x"),
        transitions.assign(NAMES[1], W, b"x" * 1_048_575),
        transitions.assign(NAMES[2], W, b"x"),
    ]
    settled = await commit(scene.zk, *moves)

    assert [settled.fate(name) for name in NAMES[:3]] == [COMMITTED, (Fate.REFUSED, Verdict.UNEXPECTED), COMMITTED]


@pytest.mark.parametrize(("size", "count", "frames"), [(1, 400, 2), (20_000, 60, 10), (300_000, 4, 4)])
async def test_batches_are_bounded_in_moves_and_in_bytes(
    namespace: str, scene: Stage, size: int, count: int, frames: int
) -> None:
    names = [f"task-x{number}" for number in range(count)]
    await scene.put(*(f"/tasks/{name}" for name in names))
    sizes: list[int] = []

    def remember(opcode: int, body: bytes) -> bool:
        if opcode == OpCode.MULTI:
            sizes.append(len(body))
        return False

    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as client:
        proxy.lose_request(remember)
        settled = await commit(client, *(transitions.assign(name, W, b"x" * size) for name in names))

    assert settled.fates == {COMMITTED}
    assert len(sizes) == frames
    assert max(sizes) <= max(MAX_BATCH_BYTES, size + 1000)
    assert count / frames <= MAX_BATCH_MOVES


@pytest.mark.parametrize("lose", [Proxy.lose_request, Proxy.lose_reply], ids=["before", "after"])
async def test_connection_loss_is_never_guessed_at(
    namespace: str, scene: Stage, lose: Callable[[Proxy, Callable[[int, bytes], bool]], object]
) -> None:
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as client:
        lose(proxy, multi_with(f"/tasks/{NAMES[0]}"))
        settled = await commit(client, *assign_all())

        assert settled.fates == {(Fate.UNKNOWN, None)}
        # What each move's own guard says then is the truth.
        again = await commit(client, *assign_all())
    applied = lose is Proxy.lose_reply
    assert again.fates == ({(Fate.REFUSED, Verdict.RACE_LOST)} if applied else {COMMITTED})


async def test_what_was_never_sent_goes_out_after_the_reconnect(namespace: str, scene: Stage) -> None:
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as client:
        proxy.refuse()
        await until(lambda: client.state.value == "disconnected", "the loss of the connection")
        settled = Settled()
        Committer(client).commit(assign_all(), settled)
        proxy.refuse(refusing=False)
        await until(lambda: len(settled.all) == 100, "every move to be settled")

    assert settled.fates == {COMMITTED}


async def test_after_the_sessions_end_every_move_is_settled_as_such(namespace: str, scene: Stage) -> None:
    async with Client(namespace, session_timeout=2.0) as client:
        await end_session(client, namespace)
        await until(lambda: client.state.is_final, "the client to know")
        settled = await commit(client, *assign_all())

    assert settled.fates == {(Fate.SESSION_OVER, None)}


async def test_a_checked_node_is_checked_once_per_transaction(namespace: str, scene: Stage) -> None:
    bodies: list[bytes] = []

    def remember(opcode: int, body: bytes) -> bool:
        bodies.append(body)
        return False

    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as client:
        proxy.lose_request(remember)
        await commit(client, *assign_all())

    (transaction,) = (body for body in bodies if b"/tasks/" in body)
    assert transaction.count(f"/workers/{W}".encode()) == 1


async def test_checks_of_versions_are_made_for_each_move(scene: Stage) -> None:
    ticks = [layout.TickName(number, "0a1b2c3d", "nightly") for number in range(4)]
    await scene.put(layout.schedule_path("nightly"), *map(layout.tick_path, ticks[:2]))
    moves = [
        schedule_moves.skip_tick(ticks[version], version, NextTick(ticks[version + 2], Tick())) for version in (1, 0)
    ]
    settled = await commit(scene.zk, *moves)

    assert settled.fate(layout.tick_name(ticks[1])) == (Fate.REFUSED, Verdict.DECIDE_AGAIN)
    assert settled.fate(layout.tick_name(ticks[0])) == (Fate.COMMITTED, None)


async def test_the_end_of_one_move_may_begin_another(scene: Stage) -> None:
    committer = Committer(scene.zk)
    ended: list[TransitionName] = []

    def settle(settlement: Settlement) -> None:
        ended.append(settlement.move.transition)
        if settlement.move.transition is TransitionName.ASSIGN:
            committer.commit((transitions.complete(W, settlement.move.task, b"done"),), settle)

    committer.commit((transitions.assign(NAMES[0], W, b""),), settle)
    await scene.until_exists(f"/status/{NAMES[0]}")
    assert ended[0] is TransitionName.ASSIGN
    await until(lambda: ended == [TransitionName.ASSIGN, TransitionName.COMPLETE], "both to be settled")


async def test_the_proxy_tells_a_lost_request_from_a_lost_reply(namespace: str, scene: Stage) -> None:
    async with Proxy(namespace) as proxy, Client(proxy.hosts, session_timeout=4.0) as client:
        lost = proxy.lose_request(request_of(OpCode.CREATE, "/tasks/task-a"))
        with pytest.raises(errors.ConnectionLoss):
            await client.create("/tasks/task-a")
        assert lost.happened.is_set()
        assert not await scene.exists("/tasks/task-a")

        lost = proxy.lose_reply(request_of(OpCode.CREATE, "/tasks/task-b"))
        with pytest.raises(errors.ConnectionLoss):
            await client.create("/tasks/task-b")
        assert lost.happened.is_set()
        assert await scene.exists("/tasks/task-b")


async def test_moves_that_follow_from_replies_of_one_turn_are_committed_together() -> None:
    batches: list[list[Move]] = []
    gathering = Gathering(batches.append)
    moves = assign_all()
    for move in moves[:3]:
        gathering.add(move)
    assert batches == []
    await asyncio.sleep(0)
    gathering.add(moves[3])
    await asyncio.sleep(0)

    assert batches == [moves[:3], moves[3:4]]


# --- reply by reply --------------------------------------------------------------------------------------------------


def committed_by(client: ScriptedClient, *moves: Move) -> Settled:
    settled = Settled()
    given: Any = client
    Committer(given).commit(moves, settled)
    return settled


def test_what_cannot_be_sent_together_is_sent_one_by_one() -> None:
    client = ScriptedClient()
    settled = committed_by(client, *assign_all()[:3])
    client.answer("commit", None, errors.RequestTooLarge("all"))
    assert client.pending() == ["commit"] * 3
    client.answer("commit")
    client.answer("commit", None, errors.RequestTooLarge("one"))
    client.answer("commit")

    assert [settled.fate(name) for name in NAMES[:3]] == [COMMITTED, (Fate.REFUSED, Verdict.UNEXPECTED), COMMITTED]


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (errors.ConnectionLoss(), Fate.UNKNOWN),
        (errors.SessionExpired("over"), Fate.SESSION_OVER),
        (errors.AuthenticationFailed("no"), Fate.SESSION_OVER),
    ],
)
def test_every_move_of_a_batch_shares_a_fate_that_no_move_caused(error: Exception, fate: Fate) -> None:
    client = ScriptedClient()
    settled = committed_by(client, *assign_all()[:3])
    client.answer("commit", None, error)

    assert client.pending() == []
    assert [each.fate for each in settled.all] == [fate] * 3


def test_the_others_of_a_refused_batch_are_sent_together_and_after_a_second_refusal_one_by_one() -> None:
    client = ScriptedClient()
    settled = committed_by(client, *assign_all()[:5])
    for number, pending in ((0, 1), (1, 3)):
        paths = [path for _, path in client.calls[0][1]]
        client.refuse(paths.index(layout.task_path(NAMES[number])), errors.NoNode("task"))
        assert client.pending() == ["commit"] * pending
    for _ in range(3):
        client.answer("commit")

    lost = (Fate.REFUSED, Verdict.RACE_LOST)
    assert [settled.fate(name) for name in NAMES[:5]] == [lost, lost, COMMITTED, COMMITTED, COMMITTED]
