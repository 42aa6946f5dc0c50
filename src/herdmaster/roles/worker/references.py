"""Reads the results that steps refer to, before the steps wait for a slot.

The results of one step have at most 64 MiB, but for those of an `each` that the step reads one by one: these are
written to a file. Results that were read ahead stay in memory until their step starts, so
further steps are read only while these have less than that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Final, Protocol

from herdmaster.core import layout
from herdmaster.core.codec import is_lazy
from herdmaster.core.each_items import EachItems, decode_items, split_chunk_result
from herdmaster.core.flows import FlowStep, Reference, created_of, result_name
from herdmaster.core.inputs import Input, Spooled, StepResult
from herdmaster.core.outcome import OutcomeState, decode_outcome
from herdmaster.core.signature import Signature
from herdmaster.core.signing import SignedOnly
from herdmaster.errors import BadOutcome, BadSignature, HerdError
from herdmaster.roles.shared.payload_reader import PayloadReader
from herdmaster.roles.worker.held import Held, HeldTasks, State
from herdmaster.running.spool import SpoolWriter
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat

MAX_INPUTS: Final = 64 * 1024 * 1024
"""Bytes of the results of one step, and of those that are read ahead."""
_MOST_READING: Final = 32
"""Steps that are read at a time."""
_SLICE: Final = 100
"""Results of one step that are read at a time: at most 50 MiB."""
_UNKNOWN_SIZE: Final = "result"
"""The reader of payloads takes it for a raw task, so for one of unknown size."""


class Listener(Protocol):
    """What is told of each step, once."""

    def inputs_read(self, held: Held, inputs: tuple[Input, ...], /) -> None:
        """All results are there."""

    def inputs_unreadable(self, held: Held, error: HerdError, /) -> None:
        """The step cannot run."""

    def step_gone(self, held: Held, /) -> None:
        """The step has ended elsewhere, or its flow is gone."""


class _Reading:
    """The results of one step, as they come. Raises BadOutcome for those that cannot be its inputs."""

    def __init__(self, held: Held, flow: FlowStep, missing: Iterable[str], signature: Signature | None) -> None:
        self.held = held
        self.flow = flow
        self.size = 0
        self.unwritten = 0
        """Bytes of the results that are not in their file yet."""
        self.absent: str | None = None
        """A step whose result is not there."""
        self._found: dict[str, StepResult | None] = dict.fromkeys(missing)  # None: a parent that is missing
        self._wanted: deque[str] = deque()
        self._are_items_known = False
        eager = {ref.step for ref in flow.refs if ref.each and not is_lazy(True, ref.at, signature)}
        self._lazy = {ref.step for ref in flow.refs if ref.each} - eager
        self.files: dict[str, SpoolWriter] = {}
        """Of each `each` with many steps whose results are read one by one."""
        self._finished: dict[str, Spooled] = {}
        self._unwritten: dict[str, list[tuple[int, StepResult]]] = {}
        self._want(reference.step for reference in flow.refs)

    def next_steps(self) -> list[str]:
        """Return the steps whose results are to be read next; none if all are there."""
        if not self._wanted and not self._are_items_known:
            self._are_items_known = True
            for reference in self.flow.refs:
                if reference.each:
                    step, items = reference.step, self._items(reference.step)
                    if step in self._lazy and items.steps > _SLICE and step not in self.files:
                        self.files[step] = SpoolWriter(step, items)
                    self._want(items.ids(step))
        return [self._wanted.popleft() for _ in range(min(_SLICE, len(self._wanted)))]

    def note(self, step: str, result: StepResult) -> None:
        maker, _, number = step.rpartition(".")
        if maker in self.files:
            self._unwritten.setdefault(maker, []).append((int(number), result))
            self.unwritten += len(result.data)
            return
        self._found[step] = result
        self.size += len(result.data)
        if self.size > MAX_INPUTS:
            raise BadOutcome(
                f"the results that the step takes have more than {MAX_INPUTS // 1024**2} MiB: let its parents store "
                "them elsewhere and return their addresses, or take the results of an `each` as a Sequence"
            )

    @property
    def has_unwritten(self) -> bool:
        return bool(self._unwritten)

    def write(self) -> None:
        """Write the results that have come to their files. Runs on any thread."""
        unwritten, self._unwritten, self.unwritten = self._unwritten, {}, 0
        for step, results in unwritten.items():
            self.files[step].write(results)

    def _spooled(self, step: str) -> Spooled:
        if step not in self._finished:
            self._finished[step] = self.files[step].finish()
        return self._finished[step]

    def inputs(self) -> tuple[Input, ...]:
        return tuple(map(self._input, self.flow.refs))

    def _input(self, reference: Reference) -> Input:
        step = reference.step
        if step in self.files:
            return Input(reference.at, step, (), is_list=True, spooled=self._spooled(step))
        if not reference.each or self._found[step] is None:
            return Input(reference.at, step, (self._found[step],))
        return Input(reference.at, step, tuple(self._results(step)), is_list=True)

    def _results(self, step: str) -> Iterator[StepResult | None]:
        """Yield the result of each item of an `each`. Raises BadOutcome."""
        items = self._items(step)
        for chunk, size in zip(items.ids(step), items.sizes(), strict=True):
            found = self._found[chunk]
            if found is None or not items.chunk:
                yield from repeat(found, size)
            else:
                codec = found.codec
                yield from (StepResult(bytes(raw), codec) for raw in split_chunk_result(chunk, found.data, size))

    def _items(self, step: str) -> EachItems:
        result = self._found[step]
        return EachItems(0) if result is None else decode_items(step, result.data)

    def _want(self, steps: Iterable[str]) -> None:
        self._wanted.extend(step for step in dict.fromkeys(steps) if step not in self._found)


class References:
    """Reads for the steps of one session. `signed_only` says which results are taken."""

    def __init__(self, client: Client, tasks: HeldTasks, signed_only: SignedOnly | None, listener: Listener) -> None:
        self._client = client
        self._tasks = tasks
        self._signed_only = signed_only
        self._listener = listener
        self._reader = PayloadReader(client)
        self._queue: deque[Held] = deque()
        self._readings: dict[_Reading, int] = {}  # with the number of results that are under way
        self._gathered: list[tuple[tuple[_Reading, str], str, str]] = []  # results to read at the end of this turn

    def read(self, held: Held) -> None:
        """Let a step that waits for a slot wait for its results first. `send` begins to read them."""
        self._tasks.read(held)
        self._queue.append(held)

    def read_again(self, held: Held) -> None:
        """Read a step anew, because the connection was lost."""
        self._queue.append(held)

    def send(self) -> None:
        """Begin to read as many steps as there is room for."""
        if not self._queue:
            return
        ahead = sum(_size(held) for held in self._tasks.waiting)
        while self._queue and len(self._readings) < _MOST_READING:
            size = ahead + sum(reading.size + reading.unwritten for reading in self._readings)
            if size >= MAX_INPUTS and (ahead or self._readings):
                return
            held = self._queue.popleft()
            call = held.task.call
            if held.state is State.READING and call is not None and call.flow is not None:
                callee = held.task.callee
                signature = None if callee is None or call.flow.each is not None else callee.signature
                reading = _Reading(held, call.flow, call.missing, signature)
                self._readings[reading] = 0
                self._go_on(reading)

    def _go_on(self, reading: _Reading) -> None:
        """Read the next results of a step, or finish."""
        if reading.absent is not None:
            self._look_for(reading, reading.absent)
            return
        if reading.has_unwritten:
            writing = asyncio.get_running_loop().run_in_executor(None, reading.write)
            writing.add_done_callback(partial(self._was_written, reading))
            return
        try:
            steps = reading.next_steps()
            inputs = () if steps else reading.inputs()
        except BadOutcome as error:
            self._fail(reading, error)
            return
        if steps:
            self._readings[reading] = len(steps)
            if not self._gathered:
                asyncio.get_running_loop().call_soon(self._read_gathered)
            self._gathered += (
                ((reading, step), _UNKNOWN_SIZE, layout.flow_result_path(reading.flow.flow, step)) for step in steps
            )
        elif self._leave(reading):
            reading.held.task.files = tuple(reading.files.values())
            self._listener.inputs_read(reading.held, inputs)

    def _read_gathered(self) -> None:
        """Read what the steps of one turn want, so that small joins share requests."""
        gathered, self._gathered = self._gathered, []
        self._reader.read(gathered, self._was_read)

    def _was_written(self, reading: _Reading, writing: asyncio.Future[None]) -> None:
        if reading not in self._readings or writing.cancelled():
            return
        error = writing.exception()
        if error is None:
            self._go_on(reading)
        else:
            self._fail(reading, error if isinstance(error, HerdError) else BadOutcome(f"{error!r}"))

    def _was_read(
        self, key: tuple[_Reading, str], data: bytes | None, _stat: Stat | None, error: Exception | None
    ) -> None:
        reading, step = key
        if reading not in self._readings:
            return  # another one of its results could not be read
        self._readings[reading] -= 1
        if data is not None:
            try:
                reading.note(step, self._open(reading.flow, step, data))
            except (BadOutcome, BadSignature) as fault:
                self._fail(reading, fault)
                return
        elif isinstance(error, errors.NoNode):
            reading.absent = step
        elif isinstance(error, errors.ServerError):
            self._fail(reading, BadOutcome(f"the result of step {step} cannot be read: {type(error).__name__}"))
            return
        else:
            self._begin_again(reading)
            return
        if not self._readings[reading]:
            self._go_on(reading)

    def _open(self, flow: FlowStep, step: str, data: bytes) -> StepResult:
        """Return the result in the data of a znode. Raises BadOutcome, BadSignature."""
        signed = self._signed_only
        if signed is None:
            outcome = decode_outcome(f"{flow.flow}/{step}", data)
        else:
            outcome = signed.read_outcome(result_name(flow.flow, created_of(flow), step), data)
        if outcome.state is not OutcomeState.DONE or outcome.result is None:
            raise BadOutcome(f"step {step} has no result: it is {outcome.state}")
        return StepResult(bytes(outcome.result), outcome.codec)

    def _look_for(self, reading: _Reading, step: str) -> None:
        """Find out why a result is not there: a flow that is gone has none, and no step of it may run."""
        name = reading.held.task.name
        path = layout.flow_running_path(reading.flow.flow, name)

        def was_read(_name: str, data: bytes | None, _stat: Stat | None, error: Exception | None) -> None:
            if data is not None:
                self._fail(reading, BadOutcome(f"the result of step {step} is not there, although the step is done"))
            elif not isinstance(error, errors.NoNode):
                self._begin_again(reading)
            elif self._leave(reading):
                self._listener.step_gone(reading.held)

        self._reader.read([(name, _UNKNOWN_SIZE, path)], was_read)

    def _begin_again(self, reading: _Reading) -> None:
        if self._leave(reading):
            self.read_again(reading.held)

    def _fail(self, reading: _Reading, error: HerdError) -> None:
        if self._leave(reading):
            self._listener.inputs_unreadable(reading.held, error)

    def _leave(self, reading: _Reading) -> bool:
        """Read no more for a step. Return whether the step still waits for that."""
        return self._readings.pop(reading, None) is not None and reading.held.state is State.READING


def _size(held: Held) -> int:
    return sum(each.size for each in held.task.inputs)
