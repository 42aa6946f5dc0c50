"""Whether the primary is one of ours.

Under one of the reference's, which never looks at a task's name twice, nothing can be put back into `/tasks`. Nor while
there is no primary: the next may be one of the reference's, which at its takeover deletes from `/tasks` what it saw
assigned, and would delete what was put back meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from herdmaster.core import layout
from herdmaster.core.members import decode_master
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.wire.records import DataReply, GetData, Record


class PrimaryKind:
    """What one session knows about it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asking = False

    def ask(self, answer: Callable[[bool], None]) -> None:
        """Answers later; never if the session ends, or while there is no primary, so ask again. Who asks again before
        that is answered with the first; so all must give the same `answer`."""
        if self._asking:
            return
        self._asking = True

        def done(reply: Record | None, _error: Exception | None) -> None:
            self._asking = False
            if isinstance(reply, DataReply):
                answer(is_ours(reply.data))

        try:
            self._client.call_nowait(GetData(self._client.outward(layout.MASTER), False), done)
        except errors.ZooKeeperError:  # the session is over
            self._asking = False


async def primary_is_ours(client: Client) -> bool:
    """False where there is no primary."""
    try:
        data, _ = await client.get(layout.MASTER)
    except errors.NoNode:
        return False
    return is_ours(data)


def is_ours(data: bytes | None) -> bool:
    """Whether `/master` with this data is one of ours."""
    return decode_master(data) is not None
