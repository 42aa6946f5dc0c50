"""A flow as znodes, whose steps a test assigns to workers: it plays client and primary."""

from __future__ import annotations

import time

import msgspec

from herdmaster.core import layout
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flows import Each, FlowStep, Reference, step_task
from herdmaster.core.names import derived_ulid
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import Call, decode_call, encode_arguments, encode_call
from herdmaster.core.transitions import Move
from herdmaster.roles.shared.committer import add_operation
from herdmaster.zookeeper import errors
from tests.roles.stage import Stage, until

_ANY_CALL = "task-01h00000000000000000000000.default.f"


class FlowScene:
    """One running flow. `keyring` signs what is put there."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.flow = f"flow-{derived_ulid(time.time_ns() // 1_000_000, str(id(self)))}"
        self.root = f"/flows/{self.flow}"

    async def make(self) -> FlowScene:
        for path in (
            "/flows",
            self.root,
            *(f"{self.root}/{part}" for part in ("steps", "results", "failed", "running")),
        ):
            try:
                await self.stage.zk.create(path, b"{}")
            except errors.NodeExists:
                continue
        return self

    def path(self, *parts: str) -> str:
        return "/".join((self.root, *parts))

    def task(self, step: str) -> str:
        return step_task(1_700_000_000_000, self.flow, step, "default", 5)

    async def put_result(self, step: str, value: object, *, codec: str | None = None) -> None:
        outcome = Outcome(OutcomeState.DONE, msgspec.Raw(msgspec.json.encode(value)), codec=codec)
        await self.stage.put(self.path("results", step), data=encode_outcome(_ANY_CALL, outcome))

    async def put_join(self, entry: str, *edges: str) -> None:
        await self.stage.put(self.path("steps", entry), *(self.path("steps", entry, edge) for edge in edges))

    def payload(
        self,
        step: str,
        function: str,
        *args: object,
        refs: tuple[Reference, ...] = (),
        joins: tuple[str, ...] = (),
        each: Each | None = None,
        **fields: object,
    ) -> bytes:
        flow = FlowStep(self.flow, step, function, self.task(step), joins, refs, each=each)
        call = Call(1, function, *encode_arguments(args, {}), flow=flow, **fields)  # type: ignore[arg-type] # of Call
        return encode_call(call)

    async def assign(self, worker: str, step: str, payload: bytes) -> str:
        """Assign a step, as the primary does in two transactions. Return the name of its task."""
        name = self.task(step)
        transaction = self.stage.zk.transaction()
        transaction.create(self.path("running", name), step.encode())
        transaction.create(layout.assignment_path(worker, name), payload)
        await transaction.commit()
        return name

    async def assign_each(
        self, worker: str, step: str, parent: str, *args: object, joins: tuple[str, ...] = (), **fields: object
    ) -> str:
        """Assign an `each` over the result of `parent`, whose items call `m:item`."""
        payload = self.payload_of_each(step, Reference((), parent), *args, joins=joins, **fields)
        return await self.assign(worker, step, payload)

    def payload_of_each(
        self, step: str, over: Reference, *args: object, joins: tuple[str, ...] = (), **fields: object
    ) -> bytes:
        """Return the payload of an `each` whose items call `m:item`. `fields` are of the items."""
        flow = FlowStep("", "", "m:item", "", joins)
        item = Call(1, "m:item", *encode_arguments((None, *args), {}), flow=flow, **fields)  # type: ignore[arg-type] # of Call
        each = Each(msgspec.Raw(encode_call(item)), "default", 5)
        return self.payload(step, "herdmaster:each", refs=(over,), joins=joins, each=each)

    async def apply(self, move: Move) -> None:
        """Commit a move of a worker."""
        transaction = self.stage.zk.transaction()
        for operation in move.operations:
            add_operation(transaction, operation)
        await transaction.commit()

    async def result(self, step: str, seconds: float = 15.0) -> object:
        """Wait for the result of a step."""
        path = self.path("results", step)
        await until(lambda: self.stage.exists(path), f"the result of step {step}", seconds)
        return msgspec.json.decode(await self.stage.data(path))["result"]

    async def error(self, step: str) -> ErrorInfo:
        """Wait for the failure of a step."""
        path = self.path("failed", step)
        await until(lambda: self.stage.exists(path), f"the failure of step {step}")
        error = decode_call(await self.stage.data(path)).error
        assert error is not None
        return error

    async def names(self, *parts: str) -> list[str]:
        return sorted(await self.stage.names(self.path(*parts)))
