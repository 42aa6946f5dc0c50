"""Flows whose steps a test ends by hand, as workers would: no worker is there, so each task stays in `/tasks`."""

from __future__ import annotations

import os
import time

import msgspec

from herdmaster.core import flow_moves, layout
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flow_graph import is_marked, parent_of, step_of
from herdmaster.core.flows import FlowHeader, FlowState, FlowStep, decode_header, encode_header, step_task, task_of
from herdmaster.core.names import UlidFactory, flow_name
from herdmaster.core.operations import DeleteNode, Move
from herdmaster.core.outcome import Outcome, OutcomeState, decode_outcome, encode_outcome
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call, for_next_run, with_error
from herdmaster.roles.shared.committer import add_operation
from tests.roles.stage import PATIENCE, Stage, until

_ulids = UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)


class StagedFlow:
    """A flow. A step is given as its entry, then its edges after spaces: `2 0 1`."""

    def __init__(self, stage: Stage, *steps: str, name: str | None = None) -> None:
        self.stage = stage
        self.name = name or flow_name(_ulids.new())
        self.created = time.time_ns() // 1_000_000
        self.edges = {entry: tuple(parents) for entry, *parents in (each.split() for each in steps)}

    # --- making ------------------------------------------------------------------------------------------------------

    async def make(self, *, header_data: bytes | None = None, **changes: object) -> StagedFlow:
        """As a small flow is made: one transaction, and its first steps are tasks at once."""
        header = FlowHeader(1, "report", self.created, FlowState.RUNNING, len(self.edges))
        header = msgspec.structs.replace(header, **changes)
        header_data = encode_header(header) if header_data is None else header_data
        transaction = self.stage.zk.transaction().create(layout.flow_path(self.name), header_data)
        for folder in ("steps", "results", "failed"):
            transaction.create(f"{layout.flow_path(self.name)}/{folder}")
        for entry, parents in self.edges.items():
            if parents or is_marked(entry) or parent_of(entry) is not None:
                transaction.create(layout.flow_step_path(self.name, entry), self.payload(entry))
                for parent in parents:
                    transaction.create(layout.flow_edge_path(self.name, entry, parent))
        transaction.create(layout.flow_running_path(self.name))
        for entry, parents in self.edges.items():
            if not parents and not is_marked(entry) and parent_of(entry) is None:
                transaction.create(layout.flow_running_path(self.name, self.task(entry)), entry.encode())
                transaction.create(layout.task_path(self.task(entry)), self.payload(entry))
        await transaction.commit()
        return self

    async def make_large(self, **changes: object) -> StagedFlow:
        """As a large flow is made: in parts, and it begins to run with the last transaction."""
        header = await self.make_abandoned(**changes)
        path = layout.flow_path(self.name)
        running = encode_header(msgspec.structs.replace(header, state=FlowState.RUNNING))
        await self.stage.zk.transaction().set(path, running, 0).create(layout.flow_running_path(self.name)).commit()
        return self

    async def make_abandoned(self, **changes: object) -> FlowHeader:
        """Make all of a large flow but the last transaction. Return its header."""
        zk, path = self.stage.zk, layout.flow_path(self.name)
        header = FlowHeader(1, "report", self.created, FlowState.BUILDING, len(self.edges))
        header = msgspec.structs.replace(header, **changes)
        await zk.create(path, encode_header(header))
        for folder in ("steps", "results", "failed"):
            await zk.create(f"{path}/{folder}")
        entries = list(self.edges)
        for start in range(0, len(entries), 100):
            transaction = zk.transaction()
            for entry in entries[start : start + 100]:
                transaction.create(layout.flow_step_path(self.name, entry), self.payload(entry))
                for parent in self.edges[entry]:
                    transaction.create(layout.flow_edge_path(self.name, entry, parent))
            await transaction.commit()
        return header

    def task(self, step: str) -> str:
        return step_task(self.created, self.name, step, "default", 5)

    def step(self, step: str) -> FlowStep:
        joins = tuple(entry for entry, parents in self.edges.items() if step in parents)
        return FlowStep(self.name, step, f"m:f{step}", self.task(step), joins)

    def payload(self, entry: str) -> bytes:
        step = self.step(step_of(entry))
        parents = (parent_of(entry),) if parent_of(entry) else self.edges[entry]
        step = msgspec.structs.replace(step, after=tuple(each for each in parents if each))
        return encode_call(Call(1, step.name, *encode_arguments((), {}), flow=step))

    # --- what workers do ---------------------------------------------------------------------------------------------

    async def complete(self, *steps: str, task: str | None = None) -> None:
        """`task` is that of a later run of the step."""
        for step in steps:
            name = task or self.task(step)
            await self.stage.until_exists(layout.task_path(name))
            outcome = encode_outcome(name, Outcome(OutcomeState.DONE, msgspec.Raw(b"1")))
            await self._end(flow_moves.complete_step("w", name, await self._left(step), outcome))

    async def fail(self, *steps: str) -> None:
        for step in steps:
            await self.until_started(step)
            data = with_error(await self.stage.data(layout.task_path(self.task(step))), ErrorInfo("ValueError", "bad"))
            await self._end(flow_moves.fail_step_waiting(self.task(step), self.step(step), data))

    async def _left(self, step: str) -> FlowStep:
        """Without the edges that the primary has dropped."""
        found = self.step(step)
        edges = [(entry, layout.flow_edge_path(self.name, entry, step)) for entry in found.joins]
        return msgspec.structs.replace(found, joins=tuple([e for e, path in edges if await self.stage.exists(path)]))

    async def _end(self, move: Move) -> None:
        transaction = self.stage.zk.transaction()
        add_operation(transaction, DeleteNode(layout.task_path(move.task)))
        for operation in move.operations[1:]:
            add_operation(transaction, operation)
        await transaction.commit()

    async def retry(self, step: str) -> str:
        """Run a step that failed again, as an operator does. Return its new task."""
        header, stat = await self.stage.zk.get(layout.flow_path(self.name))
        retried = await self._next_run(step)
        await self._commit(flow_moves.retry_step(self.name, stat.version, header or b"", [retried]))
        return retried.task

    async def reopen(self, step: str) -> str:
        """As `retry`, of a flow that has ended."""
        stat = await self.stage.zk.exists(layout.flow_path(self.name))
        assert stat is not None
        header = msgspec.structs.replace(await self.header(), state=FlowState.RUNNING, ended=None, error=None)
        retried = await self._next_run(step)
        await self._commit(
            flow_moves.reopen_flow(
                self.name, stat.version, encode_header(header), [retried], has_status=True, has_cancel=False
            )
        )
        return retried.task

    async def _next_run(self, step: str) -> flow_moves.RetriedStep:
        data = for_next_run(await self.stage.data(layout.flow_failed_path(self.name, step)))
        return flow_moves.RetriedStep(step, task_of(self.step(step), decode_call(data).run), data)

    async def _commit(self, move: Move) -> None:
        transaction = self.stage.zk.transaction()
        for operation in move.operations:
            add_operation(transaction, operation)
        await transaction.commit()

    # --- looking -----------------------------------------------------------------------------------------------------

    async def names(self, folder: str) -> list[str]:
        return await self.stage.names(f"{layout.flow_path(self.name)}/{folder}")

    async def is_running(self) -> bool:
        return await self.stage.exists(layout.flow_running_path(self.name))

    async def until_started(self, step: str) -> Call:
        """Return its payload."""
        await self.stage.until_exists(layout.task_path(self.task(step)))
        return decode_call(await self.stage.data(layout.task_path(self.task(step))))

    async def started(self) -> set[str]:
        """The steps that are tasks."""
        found = [await self.stage.data(layout.task_path(name)) for name in await self.stage.names(layout.TASKS)]
        flows = [decode_call(data).flow for data in found]
        return {flow.step for flow in flows if flow is not None and flow.flow == self.name}

    async def header(self) -> FlowHeader:
        return decode_header(await self.stage.data(layout.flow_path(self.name)))

    async def until_ended(self, seconds: float = PATIENCE) -> FlowHeader:
        async def has_ended() -> bool:
            return not await self.is_running()

        await until(has_ended, "the end of the flow", seconds)
        return await self.header()

    async def outcome(self) -> Outcome:
        return decode_outcome(self.name, await self.stage.data(layout.status_path(self.name)))
