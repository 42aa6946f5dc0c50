"""Somebody who does by hand what the roles are not prepared for, or rather: what they should be."""

from __future__ import annotations

import contextlib
import random
from typing import Final

from herdmaster.core import layout
from herdmaster.roles.system import System
from herdmaster.simulation.faults import Meddling
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client

_LITTER: Final = (
    "/tasks/no-task",
    "/tasks/task-",
    "/tasks/task-x.y.z",
    "/assign/nobody",
    "/status/no-task",
    "/workers/nobody",
    "/workers/worker-of-nobody",
    "/delayed/tomorrow",
    "/clients/nobody",
    "/masters/nobody",
    "/dead/no-task",
    "/litter",
)
LITTER: Final = b"what is this?"
_TIMEOUT: Final = 4.0


async def meddle(hosts: str, system: System, rng: random.Random, what: Meddling) -> None:
    client = Client(hosts, session_timeout=_TIMEOUT, connect_timeout=_TIMEOUT, clock=system.clock, rng=system.rng)
    with contextlib.suppress(errors.ZooKeeperError):  # he tries once
        async with client:
            if what is Meddling.LITTER:
                for path in _LITTER:
                    with contextlib.suppress(errors.ServerError):
                        await client.create(path, LITTER)
            else:
                paths = await _victims(client, what)
                if paths:
                    await client.delete(rng.choice(paths))


async def _victims(client: Client, what: Meddling) -> list[str]:
    match what:
        case Meddling.OUST_PRIMARY:
            return [layout.MASTER]
        case Meddling.OUST_WORKER:
            return [f"{layout.WORKERS}/{name}" for name in sorted(await client.children(layout.WORKERS))]
        case Meddling.OUST_MASTER:
            return [f"{layout.MASTERS}/{name}" for name in sorted(await client.children(layout.MASTERS))]
        case _:
            clients = [f"{layout.CLIENTS}/{name}" for name in sorted(await client.children(layout.CLIENTS))]
            return [f"{path}/{name}" for path in clients for name in sorted(await client.children(path))]
