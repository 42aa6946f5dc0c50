"""Watch the cluster on a separate thread while the demo's main thread waits for results."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from herdmaster.api.security import environment_security
from herdmaster.errors import ConfigurationError
from herdmaster.inspection.overview import Overview, OverviewReader
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.errors import ZooKeeperError

_INTERVAL: Final = 0.1


class Lookout:
    """Looks every tenth of a second. `changed` is called after each look, on the lookout's thread."""

    def __init__(self, hosts: str, session_timeout: float, changed: Callable[[], None]) -> None:
        self._hosts = hosts
        self._session_timeout = session_timeout
        self._changed = changed
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="lookout", daemon=True)
        self.overview: Overview | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()

    def wait_for(self, condition: Callable[[Overview], bool], seconds: float) -> Overview:
        """The first look from now on of which the condition is true. Raises TimeoutError."""
        limit = time.monotonic() + seconds
        with self._news:
            while True:
                if not self._news.wait(max(limit - time.monotonic(), 0.0)):
                    raise TimeoutError
                if self.overview is not None and condition(self.overview):
                    return self.overview

    async def _watch(self) -> None:
        while not self._closing.is_set():
            try:
                async with Client(
                    self._hosts,
                    session_timeout=self._session_timeout,
                    connect_timeout=5.0,
                    security=environment_security(),
                ) as client:
                    await self._look(OverviewReader(client))
            except (ZooKeeperError, ConfigurationError):  # the first master has not made the namespace yet, say
                await asyncio.sleep(_INTERVAL)

    async def _look(self, observer: OverviewReader) -> None:
        while not self._closing.is_set():
            overview = await observer.look()
            with self._news:
                self.overview = overview
                self._news.notify_all()
            self._changed()
            await asyncio.sleep(_INTERVAL)
