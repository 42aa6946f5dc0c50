"""What steps refer to, read reply by reply: how much at a time, and for whom."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from herdmaster.core.expansion import StepArgs
from herdmaster.core.flows import FlowStep, Reference, step_task
from herdmaster.core.inputs import Input
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call
from herdmaster.errors import BadOutcome, HerdError
from herdmaster.roles.worker import references
from herdmaster.roles.worker.held import Held, HeldTasks
from herdmaster.roles.worker.references import References
from herdmaster.roles.worker.steps import Steps
from herdmaster.running.delivery import Delivered
from tests.roles.primary.scripted import ScriptedClient

FLOW = "flow-01arz3ndektsv4rrffq69g5fav"


def result(size: int) -> bytes:
    return encode_outcome(f"{FLOW}/0", Outcome(OutcomeState.DONE, msgspec.Raw(b'"%b"' % (b"x" * size))))


class Rig:
    """Steps that take the results of steps 0 and 00. `told` has what became of each."""

    def __init__(self) -> None:
        self.client, self.tasks = ScriptedClient(), HeldTasks()
        self.told: list[tuple[str, str]] = []
        client: Any = self.client
        self.references = References(client, self.tasks, None, self)

    def read(self, step: str) -> Held:
        task = step_task(1, FLOW, step, "default", 5)
        refs = tuple(Reference(("args", at), parent) for at, parent in enumerate(("0", "00")))
        call = Call(1, "m:f", *encode_arguments((None, None), {}), flow=FlowStep(FLOW, step, "f", task, refs=refs))
        held = self.tasks.add(Delivered(task, encode_call(call), 1, decode_call(encode_call(call))), 0.0)
        self.references.read(held)
        return held

    async def send(self) -> list[str]:
        self.references.send()
        await asyncio.sleep(0)  # what the steps of one turn want is read together
        return self.client.pending()

    def inputs_read(self, held: Held, inputs: tuple[Input, ...]) -> None:
        self.told.append((held.task.name, "read"))

    def inputs_unreadable(self, held: Held, error: HerdError) -> None:
        self.told.append((held.task.name, str(error)))

    def step_gone(self, held: Held) -> None:
        self.told.append((held.task.name, "gone"))


async def test_a_step_that_has_left_meanwhile_is_told_nothing() -> None:
    rig = Rig()
    left, stays = rig.read("1"), rig.read("2")
    assert await rig.send() == ["read"]
    rig.tasks.remove(left.task.name)
    rig.client.answer_read(*[result(9)] * 4)
    assert rig.told == [(stays.task.name, "read")]


async def test_what_is_read_for_other_steps_counts_before_one_more_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "MAX_INPUTS", 1000)
    monkeypatch.setattr(references, "_SLICE", 1)
    rig = Rig()
    for step in "12":
        rig.read(step)
    assert await rig.send() == ["read"]
    rig.client.answer_read(*[result(700)] * 2)
    later = rig.read("3")
    assert await rig.send() == ["read"]
    rig.client.answer_read(*[result(100)] * 2)
    assert len(rig.told) == 2, "their second results have come"
    assert await rig.send() == ["read"]
    rig.client.answer_read(result(9))
    await asyncio.sleep(0)
    rig.client.answer_read(result(9))
    assert rig.told[-1] == (later.task.name, "read")


@pytest.mark.parametrize("has_left", [False, True])
async def test_an_each_that_has_left_while_its_list_was_split_is_told_nothing(*, has_left: bool) -> None:
    rig, followed = Rig(), list[Held]()
    session: Any = SimpleNamespace(follow=lambda held, _move: followed.append(held), turn=lambda: None)
    moves: Any = SimpleNamespace(refuse=lambda _task, _error: None)
    nothing: Any = SimpleNamespace(signed_only=None)
    client: Any = rig.client
    steps = Steps(client, "worker-w", rig.tasks, session, program=nothing, executor=nothing, moves=moves)
    held = rig.read("1")
    split: asyncio.Future[StepArgs] = asyncio.get_running_loop().create_future()
    split.set_exception(BadOutcome("it is no list"))
    if has_left:
        rig.tasks.remove(held.task.name)
    steps._was_split(held, split)
    assert followed == ([] if has_left else [held])
