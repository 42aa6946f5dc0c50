"""Calls a function with the arguments of a call, and describes how that ended.

One coroutine serves plain functions and `async def` ones. With a plain function it never waits, so it runs without an
event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from types import CoroutineType
from typing import NoReturn, cast

import msgspec

from herdmaster import forks
from herdmaster.core.chunk import split_chunk
from herdmaster.core.codec import read_arguments, write_result
from herdmaster.core.failure import ErrorInfo, error_info
from herdmaster.core.flows import FlowStep
from herdmaster.core.kept import NONE_KNOWN, Known
from herdmaster.core.options import PoolKind
from herdmaster.core.payload import Call
from herdmaster.core.retry import Raised, raised, refused
from herdmaster.core.run import ChunkRan, Ending, ItemRun, Lacking, Returned
from herdmaster.errors import (
    BadPayload,
    ConfigurationError,
    HerdError,
    NotSerializable,
    SavedTooLarge,
    SoftTimeLimitExceeded,
    UnknownCall,
    WrongArguments,
)
from herdmaster.running.added_steps import AddedSteps, added_now
from herdmaster.running.current import ProgressReport, Running, running_now
from herdmaster.running.hooks import call_after, call_before, call_on_error
from herdmaster.running.program import Callee
from herdmaster.running.spool import SpoolReader

_REFUSED = (BadPayload, WrongArguments, ConfigurationError, NotSerializable)
"""Errors that Herdmaster itself raises about a call, before or after its code. Every attempt would raise them."""

Outcome = tuple[Ending, object]
"""How a call ended, and its result or exception for the hooks."""


def invoke(running: Running, callee: Callee, call: Call) -> Ending:
    """Run a plain function. Raises only the MemoryError of a task with a memory limit, whose process must not be used
    again."""
    token = running_now.set(running)
    try:
        _run(running, callee, call).send(None)
    except StopIteration as end:
        return cast("Outcome", end.value)[0]
    finally:
        running_now.reset(token)
    raise AssertionError("a plain function waited for an event loop")


async def invoke_async(running: Running, callee: Callee, call: Call) -> Ending:
    """As `invoke`, for an `async def` as well. Also raises the CancelledError that ends one."""
    token = running_now.set(running)
    try:
        return (await _run(running, callee, call))[0]
    finally:
        running_now.reset(token)


def _run(running: Running, callee: Callee, call: Call) -> Coroutine[object, None, Outcome]:
    run = _run_items if call.chunk else _run_one
    if call.flow is not None:
        run = partial(_run_step, run, call.flow)
    return _run_watched(run, running, callee, call) if callee.program.is_watched else run(running, callee, call)


_Run = Callable[[Running, Callee, Call], Awaitable[Outcome]]


async def _run_step(run: _Run, flow: FlowStep, running: Running, callee: Callee, call: Call) -> Outcome:
    """Run a step of a flow, and gather the steps that its code adds."""
    added = AddedSteps(flow)
    token = added_now.set(added)
    try:
        ending, value = await run(running, callee, call)
    finally:
        added_now.reset(token)
    if not isinstance(ending, (Returned, ChunkRan)):
        return ending, value
    try:
        steps = added.take()
    except ConfigurationError as error:
        return refused(error), error
    return (msgspec.structs.replace(ending, steps=steps) if steps else ending), value


async def _run_watched(run: _Run, running: Running, callee: Callee, call: Call) -> Outcome:
    """Run a call within its span and between its hooks, as far as there are any."""
    program = callee.program
    if program.spans is None:
        return await _run_between_hooks(run, running, callee, call)
    with program.spans.process(running.name, call, is_async=callee.is_async) as attempt:
        if program.has_task_hooks:
            ending, value = await _run_between_hooks(run, running, callee, call)
        else:
            ending, value = await run(running, callee, call)
        error = _error_in(ending)
        if error is not None:
            attempt.fail(error, value)
    return ending, value


def _error_in(ending: Ending) -> str | None:
    """Return the type of the error that an attempt ended with; of a chunk, that of the first item that failed."""
    if isinstance(ending, Raised):
        return ending.error.type
    if isinstance(ending, ChunkRan):
        return next((item.raised.error.type for item in ending.items if item.raised is not None), None)
    if isinstance(ending, Lacking):
        return UnknownCall.__name__ if ending.is_function else WrongArguments.__name__
    return None


async def _run_between_hooks(run: _Run, running: Running, callee: Callee, call: Call) -> Outcome:
    hooks = callee.program.hooks
    hook_claim = running.hook_claim  # of this run: a later run of the task has another one
    call_before(hooks, running)
    ending, value = await run(running, callee, call)
    if isinstance(ending, (Returned, ChunkRan)):
        if hook_claim is None or not hook_claim.is_taken:
            call_after(hooks, running, value)
    elif isinstance(ending, Raised) and isinstance(value, BaseException) and (hook_claim is None or hook_claim.take()):
        call_on_error(hooks, running, value)
        ending = msgspec.structs.replace(ending, hook_called=True)
    return ending, value


async def _run_one(running: Running, callee: Callee, call: Call) -> Outcome:
    codecs = callee.program.codecs
    generation = forks.generation
    is_called = False
    try:
        function = callee.function
        args, kwargs = read_arguments(call, callee.signature, codecs, SpoolReader)
        is_called = True
        result = function(*args, **kwargs)
        if callee.is_async:
            result = await cast("Awaitable[object]", result)
        is_called = False
        if type(result) is CoroutineType:
            _refuse_coroutine(callee.call, result)
        returned = Returned(write_result(result, call, codecs))
    except BaseException as error:  # also SystemExit: a task does not end its worker
        if forks.generation != generation:
            forks.end(error)
        if _is_for_the_pool(error, running, callee):
            raise
        if not is_called and isinstance(error, UnknownCall):
            return Lacking(str(error)), error
        if not is_called and isinstance(error, WrongArguments) and error.lacks_parameter:
            return Lacking(str(error), is_function=False), error
        if (not is_called and isinstance(error, _REFUSED)) or _is_of_once(error):
            return refused(cast("HerdError", error)), error
        return describe(error, callee.known), error
    if forks.generation != generation:
        forks.end()
    return returned, result


def _refuse_coroutine(call: str, result: CoroutineType[object, None, object]) -> NoReturn:
    result.close()  # else Python warns that it was never awaited
    raise NotSerializable(
        f"{call} returned the coroutine {result.__qualname__}, which nothing awaits, so its code has not run: await it "
        "in an `async def`, or make the decorator that returns it an `async def`"
    )


async def _run_items(running: Running, callee: Callee, call: Call) -> Outcome:
    try:
        calls = split_chunk(call)
    except BadPayload as error:
        return refused(error), error
    items: list[ItemRun] = []
    values: list[object] = []
    for each in calls:
        running.item = len(items)
        running.report_progress(ProgressReport(len(items), len(calls)))
        ending, value = await _run_one(running, callee, each)
        if isinstance(ending, Returned):
            items.append(ItemRun(ending.result))
        elif isinstance(ending, Raised) and not isinstance(value, SoftTimeLimitExceeded):
            items.append(ItemRun(raised=ending))
        elif items and isinstance(value, WrongArguments):  # other items were run, so this item is at fault
            items.append(ItemRun(raised=refused(value)))
        else:
            return ending, value  # it concerns all items
        values.append(value)
    running.item = None
    return ChunkRan(tuple(items)), values


def _is_of_once(error: BaseException) -> bool:
    """Return whether the error says that a result cannot be saved. Every further attempt would call its function
    again."""
    return isinstance(error, SavedTooLarge) or (isinstance(error, NotSerializable) and error.is_of_once)


def _is_for_the_pool(error: BaseException, running: Running, callee: Callee) -> bool:
    if isinstance(error, MemoryError):
        return running.options.pool is PoolKind.PROCESS and running.options.memory_limit is not None
    is_cancelled = isinstance(error, asyncio.CancelledError) and not isinstance(error, SoftTimeLimitExceeded)
    return is_cancelled and callee.is_async


def describe(error: BaseException, known: Known = NONE_KNOWN) -> Raised:
    """Describe what a task's code raised. `known` are the exceptions that the app has registered."""
    info = error_info(error, known)
    if isinstance(error, HerdError) and type(error).__module__.startswith("herdmaster."):  # known by bare names
        info = ErrorInfo(type(error).__name__, info.message, info.traceback)
    return raised(error, info)
