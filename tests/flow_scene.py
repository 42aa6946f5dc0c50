"""A flow in ZooKeeper as its roles would have left it, put there by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from herdmaster.core import layout
from herdmaster.core.failure import ErrorInfo
from herdmaster.core.flow_graph import step_of
from herdmaster.core.flows import (
    FlowHeader,
    FlowState,
    FlowStep,
    Mark,
    Reference,
    decode_header,
    encode_header,
    note_of,
    step_task,
)
from herdmaster.core.outcome import Outcome, OutcomeState, encode_outcome
from herdmaster.core.payload import Call, encode_arguments, encode_call, with_error
from herdmaster.zookeeper.client import Client, Transaction

FLOW = "flow-01kb5w3a00000000000000000a"
CREATED = 1_764_356_400_000
WORKER = "worker-1"
_AT_ONCE = 200


class FlowScene:
    """A running flow. `names` and `parents` are of its steps, by id; items of an `each` have those of their `each`."""

    def __init__(
        self,
        client: Client,
        names: dict[str, str],
        parents: Mapping[str, Sequence[str]] | None = None,
        *,
        flow: str = FLOW,
        marks: Mapping[str, Mark] | None = None,
    ) -> None:
        self.client = client
        self.flow = flow
        self._names = names
        self._parents = parents or {}
        self._marks = marks or {}
        self._writes: list[tuple[str, bytes]] = []

    def step(self, step: str) -> FlowStep:
        base = step.partition(".")[0]
        refs = tuple(Reference(("args", place), parent) for place, parent in enumerate(self._parents.get(base, ())))
        mark = self._marks.get(base, "")
        return FlowStep(self.flow, step, self._names[base], self.task(step), refs=refs, mark=mark)

    def task(self, step: str) -> str:
        return step_task(CREATED, self.flow, step, "default", 5)

    def payload(self, step: str, **changes: object) -> bytes:
        call = Call(1, "shop:f", *encode_arguments((), {}), flow=self.step(step))
        return encode_call(msgspec.structs.replace(call, **changes))

    def begin(self, state: FlowState = FlowState.RUNNING, **changes: object) -> FlowScene:
        header = msgspec.structs.replace(FlowHeader(1, "report", CREATED, state, len(self._names)), **changes)
        self._put(layout.flow_path(self.flow), encode_header(header))
        for path in (
            layout.flow_steps_path(self.flow),
            layout.flow_results_path(self.flow),
            layout.flow_failed_path(self.flow),
        ):
            self._put(path)
        if state is FlowState.RUNNING:
            self._put(layout.flow_running_path(self.flow))
        return self

    def waiting(self, entry: str, edges: Iterable[str] = ()) -> FlowScene:
        self._put(layout.flow_step_path(self.flow, entry), self.payload(step_of(entry)))
        for edge in edges:
            self._put(layout.flow_edge_path(self.flow, entry, edge))
        return self

    def live(self, step: str, place: str | None = None, **changes: object) -> FlowScene:
        """`place` is the path of its task; without it, it waits in the backlog."""
        task = self.task(step)
        self._put(layout.flow_running_path(self.flow, task), step.encode())
        self._put(layout.task_path(task) if place is None else place, self.payload(step, **changes))
        return self

    def done(self, *steps: str) -> FlowScene:
        for step in steps:
            outcome = Outcome(
                OutcomeState.DONE, msgspec.Raw(b"1"), worker=WORKER, started=CREATED, ended=CREATED + 2000,
                step=note_of(self.step(step)),
            )  # fmt: skip
            self._put(layout.flow_result_path(self.flow, step), encode_outcome(f"{self.flow}/{step}", outcome))
        return self

    def failed(self, step: str, error: str = "ValueError", message: str = "bad", **changes: object) -> FlowScene:
        data = with_error(self.payload(step, **changes), ErrorInfo(error, message))
        self._put(layout.flow_failed_path(self.flow, step), data)
        return self

    def _put(self, path: str, data: bytes = b"") -> None:
        self._writes.append((path, data))

    async def write(self) -> None:
        for start in range(0, len(self._writes), _AT_ONCE):
            transaction: Transaction = self.client.transaction()
            for path, data in self._writes[start : start + _AT_ONCE]:
                transaction.create(path, data)
            await transaction.commit()
        self._writes = []

    async def header(self) -> FlowHeader:
        return decode_header((await self.client.get(layout.flow_path(self.flow)))[0])

    async def names_in(self, folder: str) -> set[str]:
        return set(await self.client.children(folder))
