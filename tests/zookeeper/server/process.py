"""The embedded server in a process that can be killed, and whose memory is its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from herdmaster.testing.ports import free_ports

_PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from herdmaster.zookeeper.server import EmbeddedServer, Limits

    async def main():
        server = EmbeddedServer(data_dir=sys.argv[1], port=int(sys.argv[2]), limits=Limits(journal=int(sys.argv[3])))
        await server.start()
        print(server.port, flush=True)
        await server.wait_stopped()

    asyncio.run(main())
    """
)


class Process:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (self.port,) = free_ports(1)  # it has to be free again after each kill
        self._process: subprocess.Popen[str] | None = None

    def start(self, journal: int = 1 << 26) -> None:
        """`journal` as in `Limits`."""
        command = [sys.executable, "-c", _PROGRAM, str(self._folder), str(self.port), str(journal)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def resident(self) -> int:
        """The bytes of its memory that are in use. Skips the test where the system does not tell."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status")
        if not status.exists():
            pytest.skip("how much memory a process uses is read from /proc")
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def snapshots(self) -> set[str]:
        return {path.name for path in self._folder.glob("snapshot.*")}
