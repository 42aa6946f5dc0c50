"""A client that waits for tasks as their submitter does."""

from __future__ import annotations

from tests.roles.stage import StagedClient, Submitted, until


async def wait_for(client: StagedClient, *names: str) -> list[Submitted]:
    """Waits as the submitter does: the task is accepted, and will end."""
    waiting = [Submitted(name) for name in names]
    for each in waiting:
        each.accepted.set_result(None)
        client.outcomes.wait_for(each.name, each.handle_ended)
    await until(lambda: not client.outcomes._to_arm, "the watches to be armed")
    await client.session.sync()
    return waiting
