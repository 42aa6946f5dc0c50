"""Flows end to end: one client, one primary, two workers, each a process, and one server of Apache ZooKeeper.

    python -m benchmarks.flows [--chain 1000] [--fan 10000] [--small 1000] [--wide 250] [--rounds 5]
        [--peers PYTHON] [--json]

| shape | what it is |
|---|---|
| chain | steps one after the other |
| fan | one step whose result has as many elements, `flow.each` over them, and a step that joins all |
| small | as many flows at once, each three steps and one that joins them |
| wide | as many flows at once, each 15 steps and one that joins them |

CPU is in microseconds per step, of client, primary and both workers together, beside that of plain tasks that are
submitted alike in the same run:

| shape | beside plain tasks |
|---|---|
| chain | one after the other: they share no transaction |
| fan | at once, by one `map` |
| small, wide | at once, each submitted and awaited by a coroutine |

A round measures each shape right after its plain tasks. The figures of a shape are those of the round with the median
ratio, and the least and the greatest ratio are told, because the CPU of the same work differs from round to round.

With --peers the same shapes but the last run on Celery with Redis (`redis-server` must be on the path) and on Dask:
PYTHON is an interpreter that has `celery`, `redis` and `distributed`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import msgspec

from benchmarks.flow_steps import add_one, herd, numbers, total
from benchmarks.throughput import REPOSITORY, cpu_seconds, running
from herdmaster.testing.apache import ApacheZooKeeper
from herdmaster.testing.ports import free_ports

TIMEOUT = 600
SMALL = 3
WIDE = 15
"""Steps of a flow beside the one that joins them."""


class Measured(msgspec.Struct, frozen=True):
    """`cpu` in microseconds per step and role."""

    steps: int
    seconds: float
    cpu: dict[str, float]

    @property
    def cpu_of_roles(self) -> float:
        return sum(value for role, value in self.cpu.items() if role != "ZooKeeper")


class Pair(msgspec.Struct, frozen=True):
    """One round of a shape."""

    plain: Measured
    steps: Measured
    ratio: float
    """The CPU of a step to that of a plain task."""


class Report(msgspec.Struct, frozen=True):
    """`shapes`: the rounds of each shape, by rising ratio. `peers`: the seconds of each shape."""

    shapes: dict[str, list[Pair]]
    peers: dict[str, dict[str, float]]


def run_chain(length: int) -> int:
    with herd.flow("chain") as flow:
        number = add_one.step(0)
        for _ in range(length - 1):
            number = add_one.step(number)
        flow.returns(number)
    assert flow.submit().result(timeout=TIMEOUT) == length
    return length


def run_fan(width: int) -> int:
    with herd.flow("fan") as flow:
        flow.returns(total.step(flow.each(add_one, numbers.step(width))))
    assert flow.submit().result(timeout=TIMEOUT) == width * (width + 1) // 2
    return width + 3


def run_small(count: int) -> int:
    return _run_joins("small", count, SMALL)


def run_wide(count: int) -> int:
    return _run_joins("wide", count, WIDE)


def _run_joins(name: str, count: int, width: int) -> int:
    async def run_one() -> object:
        with herd.flow(name) as flow:
            flow.returns(total.step([add_one.step(number) for number in range(width)]))
        return await (await flow.submit_async())

    async def run_all() -> list[object]:
        return await asyncio.gather(*(run_one() for _ in range(count)))

    assert asyncio.run(run_all()) == [width * (width + 1) // 2] * count
    return count * (width + 1)


def run_serial(count: int) -> int:
    assert [add_one.submit(number).result(timeout=TIMEOUT) for number in range(count)] == list(range(1, count + 1))
    return count


def run_single(count: int) -> int:
    async def run_one(number: int) -> int:
        return await (await add_one.submit_async(number))

    async def run_all() -> list[int]:
        return await asyncio.gather(*(run_one(number) for number in range(count)))

    assert asyncio.run(run_all()) == list(range(1, count + 1))
    return count


def run_plain(count: int) -> int:
    assert sum(add_one.map(range(count))) == count * (count + 1) // 2
    return count


class Shape(msgspec.Struct, frozen=True):
    """`tasks`: how many plain tasks stand for one of its size."""

    run: Callable[[int], int]
    run_plain: Callable[[int], int]
    tasks: int = 1


SHAPES = {
    "chain": Shape(run_chain, run_serial),
    "fan": Shape(run_fan, run_plain),
    "small": Shape(run_small, run_single, tasks=SMALL + 1),
    "wide": Shape(run_wide, run_single, tasks=WIDE + 1),
}


def measure(run: Callable[[int], int], size: int, pids: dict[str, int]) -> Measured:
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    began = time.perf_counter()
    steps = run(size)
    seconds = time.perf_counter() - began
    return Measured(
        steps, seconds, {name: (cpu_seconds(pid) - before[name]) / steps * 1e6 for name, pid in pids.items()}
    )


def measure_pair(shape: Shape, size: int, pids: dict[str, int]) -> Pair:
    plain = measure(shape.run_plain, size * shape.tasks, pids)
    steps = measure(shape.run, size, pids)
    return Pair(plain, steps, steps.cpu_of_roles / plain.cpu_of_roles)


def measure_ours(options: argparse.Namespace) -> dict[str, list[Pair]]:
    with ExitStack() as stack:
        zookeeper = stack.enter_context(ApacheZooKeeper(tick_time=2000, java_options=("-Xmx512m",)))
        hosts = f"{zookeeper.hosts}/flows-{uuid.uuid4().hex[:8]}"
        os.environ["HERD_ZOOKEEPER"] = hosts
        worker = ["herdmaster", "worker", hosts, "--app", "benchmarks.flow_steps", "--log-level", "warning"]
        roles = {
            "primary": stack.enter_context(running(["herdmaster", "master", hosts, "--log-level", "warning"])),
            "worker 1": stack.enter_context(running(worker)),
            "worker 2": stack.enter_context(running(worker)),
        }
        pids = {"client": os.getpid(), "ZooKeeper": zookeeper.pid} | {name: role.pid for name, role in roles.items()}
        stack.enter_context(herd)
        run_plain(5000)  # warms Java up
        run_fan(500)
        sizes = {"chain": options.chain, "fan": options.fan, "small": options.small, "wide": options.wide}
        rounds = [
            {name: measure_pair(shape, sizes[name], pids) for name, shape in SHAPES.items()}
            for _ in range(options.rounds)
        ]
        return {name: sorted((each[name] for each in rounds), key=lambda pair: pair.ratio) for name in SHAPES}


@contextmanager
def redis() -> Iterator[str]:
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="herd-redis-") as folder:
        # As durable as the other side is: the log is written to disk before a reply.
        options = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", folder]
        server = subprocess.Popen(["redis-server", "--port", str(port), *options], stdout=subprocess.DEVNULL)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


def measure_celery(python: str, sizes: list[str]) -> dict[str, float]:
    with redis() as url, ExitStack() as stack:
        environment = {**os.environ, "HERD_BENCHMARK_REDIS": url}
        module = "benchmarks.peers.celery_canvas"
        for number in range(2):
            worker = [
                python,
                "-m",
                "celery",
                "--app",
                module,
                "worker",
                "--pool",
                "solo",
                "-n",
                f"w{number}",
                "-l",
                "ERROR",
            ]
            process = subprocess.Popen(worker, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        return _times([python, "-m", module, *sizes], environment)


def _times(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    found = subprocess.run(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, check=True, timeout=1800)
    return msgspec.json.decode(found.stdout.splitlines()[-1], type=dict[str, float])


def show(report: Report) -> None:
    for name, rounds in report.shapes.items():
        median = rounds[len(rounds) // 2]
        _show_line(f"{name}, steps", median.steps)
        _show_line(f"{name}, plain tasks", median.plain)
        print(
            f"a step of {name} costs {median.ratio:.2f} times the CPU of such a plain task"
            f" ({rounds[0].ratio:.2f} to {rounds[-1].ratio:.2f} in {len(rounds)} rounds)"
        )
    for peer, times in report.peers.items():
        print(f"{peer:6} " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items()))


def _show_line(what: str, each: Measured) -> None:
    cpu = ", ".join(f"{role} {value:.0f}" for role, value in each.cpu.items())
    line = f"{what}: {each.steps} in {each.seconds:.2f} s = {each.steps / each.seconds:,.0f}/s"
    print(f"{line}; CPU us each: {cpu}; without ZooKeeper {each.cpu_of_roles:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chain", type=int, default=1000, metavar="N")
    parser.add_argument("--fan", type=int, default=10_000, metavar="N")
    parser.add_argument("--small", type=int, default=1000, metavar="N")
    parser.add_argument("--wide", type=int, default=250, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shapes = measure_ours(options)
    sizes = [str(size) for size in (options.chain, options.fan, options.small)]
    peers = {}
    if options.peers:
        peers["Celery"] = measure_celery(options.peers, sizes)
        peers["Dask"] = _times([options.peers, "-m", "benchmarks.peers.dask_graphs", *sizes], dict(os.environ))
    report = Report(shapes, peers)
    print(json.dumps(msgspec.to_builtins(report))) if options.json else show(report)


if __name__ == "__main__":
    main()
