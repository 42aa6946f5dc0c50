"""An event loop on its own thread, so that plain tests can run asyncio code."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Final, TypeVar

T = TypeVar("T")

_PATIENCE: Final = 30.0


class BackgroundLoop:
    """An event loop that runs on a thread from construction until `close`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[object, object, T]) -> asyncio.Future[T]:
        """Start a coroutine. The future belongs to the loop: only pass it to `run`."""

        async def begin() -> asyncio.Future[T]:
            return asyncio.ensure_future(coroutine)

        return self.run(begin())

    def run(self, coroutine: Coroutine[object, object, T], patience: float = _PATIENCE) -> T:
        """Run a coroutine to its end. Raises what it raises, and TimeoutError after `patience` seconds."""
        running = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return running.result(patience)
        except TimeoutError:
            if running.done():
                raise
            running.cancel()
            raise TimeoutError(f"{self._thread.name} was not done with it within {patience:g} s") from None

    def call(self, function: Callable[[], T]) -> T:
        """Call a function on the thread of the loop."""

        async def call() -> T:
            return function()

        return self.run(call())

    def close(self) -> None:
        """Cancel all coroutines that run, and end the thread."""
        if self._loop.is_closed():
            return
        self.run(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()


async def _cancel_all() -> None:
    mine = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not mine]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
