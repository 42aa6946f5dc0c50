"""Election through one ephemeral znode: the client whose session owns it is elected.

The only way to resign is to end the session: a session that lives on could still have writes under way.
"""

from __future__ import annotations

from collections.abc import Callable

from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.recipes.ownership import claim, wait_while


class Election:
    """The candidacy of one session for `path`. At most one session owns the znode at any time."""

    def __init__(self, client: Client, path: str, data: bytes) -> None:
        self._client = client
        self._path = path
        self._data = data

    async def wait_elected(self, on_standby: Callable[[], None] = lambda: None) -> None:
        """Return when this session owns the znode. `on_standby` is called each time another session is found to own it.

        Raises SessionExpired when the session is over.
        """
        while not await claim(self._client, self._path, self._data):
            on_standby()
            await wait_while(self._client, self._path, owned=False)

    async def wait_lost(self) -> None:
        """Return when the znode is gone although the session lives: it was deleted by hand."""
        await wait_while(self._client, self._path, owned=True)
