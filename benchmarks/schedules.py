"""Many schedules on one primary: how late their tasks are made, and how long a takeover is.

    python -m benchmarks.schedules [--schedules N] [--period SECONDS] [--takeovers N] [--together] [--apache] [--json]

Every schedule is due once in each period, spread evenly over it, or all at the same moment with `--together`. Two
masters run, each a process, beside a worker that runs the tasks. After one whole period the tick of each schedule says
how late its last task was made, by the servers' clock. Then the primary is killed: *first* is the time from the kill to
the next task of a schedule, *caught up* to when no time is overdue, both without the session timeout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks.noop import noop
from benchmarks.server import EmbeddedProcess
from benchmarks.throughput import cpu_seconds
from herdmaster.core import layout
from herdmaster.core.names import DEFAULT_QUEUE
from herdmaster.core.payload import Call, encode_arguments, encode_call
from herdmaster.core.schedules import Overlap, Schedule, Tick, decode_tick
from herdmaster.core.timetable import Every
from herdmaster.operations.schedule_plan import apply_schedules
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.testing.apache import ApacheZooKeeper
from herdmaster.zookeeper.client import Client
from herdmaster.zookeeper.model import EventType, WatchEvent

REPOSITORY = Path(__file__).resolve().parents[1]
SESSION_TIMEOUT = 4.0
READ_AT_ONCE = 500
STEADY_SECONDS = 5.0


class Report(msgspec.Struct, frozen=True):
    """Lateness in milliseconds, of the last task of each schedule; `cpu` is the primary's, in microseconds per tick;
    the takeovers in seconds beyond the session timeout."""

    schedules: int
    period: float
    p50: float
    p99: float
    longest: float
    cpu: float
    first: list[float]
    caught_up: list[float]


class Masters:
    """Two masters and a worker as processes."""

    def __init__(self, hosts: str, stack: ExitStack) -> None:
        self._hosts = hosts
        self._stack = stack
        worker = ["worker", "--app", "benchmarks.noop", "--drain-timeout", "1"]
        stack.enter_context(_process([*worker, hosts]))
        self._running = [self._start(), self._start()]

    def _start(self) -> subprocess.Popen[bytes]:
        command = ["master", "--session-timeout", str(SESSION_TIMEOUT), self._hosts]
        return self._stack.enter_context(_process(command))

    def primary(self, data: bytes) -> subprocess.Popen[bytes]:
        pid = json.loads(data)["pid"]
        return next(each for each in self._running if each.pid == pid)

    def replace(self, dead: subprocess.Popen[bytes]) -> None:
        self._running.remove(dead)
        self._running.append(self._start())


@contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "herdmaster", *command],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def schedules(count: int, period: float, *, together: bool) -> dict[str, Schedule]:
    call = Call(
        1, f"{noop.function.__module__}:{noop.function.__qualname__}", *encode_arguments((1,), {}), outcome=False
    )
    payload = msgspec.Raw(encode_call(call))
    period_ms = int(period * 1000)
    return {
        f"schedule-{number}": Schedule(
            id=f"{number:08x}",
            timetable=Every(period_ms, 0 if together else number * period_ms // count),
            payload=payload,
            queue=DEFAULT_QUEUE,
            overlap=Overlap.SKIP,
        )
        for number in range(count)
    }


def _declared(options: argparse.Namespace) -> dict[str, Schedule]:
    return schedules(options.schedules, options.period, together=options.together)


async def read_ticks(client: Client) -> list[Tick]:
    names = await client.children(layout.TICKS)
    found: list[Tick] = []
    for start in range(0, len(names), READ_AT_ONCE):
        paths = [f"{layout.TICKS}/{name}" for name in names[start : start + READ_AT_ONCE]]
        found += [decode_tick(reply[0]) for reply in await client.multi_read(paths) if isinstance(reply, tuple)]
    return found


async def overdue(client: Client) -> int:
    """Return how many ticks are more than a quarter of a second overdue, by the clock of this machine."""
    limit = f"{time.time_ns() // 1_000_000 - 250:013d}"
    return sum(name < limit for name in await client.children(layout.TICKS))


async def take_over(client: Client, masters: Masters) -> tuple[float, float]:
    """Kill the primary. Return when the next task of a schedule is made, and when none is overdue any more."""
    data, _ = await client.get(layout.MASTER)
    primary = masters.primary(data or b"")
    first = asyncio.get_running_loop().create_future()
    killed = time.monotonic() + 3600.0

    def handle(event: WatchEvent) -> None:
        if event.type is EventType.CREATED and time.monotonic() > killed + 0.5 and not first.done():
            first.set_result(time.monotonic())

    await client.add_watch(layout.TICKS, handle, recursive=True)
    primary.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    at = await first
    await client.remove_watch(layout.TICKS, handle, recursive=True)
    while await overdue(client):  # noqa: ASYNC110 - what is waited for is a time
        await asyncio.sleep(0.02)
    caught_up = time.monotonic()
    masters.replace(primary)
    return at - killed - SESSION_TIMEOUT, caught_up - killed - SESSION_TIMEOUT


async def measure(hosts: str, options: argparse.Namespace, stack: ExitStack) -> Report:
    async with Client(hosts, session_timeout=30.0, connect_timeout=30.0) as client:
        await make_folders(client)
        await apply_schedules(client, "benchmark", _declared(options))
        masters = Masters(hosts, stack)
        while await client.exists(layout.MASTER) is None:  # noqa: ASYNC110 - nothing is measured here
            await asyncio.sleep(0.1)
        primary = masters.primary((await client.get(layout.MASTER))[0] or b"")
        await asyncio.sleep(options.period)
        before, at = cpu_seconds(primary.pid), time.monotonic()
        await asyncio.sleep(options.period)
        cpu = (cpu_seconds(primary.pid) - before) / (time.monotonic() - at) * options.period / options.schedules
        late = sorted(tick.late_ms for tick in await read_ticks(client))
        takeovers = []
        for _ in range(options.takeovers):
            await asyncio.sleep(STEADY_SECONDS)
            takeovers.append(await take_over(client, masters))
    return Report(
        options.schedules,
        options.period,
        statistics.median(late),
        late[int(len(late) * 0.99)],
        late[-1],
        cpu * 1e6,
        [first for first, _ in takeovers],
        [caught_up for _, caught_up in takeovers],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=10_000, metavar="N")
    parser.add_argument("--period", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--takeovers", type=int, default=3, metavar="N")
    parser.add_argument("--together", action="store_true", help="all schedules are due at the same moments")
    parser.add_argument("--apache", action="store_true", help="on Apache's server instead of the embedded one")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        if options.apache:
            hosts = stack.enter_context(ApacheZooKeeper()).hosts
        else:
            hosts = stack.enter_context(EmbeddedProcess(is_durable=True)).hosts
        report = asyncio.run(measure(hosts, options, stack))
    if options.json:
        print(json.dumps(msgspec.to_builtins(report)))
        return
    print(f"{report.schedules} schedules, each due every {report.period:g} s")
    print(f"lateness: median {report.p50:.0f} ms, p99 {report.p99:.0f} ms, longest {report.longest:.0f} ms")
    print(f"CPU of the primary: {report.cpu:.0f} us per tick")
    for first, caught_up in zip(report.first, report.caught_up, strict=True):
        print(f"takeover beyond the session timeout: first {first:.2f} s, caught up {caught_up:.2f} s")


if __name__ == "__main__":
    main()
