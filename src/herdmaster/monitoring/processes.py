"""What monitoring reads of a master and a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

from herdmaster.core.scaling import slots_wanted
from herdmaster.errors import HerdError
from herdmaster.inspection.queues import look_at_queues
from herdmaster.monitoring.gauges import Reading
from herdmaster.roles.primary.master import Master
from herdmaster.roles.shared.role import Role
from herdmaster.roles.worker.worker import Worker
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import SessionState

_LAG_SECONDS: Final = 0.5
"""Between two looks at the event loop."""
_LAG_WINDOW: Final = 20
"""Looks that a reading covers: ten seconds."""


class RoleProcess:
    """A process with one role."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._lags = [0.0] * _LAG_WINDOW

    def not_ready(self) -> str | None:
        return self._role.not_ready()

    async def slots_wanted(self, queue: str | None, /) -> int:
        """Count over the session of the role. Raises HerdError without a session, and the errors of ZooKeeper."""
        client = self._role.client
        if client is None:
            raise HerdError(f"the {self._role.kind} has no session with ZooKeeper")
        return await count_slots_wanted(client, queue)

    def read_gauges(self) -> Iterator[Reading]:
        client = self._role.client
        is_connected = client is not None and client.state is SessionState.CONNECTED
        yield Reading("herd_zookeeper_connected", float(is_connected))
        yield Reading("herd_event_loop_lag_seconds", max(self._lags))

    async def measure_lag(self) -> None:
        """Measure until cancelled how late the event loop wakes this coroutine."""
        loop = asyncio.get_running_loop()
        while True:
            for look in range(_LAG_WINDOW):
                before = loop.time()
                await asyncio.sleep(_LAG_SECONDS)
                self._lags[look] = max(0.0, loop.time() - before - _LAG_SECONDS)


class MasterProcess(RoleProcess):
    """A process with a master. A primary answers from its picture, a backup reads ZooKeeper."""

    def __init__(self, role: Master) -> None:
        super().__init__(role)
        self._master = role

    async def slots_wanted(self, queue: str | None, /) -> int:
        census = self._master.take_census()
        if census is None:
            return await super().slots_wanted(queue)
        return sum(census.wanted.values()) if queue is None else census.wanted.get(queue, 0)

    def read_gauges(self) -> Iterator[Reading]:
        yield from super().read_gauges()
        yield Reading("herd_primary", float(self._master.is_primary))
        census = self._master.take_census()
        if census is None:
            return
        places = (("pending", census.waiting), ("delayed", census.delayed), ("assigned", census.assigned))
        queues = sorted({queue for _, counts in places for queue in counts})
        for state, counts in places:
            for queue in queues:
                yield Reading("herd_tasks", counts.get(queue, 0), (queue, state))
        now = self._master.system.unix_ms()
        for queue in queues:
            oldest = census.oldest.get(queue)
            age = 0.0 if oldest is None else max(0, now - oldest) / 1000
            yield Reading("herd_queue_oldest_pending_seconds", age, (queue,))
            yield Reading("herd_slots_wanted", census.wanted.get(queue, 0), (queue,))
        for kind, count in census.workers.items():
            yield Reading("herd_workers", count, (kind.value,))
        yield Reading("herd_flows", census.flows)
        yield Reading("herd_slots", census.busy, ("busy",))
        yield Reading("herd_slots", census.slots - census.busy, ("free",))


class WorkerProcess(RoleProcess):
    """A process with a worker."""

    def __init__(self, role: Worker) -> None:
        super().__init__(role)
        self._worker = role

    def read_gauges(self) -> Iterator[Reading]:
        yield from super().read_gauges()
        yield Reading("herd_slots_busy", len(self._worker.running))


async def count_slots_wanted(client: Client, queue: str | None) -> int:
    """Count over a session the slots that the tasks of a queue, or of all, could use now."""
    seen = await look_at_queues(client)
    wanted: Iterable[int] = (
        slots_wanted(each.assigned, each.pending, each.settings) for each in seen if queue in {None, each.name}
    )
    return sum(wanted)
