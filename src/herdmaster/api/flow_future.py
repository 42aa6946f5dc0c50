"""The future of a flow."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

from herdmaster.api.event_loops import refuse_in_loop
from herdmaster.api.future import Future, Keeper
from herdmaster.api.questions import ask_and_wait, ask_and_wait_async
from herdmaster.errors import HerdError, OutcomeGone
from herdmaster.inspection.flow_pictures import to_dot, to_svg
from herdmaster.inspection.flow_seen import StepInfo
from herdmaster.inspection.flows import FlowDetails, FlowInfo, find_flow, find_info
from herdmaster.zookeeper.client import Client

if TYPE_CHECKING:
    from herdmaster.api.herd_core import HerdCore

R = TypeVar("R")
T = TypeVar("T")


class FlowFuture(Future[R]):
    """The future of a flow: as that of a task, and it shows the steps.

    `result` returns what `flow.returns(...)` named. It raises TaskFailed, which names the failed steps, TaskCancelled,
    or TaskExpired after the flow's `timeout`. `cancel` cancels the running steps, and no others start.

    A future resolves once: after a retry, a new one (`herd.flow_run(name)`) has the new outcome. `info` and `steps`
    always show the flow as it is now.
    """

    name: str
    """The name of the flow. Any process can wait for the same flow with `herd.flow_run(name)`."""

    def __init__(self, name: str, keeper: Keeper, owner: HerdCore, *, has_outcome: bool = True) -> None:
        super().__init__(name, keeper, owner, has_outcome=has_outcome)
        self._herd = owner

    def info(self, timeout: float = 10.0) -> FlowInfo:
        """Return the state of the flow, and numbers of steps. Costs less than `steps`. Raises as `steps`."""
        refuse_in_loop("info", "await run.info_async()")
        return ask_and_wait(self._herd.started(), self._find_info, self.name, timeout)

    async def info_async(self, timeout: float = 10.0) -> FlowInfo:  # noqa: ASYNC109 - as `info`
        """As `info`, for event loops."""
        return await ask_and_wait_async(self._herd.started(), self._find_info, self.name, timeout)

    def steps(self, timeout: float = 10.0) -> tuple[StepInfo, ...]:
        """Return the steps: their states, times, and what each waits for.

        Raises OutcomeGone if the flow was deleted, TimeoutError if there is no answer from ZooKeeper in `timeout`
        seconds, RuntimeError inside a running event loop.
        """
        refuse_in_loop("steps", "await run.steps_async()")
        return self._look(timeout).steps

    async def steps_async(self, timeout: float = 10.0) -> tuple[StepInfo, ...]:  # noqa: ASYNC109 - as `steps`
        """As `steps`, for event loops."""
        return (await self._look_async(timeout)).steps

    def to_dot(self, timeout: float = 10.0) -> str:
        """Return the graph of the steps with their states, in the language of Graphviz. Raises as `steps`."""
        refuse_in_loop("to_dot", "await run.to_dot_async()")
        return to_dot(self._look(timeout).steps, self.name)

    async def to_dot_async(self, timeout: float = 10.0) -> str:  # noqa: ASYNC109 - as `to_dot`
        """As `to_dot`, for event loops."""
        return to_dot((await self._look_async(timeout)).steps, self.name)

    def _repr_svg_(self) -> str | None:
        """Return the picture that a notebook shows; None if the flow cannot be read, so that it shows the `repr`. It is
        asked for in the notebook's event loop, which waits."""
        try:
            return to_svg(self._look(5.0).steps, self.name)
        except (HerdError, TimeoutError):
            return None

    def _look(self, timeout: float) -> FlowDetails:
        return ask_and_wait(self._herd.started(), self._find, self.name, timeout)

    def _look_async(self, timeout: float) -> Awaitable[FlowDetails]:
        return ask_and_wait_async(self._herd.started(), self._find, self.name, timeout)

    async def _find_info(self, client: Client) -> FlowInfo:
        return self._found(await find_info(client, self.name))

    async def _find(self, client: Client) -> FlowDetails:
        return self._found(await find_flow(client, self.name))

    def _found(self, found: T | None) -> T:
        if found is None:
            raise OutcomeGone(f"there is no flow {self.name}: it was never accepted, or was deleted since")
        return found
