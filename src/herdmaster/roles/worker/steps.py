"""What a session does for steps of flows beside running them: it reads their inputs, and makes the items of `each`."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Protocol

import msgspec

from herdmaster.core import flow_moves, layout
from herdmaster.core.expansion import (
    Expansion,
    Made,
    StepArgs,
    args_by_codec,
    needs_codec,
    plain_args,
    progress_of,
    template_of,
    with_progress,
)
from herdmaster.core.flows import FlowStep
from herdmaster.core.inputs import Input
from herdmaster.core.payload import with_expanded
from herdmaster.core.run import Returned, Run
from herdmaster.core.table import TransitionName
from herdmaster.core.transitions import Move
from herdmaster.errors import BadOutcome, BadPayload, HerdError
from herdmaster.roles.shared.payload_reader import PayloadReader
from herdmaster.roles.worker.held import Held, HeldTasks, State
from herdmaster.roles.worker.next_move import Again, NextMoves
from herdmaster.roles.worker.references import References
from herdmaster.roles.worker.step_moves import MAX_MOVE
from herdmaster.running.execution import Executor
from herdmaster.running.program import Program
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Stat


class Session(Protocol):
    """What the steps need of their session."""

    def follow(self, held: Held, move: Move | Again, /) -> None:
        """Let a task take the move that was decided."""

    def task_left(self, name: str, /) -> None:
        """Drop a task whose assignment is gone."""

    def turn(self) -> None:
        """Take the next step in the next turn of the loop."""


class _Making(msgspec.Struct):
    """The items of one `each` that are being made. `running` is the data of the znode of the step, at `version`."""

    held: Held
    expansion: Expansion
    running: bytes
    version: int
    started: int
    payload: bytes = b""
    """With the progress that the transaction under way notes."""
    done: int = 0
    is_cancelled: bool = False


class Steps:
    """The steps of one session. `executor` has its clocks."""

    def __init__(
        self,
        client: Client,
        worker: str,
        tasks: HeldTasks,
        session: Session,
        *,
        program: Program,
        executor: Executor,
        moves: NextMoves,
    ) -> None:
        self._client = client
        self._worker = worker
        self._tasks = tasks
        self._session = session
        self._program = program
        self._moves = moves
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._references = References(client, tasks, program.signed_only, self)
        self._reader = PayloadReader(client)
        self._making: dict[str, _Making] = {}

    def take(self, held: Held, flow: FlowStep) -> None:
        """Read the inputs of a step that was admitted; one without any waits for its slot already."""
        if flow.refs or flow.each is not None:
            self._references.read(held)

    def send(self) -> None:
        """Read what there is room for."""
        self._references.send()

    def makes_items(self, name: str) -> bool:
        """Return whether a task makes the items of an `each`. How far it is, has to be read after a reconnect."""
        return name in self._making

    def forget(self, name: str) -> None:
        """Make no further items, because the assignment is gone."""
        self._making.pop(name, None)

    # --- inputs ------------------------------------------------------------------------------------------------------

    def inputs_read(self, held: Held, inputs: tuple[Input, ...]) -> None:
        call = held.task.call
        assert call is not None
        assert call.flow is not None
        if call.flow.each is not None:
            self._split(held, call.flow, inputs)
        else:
            held.task.call = msgspec.structs.replace(call, inputs=inputs)
            held.since = self._loop.time()
            self._tasks.wait(held)
        self._session.turn()

    def inputs_unreadable(self, held: Held, error: HerdError) -> None:
        self._session.follow(held, self._moves.refuse(held.task, error))
        self._session.turn()

    def step_gone(self, held: Held) -> None:
        self._session.follow(held, self._moves.drop(held.task))
        self._session.turn()

    # --- items -------------------------------------------------------------------------------------------------------

    def _split(self, held: Held, flow: FlowStep, inputs: tuple[Input, ...]) -> None:
        """Make the arguments of each item."""
        try:
            template = template_of(flow)
            chunk, flat = (flow.each.chunk, flow.each.flat) if flow.each is not None else (1, False)
            if len(inputs) != 1:
                raise BadPayload(f"step {flow.step} makes items of one list, and not of {len(inputs)}")
            if not needs_codec(template, inputs[0]):
                self._find_progress(held, plain_args(template, inputs[0], chunk, flat=flat))
            else:
                codecs = self._program.codecs
                make = partial(args_by_codec, template, inputs[0], codecs, chunk, flat=flat)
                making = self._loop.run_in_executor(None, make)
                making.add_done_callback(lambda done: self._was_split(held, done))
        except HerdError as error:
            self.inputs_unreadable(held, error)

    def _was_split(self, held: Held, args: asyncio.Future[StepArgs]) -> None:
        if held.state is not State.READING or args.cancelled():
            return
        error = args.exception()
        if error is None:
            self._find_progress(held, args.result())
        else:
            self.inputs_unreadable(held, error if isinstance(error, HerdError) else BadOutcome(f"{error!r}"))

    def _find_progress(self, held: Held, args: StepArgs) -> None:
        """Find out which items are there already."""
        flow = held.task.flow
        assert flow is not None

        def was_read(_name: str, data: bytes | None, stat: Stat | None, error: Exception | None) -> None:
            if held.state is not State.READING:
                return
            if data is not None and stat is not None:
                self._begin(held, args, data, stat.version)
            elif isinstance(error, errors.NoNode):
                self.step_gone(held)
            elif isinstance(error, errors.ServerError):
                self.inputs_unreadable(held, BadOutcome(f"its znode in the flow cannot be read: {error}"))
            else:
                self._references.read_again(held)  # the connection was lost

        name = held.task.name
        self._reader.read([(name, name, layout.flow_running_path(flow.flow, name))], was_read)

    def _begin(self, held: Held, args: StepArgs, running: bytes, version: int) -> None:
        call, task = held.task.call, held.task.name
        assert call is not None
        assert call.flow is not None
        # The znode may be of a later run than the payload, or the other way round.
        made = max(progress_of(running), Made(call.expanded, call.expanded_chunk))
        try:
            expansion = Expansion(
                call.flow, task, args, made=made, now_ms=self._executor.now_ms(), sign=self._moves.sign
            )
        except HerdError as error:
            self.inputs_unreadable(held, error)
            return
        making = self._making[task] = _Making(held, expansion, running, version, self._executor.unix_ms())
        self._make_items(making)

    def _make_items(self, making: _Making) -> None:
        """Make the next items, or complete the step with their number as its result."""
        held, expansion = making.held, making.expansion
        task = held.task
        flow = task.flow
        assert flow is not None
        if expansion.done < expansion.count and making.is_cancelled:
            move: Move | Again = self._moves.cancel(task, flow)
        elif expansion.done < expansion.count:
            self._look_for_cancel(making, flow)
            try:
                move = self._expand(making, flow)
            except HerdError as error:
                move = self._moves.refuse(task, error)
        else:
            result = Returned(expansion.items.encode())
            move = self._moves.after_run(task, Run(result, making.started, self._executor.unix_ms()))
        if not isinstance(move, Move) or move.transition is not TransitionName.EXPAND_STEP:
            self.forget(task.name)
        self._session.follow(held, move)
        self._session.turn()

    def _look_for_cancel(self, making: _Making, flow: FlowStep) -> None:
        """Look whether the step or its flow is to be cancelled. The answers come before that of the transaction that
        makes the next items. The primary cannot end the step as long as one such transaction follows another."""

        def done(stat: Stat | None, _error: Exception | None) -> None:
            making.is_cancelled |= stat is not None

        for path in (layout.flow_cancel_path(flow.flow), layout.cancel_path(making.held.task.name)):
            with contextlib.suppress(errors.ZooKeeperError):  # the session is over
                self._client.exists_nowait(path, done)

    def _expand(self, making: _Making, flow: FlowStep) -> Move:
        """Return the move that makes the next items. Raises PayloadTooLarge, BadPayload."""
        task = making.held.task
        batch = making.expansion.next_batch(len(task.payload))
        chunk = making.expansion.items.chunk
        making.payload, making.done = with_expanded(task.payload, batch.done, chunk), batch.done
        making.running = with_progress(making.running, Made(batch.done, chunk))
        move = flow_moves.expand_step(
            self._worker,
            task.name,
            flow,
            making.payload,
            running=making.running,
            version=making.version,
            creations=batch.created,
        )
        if move.size() > MAX_MOVE:
            raise BadPayload(
                f"item {batch.done - 1} is too large to be made: what all items share, twice, and its own element have "
                f"{move.size()} bytes, and a transaction has at most {MAX_MOVE}"
            )
        return move

    def items_made(self, held: Held) -> None:
        """Go on after the transaction that has made some items."""
        making = self._making.get(held.task.name)
        if making is not None and making.held is held:
            held.task.payload = making.payload
            making.expansion.done = making.done
            making.version += 1
            self._make_items(making)
