"""Worlds whose namespace is closed: each program has the rights of its identity, and faults happen as in any world."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import msgspec
import pytest

from herdmaster.core.access import POLICY as POLICY_PATH
from herdmaster.core.access import Identity, Kind, encode_policy, kind_of
from herdmaster.core.layout import FOLDERS
from herdmaster.roles.shared.access import acl_of_kind, use_policy
from herdmaster.roles.shared.system import System
from herdmaster.simulation.plan.drawing import draw_plan
from herdmaster.simulation.plan.plan import Plan
from herdmaster.simulation.world import server
from herdmaster.simulation.world.process import Process
from herdmaster.simulation.world.world import World
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import Acl
from herdmaster.zookeeper.server.effects import NodeCreated
from herdmaster.zookeeper.server.state import State
from tests.closed import POLICY, security_of


class OperatorsClient(Client):
    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await use_policy(self)
        except BaseException:
            await self.close()
            raise
        return self


def close(monkeypatch: pytest.MonkeyPatch, namespace: str) -> list[State]:
    """Let worlds begin with a closed namespace. The states of their servers are added to the list."""
    states: list[State] = []
    plain_system = Process.system

    class ClosedState(State):
        def __init__(self, tick: int, next_session_id: int, zxid: int = 0) -> None:
            super().__init__(tick, next_session_id, zxid)
            states.append(self)
            end = namespace.find("/", 1)
            while end > 0:
                self._create(namespace[:end], b"", Kind.OTHER)
                end = namespace.find("/", end + 1)
            self._create(namespace, b"", Kind.NAMESPACE)
            self._create(namespace + POLICY_PATH, encode_policy(POLICY), Kind.POLICY)
            for folder in FOLDERS:
                self._create(namespace + folder, b"", kind_of(folder))

        def _create(self, path: str, data: bytes, kind: Kind) -> None:
            self.tree.apply(NodeCreated(path, data, acl_of_kind(POLICY, kind), 0, 0, False), 1, 0)

    def system(process: Process, make_pool: object) -> System:
        identity = next((each for each in Identity if process.host.startswith(each)), Identity.MASTER)
        made = plain_system(process, make_pool)  # type: ignore[arg-type]  # as it came
        return msgspec.structs.replace(made, security=security_of(identity))

    def client(*args: object, **options: object) -> Client:
        return OperatorsClient(*args, security=security_of(Identity.MASTER), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(server, "State", ClosedState)
    monkeypatch.setattr("herdmaster.simulation.world.operator.Client", client)
    monkeypatch.setattr(Process, "system", system)
    return states


def plans(first: int, count: int) -> Iterator[Plan]:
    """Yield plans with a namespace and without the reference, whose programs are refused in a closed one."""
    seed = first
    while count:
        plan = draw_plan(seed)
        if plan.namespace and not plan.has_reference:
            count -= 1
            yield plan
        seed += 1


def deviations(state: State, namespace: str) -> dict[str, tuple[Acl, ...]]:
    return {
        path: node.acl
        for path, node in state.tree.items()
        if path.startswith(f"{namespace}/") and node.acl != acl_of_kind(POLICY, kind_of(path.removeprefix(namespace)))
    }


@pytest.mark.long
@pytest.mark.parametrize("plan", list(plans(1, 4)), ids=lambda plan: f"seed-{plan.seed}")
def test_a_closed_world_settles_as_any_other(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    states = close(monkeypatch, plan.namespace)
    world = World(plan)
    result = world.run()
    assert result.failure is None
    assert result.executions > 0
    assert deviations(world._server.state, plan.namespace) == {}
    assert states
