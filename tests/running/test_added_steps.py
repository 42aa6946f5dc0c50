"""The steps that the code of a step adds: in threads, coroutines and chunks, and on the way out of a process."""

from __future__ import annotations

import contextvars
import threading

import msgspec
import pytest

from herdmaster.core.added_steps import MAX_ADDED, AddedStep, check_room
from herdmaster.core.flows import FlowStep
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.retry import Raised
from herdmaster.core.run import ChunkRan, Ending, Returned, Run, decode_run, encode_run
from herdmaster.errors import ConfigurationError
from herdmaster.running.added_steps import AddedSteps, added_now
from herdmaster.running.child import Handover, Reporter, run_handover
from herdmaster.running.delivery import Delivered
from herdmaster.running.invocation import invoke, invoke_async
from herdmaster.running.program import Program
from herdmaster.running.registration import DEFAULT_OPTIONS, Function

FLOW = FlowStep("flow-01h00000000000000000000000", "3", "m:f", "task-a")


def add(payload: bytes = b"payload") -> str:
    """Add a step as `fn.step()` does."""
    added = added_now.get()
    step = added.new_id()
    added.add(AddedStep(step, f"task-{step}", payload))
    return step


def add_two() -> list[str]:
    return [add(), add()]


async def add_one() -> str:
    return add()


def add_and_fail() -> None:
    add()
    raise ValueError


def add_on_thread() -> None:
    thread = threading.Thread(target=contextvars.copy_context().run, args=(add,))
    thread.start()
    thread.join()


def add_too_many() -> str:
    try:
        while True:
            add(b"")
    except ConfigurationError:
        return "as if nothing had happened"


def run(function: Function, *, chunk: bool = False, flow: FlowStep | None = FLOW) -> Ending:
    call = Call(1, "m:f", *encode_arguments(([1, 2],) if chunk else (), {}), chunk=chunk, flow=flow)
    callee = Program({"m:f": function}).find("m:f")
    assert callee is not None
    return invoke(Delivered("task-a", b"", 1, call, callee), callee, call)


def ids(ending: Ending) -> list[str]:
    assert isinstance(ending, (Returned, ChunkRan))
    return [each.step for each in ending.steps]


def test_the_steps_that_the_code_adds_come_with_its_result() -> None:
    ending = run(add_two)
    assert isinstance(ending, Returned)
    assert ending.result == msgspec.Raw(b'["3+0","3+1"]')
    assert ids(ending) == ["3+0", "3+1"]
    assert ids(run(add_on_thread)) == ["3+0"]
    assert ids(run(lambda _element: add_two(), chunk=True)) == ["3+0", "3+1", "3+2", "3+3"]
    assert ids(run(lambda: None)) == []
    assert added_now.get(None) is None


async def test_a_coroutine_adds_steps() -> None:
    call = Call(1, "m:f", *encode_arguments((), {}), flow=FLOW)
    callee = Program({"m:f": add_one}).find("m:f")
    assert callee is not None
    assert ids(await invoke_async(Delivered("task-a", b"", 1, call, callee), callee, call)) == ["3+0"]
    assert added_now.get(None) is None


def test_a_process_sends_them_with_its_result() -> None:
    payload = encode_call(Call(1, "m:f", *encode_arguments((), {}), flow=FLOW))
    program = Program({"m:f": add_two})
    found = run_handover(program, Handover("task-a", payload, DEFAULT_OPTIONS, 0), Reporter(lambda _: None), bytes)
    assert decode_run(encode_run(found)) == found
    assert ids(found.ending) == ["3+0", "3+1"]


def test_a_run_that_fails_adds_nothing_and_the_next_one_counts_anew() -> None:
    assert isinstance(run(add_and_fail), Raised)
    assert ids(run(add_two)) == ["3+0", "3+1"]


def test_a_run_that_adds_too_many_steps_fails_whatever_its_code_does() -> None:
    ending = run(add_too_many)
    assert isinstance(ending, Raised)
    assert ending.is_final
    assert f"at most {MAX_ADDED} steps" in ending.error.message


def test_a_step_outside_of_a_running_step_has_no_flow() -> None:
    assert run(lambda: added_now.get(None) is None, flow=None) == Returned(msgspec.Raw(b"true"))


def test_ids_are_given_once_also_to_several_threads() -> None:
    added = AddedSteps(FLOW)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.extend(added.new_id() for _ in range(100))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 400


def test_what_was_returned_without_steps_is_written_as_before() -> None:
    assert encode_run(Run(Returned(), 0, 0)) == b'{"ending":{"type":"returned"},"started":0,"ended":0}'
    with pytest.raises(ConfigurationError):
        check_room(MAX_ADDED + 1, 0)
