"""What operators do to flows."""

from __future__ import annotations

from herdmaster.operations import flows
from herdmaster.simulation.plan.faults import FlowChange
from herdmaster.simulation.world.errands import EditFlow
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
