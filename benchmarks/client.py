"""The ZooKeeper client beside kazoo: CPU and requests per second, in one run, against one Apache server.

    python benchmarks/client.py [--requests N] [--rounds N] [--json]

What is compared is the client's own CPU (`time.process_time`, all threads) per request, because that is what limits a
process that does other work; requests per second depend on the server and its disk as well. Depth is how many requests
are under way at a time. The two clients take turns of a few hundred requests, and of each client's turns the better
quarter counts: what else the machine does only ever adds, and meets both.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol, Self

import msgspec
from kazoo.client import KazooClient

from herdmaster.testing.apache import ApacheZooKeeper, ZooKeeperNotInstalled
from herdmaster.zookeeper.client import Client

OPERATIONS = ("create", "get", "set")
DEPTHS = (1, 100)
DATA = b"x" * 100
BAR = {("create", 100): 10.0, ("get", 100): 6.0}
"""How many times less CPU than kazoo the project asks of its client."""


class Cost(msgspec.Struct, frozen=True):
    cpu_us: float
    per_second: float


class Row(msgspec.Struct, frozen=True):
    operation: str
    depth: int
    kazoo: Cost
    ours: Cost
    bar: float | None

    @property
    def ratio(self) -> float:
        return self.kazoo.cpu_us / self.ours.cpu_us


class Subject(Protocol):
    """A connected client with a folder of its own."""

    def run(self, operation: str, depth: int, requests: int) -> None: ...


class Ours:
    def __init__(self, hosts: str) -> None:
        self._runner = asyncio.Runner()
        self._client = Client(hosts, session_timeout=30, connect_timeout=30)
        self._folder = f"/ours-{uuid.uuid4().hex}"
        self._names = (f"{self._folder}/task-{number:010d}" for number in itertools.count())

    def __enter__(self) -> Self:
        self._runner.run(self._open())
        return self

    def __exit__(self, *_error: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    async def _open(self) -> None:
        await self._client.open()
        await self._client.create(self._folder, b"")
        await self._client.create(f"{self._folder}/node", DATA)

    def run(self, operation: str, depth: int, requests: int) -> None:
        client, node = self._client, f"{self._folder}/node"
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "create": lambda: client.create(next(self._names), DATA),
            "get": lambda: client.get(node),
            "set": lambda: client.set(node, DATA),
        }
        self._runner.run(self._run_at_depth(calls[operation], depth, requests))

    @staticmethod
    async def _run_at_depth(call: Callable[[], Awaitable[object]], depth: int, requests: int) -> None:
        turns = iter(range(requests))

        async def lane() -> None:
            for _ in turns:
                await call()

        await asyncio.gather(*(lane() for _ in range(depth)))


class Kazoo:
    def __init__(self, hosts: str) -> None:
        self._client = KazooClient(hosts, timeout=30)
        self._folder = f"/kazoo-{uuid.uuid4().hex}"
        self._names = (f"{self._folder}/task-{number:010d}" for number in itertools.count())

    def __enter__(self) -> Self:
        self._client.start(timeout=30)
        self._client.create(self._folder)
        self._client.create(f"{self._folder}/node", DATA)
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.stop()
        self._client.close()

    def run(self, operation: str, depth: int, requests: int) -> None:
        """Asynchronous calls, with a semaphore that their callbacks release: the least that kazoo can do."""
        client, node = self._client, f"{self._folder}/node"
        calls: dict[str, Callable[[], Any]] = {
            "create": lambda: client.create_async(next(self._names), DATA),
            "get": lambda: client.get_async(node),
            "set": lambda: client.set_async(node, DATA),
        }
        call = calls[operation]
        if depth == 1:
            for _ in range(requests):
                call().get()
            return
        free = threading.Semaphore(depth)
        for _ in range(requests):
            free.acquire()
            call().rawlink(lambda _result: free.release())
        for _ in range(depth):
            free.acquire()


def measure(subject: Subject, operation: str, depth: int, requests: int) -> Cost:
    cpu, clock = time.process_time(), time.perf_counter()
    subject.run(operation, depth, requests)
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return Cost(cpu / requests * 1e6, requests / clock)


def summary(costs: list[Cost]) -> Cost:
    """The quartiles on the better side."""
    cheap, *_ = statistics.quantiles([cost.cpu_us for cost in costs], n=4, method="inclusive")
    *_, fast = statistics.quantiles([cost.per_second for cost in costs], n=4, method="inclusive")
    return Cost(cheap, fast)


def compare(hosts: str, requests: int, rounds: int) -> Iterator[Row]:
    with Kazoo(hosts) as kazoo, Ours(hosts) as ours:
        for depth, operation in itertools.product(DEPTHS, OPERATIONS):
            # At depth 1 each request costs a round trip, to the disk if it writes.
            turn = requests if depth > 1 else max(requests // 10, 1)
            costs: dict[Subject, list[Cost]] = {kazoo: [], ours: []}
            for number in range(rounds + 1):
                for subject, list_ in costs.items():
                    cost = measure(subject, operation, depth, turn)
                    if number > 0:  # the first turn warms up the server and the client
                        list_.append(cost)
            yield Row(operation, depth, summary(costs[kazoo]), summary(costs[ours]), BAR.get((operation, depth)))


def print_table(rows: list[Row]) -> None:
    print(f"{'':16}{'CPU us per request':^28}{'':9}{'requests per second':^24}")
    print(f"{'operation':<10}{'depth':>6}{'kazoo':>14}{'ours':>14}{'ratio':>9}{'kazoo':>12}{'ours':>12}{'bar':>7}")
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:g}"
        print(
            f"{row.operation:<10}{row.depth:>6}{row.kazoo.cpu_us:>14.1f}{row.ours.cpu_us:>14.1f}{row.ratio:>9.1f}"
            f"{row.kazoo.per_second:>12.0f}{row.ours.per_second:>12.0f}{bar:>7}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="The ZooKeeper client beside kazoo.")
    parser.add_argument("--requests", type=int, default=500, help="per turn (a tenth of it at depth 1)")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each client per row, at least 2")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    try:
        server = ApacheZooKeeper(java_options=("-Xmx512m",))
    except ZooKeeperNotInstalled as reason:
        print(reason, file=sys.stderr)
        return 2
    with server:
        rows = list(compare(server.hosts, options.requests, options.rounds))
    if options.json:
        print(json.dumps([{**msgspec.to_builtins(row), "ratio": round(row.ratio, 2)} for row in rows], indent=2))
    else:
        print_table(rows)
    missed = [row for row in rows if row.bar is not None and row.ratio < row.bar]
    for row in missed:
        print(f"below the bar: {row.operation} at depth {row.depth}, {row.ratio:.1f} < {row.bar}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
