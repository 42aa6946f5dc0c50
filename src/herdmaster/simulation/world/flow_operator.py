"""What operators do to flows."""

from __future__ import annotations

import random

from herdmaster.core import layout
from herdmaster.operations import flows
from herdmaster.simulation.plan.faults import FlowChange
from herdmaster.simulation.world.errands import DeleteStepOf, EditFlow
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client


async def change_flow(client: Client, errand: EditFlow) -> None:
    """Change a flow. Raises as the operations do."""
    match errand.what:
        case FlowChange.RETRY:
            await flows.retry_flow(client, errand.name)
        case FlowChange.CANCEL:
            await flows.cancel_flow(client, errand.name)
        case FlowChange.REMOVE:
            await flows.remove_flow(client, errand.name)


async def delete_step(client: Client, errand: DeleteStepOf, rng: random.Random) -> None:
    """Delete the task of a running step where it is, if it is still there. Raises the errors of ZooKeeper."""
    running = sorted(await client.children(layout.flow_running_path(errand.flow)))
    if not running:
        return
    task = rng.choice(running)
    places = [layout.task_path(task)]
    places += [layout.assignment_path(worker, task) for worker in sorted(await client.children(layout.ASSIGN))]
    delayed = sorted(await client.children(layout.DELAYED))
    places += [f"{layout.DELAYED}/{name}" for name in delayed if name.endswith(f"-{task}")]
    for place in places:
        try:
            await client.delete(place)
        except errors.NoNode:
            continue
        return
