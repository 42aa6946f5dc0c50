"""The embedded server beside Apache ZooKeeper: requests per second through one client, in one run.

    python -m benchmarks.server [--requests N] [--rounds N] [--sessions N] [--json]

Both run as separate processes on loopback: the embedded one as `herd zookeeper`, once in memory and once with a
data directory, Apache's with the full compiler and its usual log, which it syncs as the durable embedded one does.
The servers take turns of a few hundred requests and the medians count, so that whatever else the machine does meets
all of them. Depth is how many requests are under way at a time; the client's own time is in every number, and is the
same for all. A ratio is requests per second beside Apache's; nothing here is a bar that must be met.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

import msgspec

from herdmaster.testing.apache import ApacheZooKeeper, ZooKeeperNotInstalled
from herdmaster.testing.child import WatchedChild
from herdmaster.testing.ports import LOOPBACK, free_ports
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import WatchEvent

DATA = b"x" * 100
BATCH = 100
APACHE = "apache"
START_TIMEOUT = 30.0
PATIENCE = 120.0


class Case(msgspec.Struct, frozen=True):
    """`share` is the part of `--requests` that one turn of it runs."""

    operation: str
    depth: int
    share: float


CASES = (
    Case("get", 1, 0.2),
    Case("get", 100, 2.0),
    Case("create", 1, 0.2),
    Case("create", 100, 2.0),
    Case("multi", 1, 2.0),
    Case("fan-out", 1, 2.0),
)
"""`multi` counts the creates in transactions of a hundred, `fan-out` the events that reach the watching sessions."""


class Row(msgspec.Struct, frozen=True):
    """Requests per second by the name of the server."""

    operation: str
    depth: int
    per_second: dict[str, float]

    def ratio(self, name: str) -> float:
        return self.per_second[name] / self.per_second[APACHE]


class EmbeddedProcess:
    """`herd zookeeper` as a child process, with a folder for its log and, if it is durable, its data."""

    def __init__(self, *, is_durable: bool) -> None:
        self._is_durable = is_durable
        self._folder = tempfile.TemporaryDirectory(prefix="herdmaster-bench-", ignore_cleanup_errors=True)
        self._child: WatchedChild | None = None
        self.hosts = ""

    def __enter__(self) -> Self:
        folder = Path(self._folder.name)
        (port,) = free_ports(1)
        self.hosts = f"{LOOPBACK}:{port}"
        command = [sys.executable, "-m", "herdmaster", "zookeeper", "--port", str(port)]
        if self._is_durable:
            command += ["--data-dir", str(folder / "data")]
        self._child = WatchedChild(command, log=folder / "server.log", remove=folder)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._child is not None:
            self._child.terminate(10.0)
        self._folder.cleanup()


class Subject:
    """One server with a connected client, a new folder and, for the fan-out, many watching sessions."""

    def __init__(self, hosts: str, sessions: int) -> None:
        self._runner = asyncio.Runner()
        self._client = Client(hosts, session_timeout=30, connect_timeout=START_TIMEOUT)
        self._watchers = [Client(hosts, session_timeout=30, connect_timeout=START_TIMEOUT) for _ in range(sessions)]
        self._folder = f"/bench-{uuid.uuid4().hex}"
        self._names = (f"{self._folder}/node-{number:010d}" for number in itertools.count())
        self._events = 0
        self._wanted = 0
        self._all_came = asyncio.Event()

    def __enter__(self) -> Self:
        self._runner.run(self._open())
        return self

    def __exit__(self, *_error: object) -> None:
        self._runner.run(self._close())
        self._runner.close()

    async def _open(self) -> None:
        await self._client.open()
        await self._client.create(self._folder)
        await self._client.create(self._node, DATA)
        await asyncio.gather(*(watcher.open() for watcher in self._watchers))
        await asyncio.gather(*(watcher.add_watch(self._watched, self._count) for watcher in self._watchers))
        await self._client.create(self._watched)
        await self._wait_events(len(self._watchers))

    async def _close(self) -> None:
        await asyncio.gather(*(watcher.close() for watcher in self._watchers))
        await self._client.close()

    @property
    def _node(self) -> str:
        return f"{self._folder}/node"

    @property
    def _watched(self) -> str:
        return f"{self._folder}/watched"

    def _count(self, _event: WatchEvent) -> None:
        self._events += 1
        if self._events >= self._wanted:
            self._all_came.set()

    async def _wait_events(self, wanted: int) -> None:
        self._wanted = wanted
        if self._events < wanted:
            self._all_came.clear()
            await asyncio.wait_for(self._all_came.wait(), PATIENCE)

    def run(self, operation: str, depth: int, requests: int) -> float:
        """Requests per second."""
        return self._runner.run(self._run(operation, depth, requests))

    async def _run(self, operation: str, depth: int, requests: int) -> float:
        start = time.perf_counter()
        if operation == "multi":
            done = await self._run_multi(requests)
        elif operation == "fan-out":
            done = await self._run_fan_out(requests)
        else:
            done = await self._run_single(operation, depth, requests)
        return done / (time.perf_counter() - start)

    async def _run_single(self, operation: str, depth: int, requests: int) -> int:
        client = self._client
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "create": lambda: client.create(next(self._names), DATA),
            "get": lambda: client.get(self._node),
        }
        call = calls[operation]
        turns = iter(range(requests))

        async def lane() -> None:
            for _ in turns:
                await call()

        await asyncio.gather(*(lane() for _ in range(depth)))
        return requests

    async def _run_multi(self, requests: int) -> int:
        batches = max(requests // BATCH, 1)
        for _ in range(batches):
            transaction = self._client.transaction()
            for _ in range(BATCH):
                transaction.create(next(self._names), DATA)
            await transaction.commit()
        return batches * BATCH

    async def _run_fan_out(self, requests: int) -> int:
        """One change after the other; the next when every session has heard of the last."""
        changes = max(requests // len(self._watchers), 1)
        before = self._events
        for number in range(1, changes + 1):
            await self._client.set(self._watched, DATA)
            await self._wait_events(before + number * len(self._watchers))
        return self._events - before


def compare(subjects: dict[str, Subject], requests: int, rounds: int) -> Iterator[Row]:
    for case in CASES:
        rates: dict[str, list[float]] = {name: [] for name in subjects}
        turn = max(int(requests * case.share), 1)
        for number in range(rounds + 1):
            for name, subject in subjects.items():
                rate = subject.run(case.operation, case.depth, turn)
                if number > 0:  # the first turn warms up the server and the client
                    rates[name].append(rate)
        yield Row(case.operation, case.depth, {name: statistics.median(each) for name, each in rates.items()})


def print_table(rows: list[Row]) -> None:
    names = [name for name in rows[0].per_second if name != APACHE]
    print("requests per second, and how many times Apache's that is")
    print(f"{'operation':<10}{'depth':>6}{APACHE:>10}" + "".join(f"{name:>22}" for name in names))
    for row in rows:
        ours = "".join(f"{row.per_second[name]:>15.0f}{row.ratio(name):>6.2f}x" for name in names)
        print(f"{row.operation:<10}{row.depth:>6}{row.per_second[APACHE]:>10.0f}{ours}")


def to_json(rows: list[Row]) -> str:
    entries = [
        {**msgspec.to_builtins(row), "ratio": {name: round(row.ratio(name), 2) for name in row.per_second}}
        for row in rows
    ]
    return json.dumps(entries, indent=2)


def run(apache: ApacheZooKeeper, requests: int, rounds: int, sessions: int) -> list[Row]:
    with contextlib.ExitStack() as stack:
        memory = stack.enter_context(EmbeddedProcess(is_durable=False))
        durable = stack.enter_context(EmbeddedProcess(is_durable=True))
        stack.enter_context(apache)
        hosts = {APACHE: apache.hosts, "in memory": memory.hosts, "durable": durable.hosts}
        subjects = {name: stack.enter_context(Subject(each, sessions)) for name, each in hosts.items()}
        return list(compare(subjects, requests, rounds))


def main() -> int:
    parser = argparse.ArgumentParser(description="The embedded server beside Apache ZooKeeper.")
    parser.add_argument("--requests", type=int, default=500, help="per turn (twice that at depth 100, a fifth at 1)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each server per row")
    parser.add_argument("--sessions", type=int, default=100, help="that watch in the fan-out")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    if min(options.requests, options.rounds, options.sessions) < 1:
        parser.error("--requests, --rounds and --sessions must be at least 1")
    try:
        apache = ApacheZooKeeper(tick_time=2000, java_options=("-Xmx512m",))
    except ZooKeeperNotInstalled as reason:
        print(reason, file=sys.stderr)
        return 2
    rows = run(apache, options.requests, options.rounds, options.sessions)
    print(to_json(rows)) if options.json else print_table(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
