"""The embedded ZooKeeper as a child process on loopback, which tests can kill, pause and restart as Apache's.

The server keeps its data, and has an interpreter of its own. `embedded.EmbeddedZooKeeper` starts faster, and has faults
of single requests instead.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from herdmaster.testing.child_server import ChildServer, ServerStartFailed

__all__ = ["EmbeddedProcess", "ServerStartFailed"]


class EmbeddedProcess(ChildServer):
    """One embedded server with its own port and data folder.

    Without `folder` everything is in a temporary folder that `close` removes. `tick_time` is in milliseconds; session
    timeouts are negotiated between 2 and 20 ticks.

    Raises ServerStartFailed from `start` and `restart`.
    """

    def __init__(
        self,
        *,
        tick_time: int = 200,
        port: int | None = None,
        folder: Path | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        super().__init__(port=port, folder=folder, start_timeout=start_timeout)
        self._tick_time = tick_time

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-m", __name__, str(self.port), str(self.data_dir), str(self._tick_time)]


async def _serve(port: int, folder: str, tick_time: int) -> None:
    """Serve until SIGTERM. Raises OSError if the port is taken, JournalError if the disk fails."""
    # Imported here, because the program that starts the child needs no server.
    from herdmaster.zookeeper.server import EmbeddedServer, Limits, descriptors  # noqa: PLC0415

    descriptors.raise_limit()
    server = EmbeddedServer(
        port=port,
        data_dir=folder,
        tick_time=tick_time,
        min_session_timeout=2 * tick_time,
        max_session_timeout=20 * tick_time,
        limits=Limits(connections_per_host=0),
    )
    await server.start()
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    ends = [asyncio.ensure_future(terminated.wait()), asyncio.ensure_future(server.wait_stopped())]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    await server.stop()
    await ends[1]


def main() -> None:
    port, folder, tick_time = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(int(port), folder, int(tick_time)))


if __name__ == "__main__":
    main()
