"""The ZooKeeper client beside kazoo: CPU and requests per second, in one run, against one Apache server.

    python benchmarks/client.py [--requests N] [--rounds N] [--json]

What is compared is the client's own CPU (`time.process_time`, all threads) per request, because that is what limits a
process that does other work; requests per second depend on the server and its disk as well. Depth is how many requests
are under way at a time.

kazoo does its asynchronous calls with callbacks, the cheapest way that it has (at depth 1 it waits for each, as its
blocking calls do). Ours is measured in the same way, `call_nowait` with callbacks, which is how Herdmaster's roles use
it; and as coroutines that await each call, which costs what asyncio takes for waking a task. The bar is for the first.

The clients take turns of a few hundred requests, and of each client's turns the better quarter counts: what else the
machine does only ever adds, and meets all.
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
from herdmaster.zookeeper.model import OPEN_ACL
from herdmaster.zookeeper.wire.records import Create, GetData, Record, Request, SetData

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
    callbacks: Cost
    awaited: Cost
    bar: float | None

    @property
    def ratio(self) -> float:
        return self.kazoo.cpu_us / self.callbacks.cpu_us

    @property
    def awaited_ratio(self) -> float:
        return self.kazoo.cpu_us / self.awaited.cpu_us


class Subject(Protocol):
    """A connected client with a new folder."""

    def run(self, operation: str, depth: int, requests: int) -> None: ...


class Ours:
    """Our client, and its own event loop."""

    def __init__(self, hosts: str) -> None:
        self._runner = asyncio.Runner()
        self._client = Client(hosts, session_timeout=30, connect_timeout=30)
        self._folder = f"/ours-{uuid.uuid4().hex}"
        self._node = f"{self._folder}/node"
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
        await self._client.create(self._node, DATA)


class Awaited(Ours):
    """As many coroutines as the depth, each of which awaits one call after the other."""

    def run(self, operation: str, depth: int, requests: int) -> None:
        client, node = self._client, self._node
        calls: dict[str, Callable[[], Awaitable[object]]] = {
            "create": lambda: client.create(next(self._names), DATA),
            "get": lambda: client.get(node),
            "set": lambda: client.set(node, DATA),
        }
        self._runner.run(self._run(calls[operation], depth, requests))

    @staticmethod
    async def _run(call: Callable[[], Awaitable[object]], depth: int, requests: int) -> None:
        turns = iter(range(requests))

        async def lane() -> None:
            for _ in turns:
                await call()

        await asyncio.gather(*(lane() for _ in range(depth)))


class Callbacks(Ours):
    """Calls without waiting; the callback of each makes the next."""

    def run(self, operation: str, depth: int, requests: int) -> None:
        outward = self._client.outward
        makers: dict[str, Callable[[], Request[Record]]] = {
            "create": lambda: Create(outward(next(self._names)), DATA, OPEN_ACL, 0),
            "get": lambda: GetData(outward(self._node), watch=False),
            "set": lambda: SetData(outward(self._node), DATA, -1),
        }
        self._runner.run(self._run(makers[operation], depth, requests))

    async def _run(self, make: Callable[[], Request[Record]], depth: int, requests: int) -> None:
        to_send, to_come = requests, requests
        over = asyncio.Event()

        def send() -> None:
            nonlocal to_send
            to_send -= 1
            self._client.call_nowait(make(), done)

        def done(_reply: Record | None, error: Exception | None) -> None:
            nonlocal to_come
            assert error is None, error
            to_come -= 1
            if to_send:
                send()
            elif not to_come:
                over.set()

        for _ in range(min(depth, requests)):
            send()
        await over.wait()


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
    with Kazoo(hosts) as kazoo, Callbacks(hosts) as callbacks, Awaited(hosts) as awaited:
        for depth, operation in itertools.product(DEPTHS, OPERATIONS):
            # At depth 1 each request costs a round trip, to the disk if it writes.
            turn = requests if depth > 1 else max(requests // 10, 1)
            costs: dict[Subject, list[Cost]] = {kazoo: [], callbacks: [], awaited: []}
            for number in range(rounds + 1):
                for subject, measured in costs.items():
                    cost = measure(subject, operation, depth, turn)
                    if number > 0:  # the first turn warms up the server and the client
                        measured.append(cost)
            yield Row(
                operation,
                depth,
                kazoo=summary(costs[kazoo]),
                callbacks=summary(costs[callbacks]),
                awaited=summary(costs[awaited]),
                bar=BAR.get((operation, depth)),
            )


def print_table(rows: list[Row]) -> None:
    print(f"{'':16}{'CPU us per request':^47}{'':6}{'requests per second':^30}")
    print(
        f"{'operation':<10}{'depth':>6}{'kazoo':>10}{'callbacks':>12}{'ratio':>7}{'awaited':>10}{'ratio':>7}{'bar':>6}"
        f"{'kazoo':>10}{'callbacks':>11}{'awaited':>9}"
    )
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:g}"
        print(
            f"{row.operation:<10}{row.depth:>6}{row.kazoo.cpu_us:>10.1f}{row.callbacks.cpu_us:>12.1f}{row.ratio:>7.1f}"
            f"{row.awaited.cpu_us:>10.1f}{row.awaited_ratio:>7.1f}{bar:>6}{row.kazoo.per_second:>10.0f}"
            f"{row.callbacks.per_second:>11.0f}{row.awaited.per_second:>9.0f}"
        )


def as_builtins(row: Row) -> dict[str, object]:
    ratios = {"ratio": round(row.ratio, 2), "awaited_ratio": round(row.awaited_ratio, 2)}
    return {**msgspec.to_builtins(row), **ratios}


def main() -> int:
    parser = argparse.ArgumentParser(description="The ZooKeeper client beside kazoo.")
    parser.add_argument("--requests", type=int, default=500, help="per turn (a tenth of it at depth 1)")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each client per row, at least 2")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    if options.rounds < 2 or options.requests < 1:
        parser.error("at least 2 rounds and 1 request")
    try:
        server = ApacheZooKeeper(java_options=("-Xmx512m",))
    except ZooKeeperNotInstalled as reason:
        print(reason, file=sys.stderr)
        return 2
    with server:
        rows = list(compare(server.hosts, options.requests, options.rounds))
    if options.json:
        print(json.dumps([as_builtins(row) for row in rows], indent=2))
    else:
        print_table(rows)
    missed = [row for row in rows if row.bar is not None and row.ratio < row.bar]
    for row in missed:
        print(f"below the bar: {row.operation} at depth {row.depth}, {row.ratio:.1f} < {row.bar}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
