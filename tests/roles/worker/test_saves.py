"""What becomes of a save, answer by answer: its caller, the payload, and the next start of the task."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from herdmaster.core import transitions
from herdmaster.core.payload import MAX_SAVED, Call, decode_call, encode_arguments, encode_call
from herdmaster.core.signing import Keyring
from herdmaster.errors import BadSignature, ConfigurationError, HerdError, NotSaved, SavedTooLarge
from herdmaster.roles.worker.held import Held, HeldTasks, State
from herdmaster.roles.worker.saves import Saves
from herdmaster.running.delivery import Delivered
from herdmaster.zookeeper import errors
from tests.roles.primary.scripted import ScriptedClient, ScriptedTransaction
from tests.roles.worker.test_commits import Inbox

TASK, W = "task-01arz3ndektsv4rrffq69g5fav.default", "worker-w"
PAYLOAD = encode_call(Call(1, "m:f", *encode_arguments((), {})))
KEYS = Keyring({"a": b"k" * 32})
COMPLETE = transitions.complete(W, TASK, b"done")


class Client(ScriptedClient):
    deadline = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def transaction(self) -> ScriptedTransaction:
        return Transaction(self)


class Transaction(ScriptedTransaction):
    def set(self, path: str, data: bytes, version: int) -> None:
        assert isinstance(self._client, Client)
        self._client.written.append(data)
        super().set(path, data, version)


class Rig:
    def __init__(self, keyring: Keyring | None = None, payload: bytes = PAYLOAD) -> None:
        self.client, self.tasks, self.inbox = Client(), HeldTasks(), Inbox()
        self.let_go: list[str] = []
        parts: Any = (self.client, W, self.tasks, self.inbox)
        self.saves = Saves(*parts, keyring=keyring, let_go=self._let_go, turn=self._turn)
        self.task = Delivered(TASK, payload, 1, decode_call(payload), saver=self.saves)
        self.held = self.tasks.add(self.task, 0.0)
        self.tasks.start(self.held)
        self.answers: list[bytes | HerdError] = []

    def _let_go(self, name: str) -> None:
        self.let_go.append(name)
        self.tasks.remove(name)

    def _turn(self) -> None:
        self.saves.send()

    async def save(self, name: str = "n", data: bytes = b"1", task: Delivered | None = None) -> None:
        self.saves.save(task or self.task, name, data, self.answer)
        await asyncio.sleep(0)

    def answer(self, answer: msgspec.Raw | HerdError) -> None:
        self.answers.append(answer if isinstance(answer, HerdError) else bytes(answer))

    @property
    def reason(self) -> str:
        (answer,) = self.answers
        assert isinstance(answer, NotSaved)
        return str(answer)

    @property
    def written(self) -> dict[str, bytes]:
        return saved_in(self.client.written[-1])

    @property
    def saved(self) -> dict[str, bytes]:
        return _plain(self.task.saved)

    def run_again(self) -> Held:
        self.tasks.wait(self.held)
        self.saves.send()
        return self.held


def saved_in(payload: bytes) -> dict[str, bytes]:
    return _plain(decode_call(payload).saved or {})


def _plain(saved: Mapping[str, msgspec.Raw]) -> dict[str, bytes]:
    return {name: bytes(data) for name, data in saved.items()}


async def test_the_caller_is_answered_when_the_assignment_has_the_result() -> None:
    rig = Rig()
    await rig.save()
    assert rig.written == {"n": b"1"}
    assert (rig.answers, rig.saved) == ([], {})
    rig.client.answer("commit")
    assert (rig.answers, rig.saved) == ([b"1"], {"n": b"1"})
    assert rig.saves.is_empty
    await rig.save("n", b"2")
    assert rig.answers == [b"1", b"1"], "the first result of a name counts"
    assert not rig.client.pending()


async def test_results_that_come_meanwhile_are_committed_together_afterwards() -> None:
    rig = Rig()
    await rig.save("a", b"1")
    await rig.save("b", b"2")
    await rig.save("c", b"3")
    await rig.save("a", b"4")
    assert rig.client.pending() == ["commit"]
    rig.client.answer("commit")
    assert rig.answers == [b"1", b"1"]
    assert rig.client.pending() == ["commit"]
    rig.client.answer("commit")
    assert rig.answers == [b"1", b"1", b"2", b"3"]
    assert rig.written == rig.saved == {"a": b"1", "b": b"2", "c": b"3"}


async def test_a_save_whose_reply_was_lost_is_sent_again_when_the_inbox_has_been_read() -> None:
    rig = Rig()
    await rig.save()
    rig.inbox.unread.add(TASK)
    rig.client.answer("commit", None, errors.ConnectionLoss("lost"))
    assert (rig.answers, rig.client.pending()) == ([], [])
    rig.inbox.unread.clear()
    rig.saves.send()
    rig.client.answer("commit")
    assert rig.answers == [b"1"]


async def test_an_assignment_that_is_gone_refuses_the_save() -> None:
    rig = Rig()
    await rig.save()
    rig.client.refuse(0, errors.NoNode("x"))
    assert "the task has left this worker" in rig.reason
    assert rig.let_go == [TASK]
    assert rig.saves.is_empty


async def test_a_task_that_leaves_the_inbox_fails_its_saves_before_the_reply() -> None:
    rig = Rig()
    await rig.save()
    rig.tasks.remove(TASK)
    rig.saves.send()
    assert "the task has left this worker" in rig.reason
    rig.client.answer("commit")
    assert len(rig.answers) == 1


async def test_the_next_delivery_of_a_task_has_nothing_to_do_with_the_saves_of_the_first() -> None:
    rig = Rig()
    await rig.save()
    rig.tasks.remove(TASK)
    again = Delivered(TASK, PAYLOAD, 2, decode_call(PAYLOAD), saver=rig.saves)
    rig.tasks.start(rig.tasks.add(again, 0.0))
    await rig.save("m", b"2", again)
    assert "the task has left this worker" in rig.reason
    await rig.save("m", b"2")
    assert len(rig.answers) == 2, "code of the first delivery, which still runs"
    rig.client.answer("commit")  # of the first
    rig.client.answer("commit")
    assert rig.answers[2:] == [b"2"]
    assert saved_in(again.payload) == rig.written == {"m": b"2"}


async def test_a_result_that_zookeeper_refuses_is_not_saved_and_not_found_by_later_runs() -> None:
    rig = Rig()
    await rig.save("a", b"1")
    rig.client.answer("commit")
    rig.answers.clear()
    await rig.save("b", b"2")
    rig.client.refuse(0, errors.NoAuth("x"))
    assert "ZooKeeper refused" in rig.reason
    assert saved_in(rig.task.payload) == {"a": b"1"}
    assert not rig.let_go


async def test_the_end_of_the_session_answers_all() -> None:
    rig = Rig()
    await rig.save()
    rig.client.answer("commit", None, errors.SessionExpired("over"))
    assert not rig.answers
    rig.saves.close()
    assert "the session of its worker is over" in rig.reason
    rig.answers.clear()
    await rig.save("m", b"2")
    assert "the session of its worker is over" in rig.reason
    with pytest.raises(NotSaved, match="session of its worker is over"):
        rig.saves.may_begin_once(rig.task)


async def test_a_run_that_was_ended_saves_nothing_more_but_its_results_go_with_the_task() -> None:
    rig = Rig()
    await rig.save()
    rig.tasks.finish(rig.held, COMPLETE)
    assert rig.tasks.begin_commits(rig.inbox.is_read) == [], "the move waits for the save"
    rig.client.answer("commit")
    assert rig.answers == [b"1"]
    await rig.save("m", b"2")
    assert "its run was ended" in str(rig.answers[-1])
    assert rig.tasks.begin_commits(rig.inbox.is_read) == [COMPLETE]
    assert saved_in(rig.task.payload) == {"n": b"1"}


async def test_a_task_is_not_started_again_before_its_results_are_committed() -> None:
    rig = Rig()
    rig.inbox.unread.add(TASK)  # the connection is lost
    await rig.save()
    held = rig.run_again()
    assert "its run was ended" in rig.reason
    rig.inbox.unread.clear()
    rig.saves.send()
    assert rig.client.pending() == ["commit"]
    assert held.state is State.WAITING
    assert TASK in rig.tasks.requests
    rig.client.answer("commit")
    assert TASK not in rig.tasks.requests
    assert rig.saved == {"n": b"1"}


async def test_the_mark_of_a_start_stays() -> None:
    rig = Rig()
    rig.held.marked = True
    await rig.save()
    assert decode_call(rig.client.written[0]).started == W
    assert decode_call(rig.task.payload).started is None, "what is handed back has not started elsewhere"


async def test_results_that_have_no_room_are_refused_and_change_nothing() -> None:
    rig = Rig()
    await rig.save("n", b'"%s"' % (b"x" * MAX_SAVED))
    assert isinstance(rig.answers[0], SavedTooLarge)
    assert rig.task.payload == PAYLOAD


async def test_the_worker_signs_what_it_saves() -> None:
    signed = KEYS.sign_task(TASK, PAYLOAD)
    rig = Rig(KEYS, signed)
    await rig.save()
    KEYS.verify_task(TASK, rig.client.written[0])

    without = Rig(None, signed)
    with pytest.raises(ConfigurationError, match="has to sign them"):
        without.saves.may_begin_once(without.task)
    await without.save()
    assert isinstance(without.answers[0], ConfigurationError)
    other = Rig(Keyring({"b": b"o" * 32}), signed)
    await other.save()
    assert isinstance(other.answers[0], BadSignature)

    unsigned = Rig(KEYS, PAYLOAD)
    await unsigned.save()
    assert b"signature" not in unsigned.client.written[0]


async def test_nothing_is_begun_while_the_session_may_be_over() -> None:
    rig = Rig()
    assert rig.saves.may_begin_once(rig.task)
    rig.client.now = rig.client.deadline
    assert not rig.saves.may_begin_once(rig.task)
    rig.tasks.wait(rig.held)
    with pytest.raises(NotSaved, match="its run was ended"):
        rig.saves.may_begin_once(rig.task)
    rig.tasks.remove(TASK)
    with pytest.raises(NotSaved, match="has left this worker"):
        rig.saves.may_begin_once(rig.task)


def test_a_forked_process_saves_nothing_and_waits_for_nothing() -> None:
    rig = asyncio.run(_make_rig())
    pid = os.fork()
    if pid == 0:
        try:
            rig.saves.may_begin_once(rig.task)
        except NotSaved:
            try:
                rig.saves.save(rig.task, "n", b"1", rig.answer)
            except NotSaved:
                os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


async def _make_rig() -> Rig:
    return Rig()
