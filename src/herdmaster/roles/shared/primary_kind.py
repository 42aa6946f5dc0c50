"""Which program is primary: one of ours, or a reference program.

Under a reference primary, which never looks at a task's name twice, nothing may be put back into `/tasks`. Nor while
there is no primary: the next one may be a reference program. At its takeover that deletes from `/tasks` the tasks that
it saw assigned, and would delete what was put back meanwhile.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from herdmaster.core import layout
from herdmaster.core.members import decode_master
from herdmaster.zookeeper import errors
from herdmaster.zookeeper.client import Client, Node


class PrimaryProgram(enum.Enum):
    """The program that is primary. The value says what becomes of the tasks that a worker leaves in its inbox under
    it."""

    OURS = "the primary gives them to other workers"
    REFERENCE = (
        "the primary is a program of the reference: a Java master gives them to other workers when it hears that this "
        "worker is gone, a C master never does, and then they wait for a herd master"
    )
    CURATOR = "the primary is a Curator master, which deletes what stands in the inbox of a worker that is gone"
    NONE = "the next primary gives them to other workers"


class PrimaryKind:
    """The kind of primary, as one session sees it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asking = False

    def ask(self, answer: Callable[[bool], None]) -> None:
        """Call `answer` later, with whether the primary is one of ours. It is not called if the session ends or there
        is no primary, so ask again. While a question is under way, another one is ignored: all must give the same
        `answer`."""
        if self._asking:
            return
        self._asking = True

        def done(master: Node | None, _error: Exception | None) -> None:
            self._asking = False
            if master is not None:
                answer(is_ours(master[0]))

        try:
            self._client.get_nowait(layout.MASTER, done)
        except errors.ZooKeeperError:  # the session is over
            self._asking = False


async def primary_program(client: Client) -> PrimaryProgram:
    """Return the program that is primary now. A C and a Java master both write hex digits, so they cannot be told
    apart."""
    try:
        data, stat = await client.get(layout.MASTER)
    except errors.NoNode:
        return PrimaryProgram.NONE
    if is_ours(data):
        return PrimaryProgram.OURS
    # A Curator master makes `/master` a folder, and owns one of its children.
    return PrimaryProgram.CURATOR if stat.num_children else PrimaryProgram.REFERENCE


async def primary_is_ours(client: Client) -> bool:
    """Return whether the primary is one of ours; False if there is none."""
    return await primary_program(client) is PrimaryProgram.OURS


def is_ours(data: bytes | None) -> bool:
    """Return whether `/master` with this data belongs to one of ours."""
    return decode_master(data) is not None
