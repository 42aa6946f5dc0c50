"""End to end: no-op tasks from one client through one primary to two workers, each a process, and one ZooKeeper.

The reference's roles, written with kazoo, do the same in the same run, with raw tasks and a window of 100.

    python -m benchmarks.throughput [--tasks 20000] [--rounds 3] [--metrics] [--tls] [--json]

Prints tasks per second (the median of the rounds), the ratio, the serial round trip, and CPU per task and role. The CPU
of ZooKeeper itself is Java's, with its compiler; the first round warms it up and is shown, but not counted.

With --tls the reference is left out, and ours run twice on one server with Netty: over its plain port, then over its
port for TLS, with client certificates.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks.noop import herd, noop
from herdmaster.testing.apache import ApacheZooKeeper
from tests.authority import Authority
from tests.reference.client import ReferenceClient
from tests.reference.session import Znodes

REPOSITORY = Path(__file__).resolve().parents[1]

_TICKS = os.sysconf("SC_CLK_TCK")


class Round(msgspec.Struct, frozen=True):
    """One run over all tasks. `cpu` in microseconds per task and role."""

    tasks: int
    seconds: float
    cpu: dict[str, float]

    @property
    def rate(self) -> float:
        return self.tasks / self.seconds


class Report(msgspec.Struct, frozen=True):
    rounds: list[Round]
    rate: float
    serial_p50_ms: float
    serial_p99_ms: float
    reference_rate: float
    reference_serial_p50_ms: float
    reference_serial_p99_ms: float
    ratio: float


class TlsReport(msgspec.Struct, frozen=True):
    """Rates in tasks per second; `ratio` is that over TLS to the plain one."""

    plain_rounds: list[Round]
    tls_rounds: list[Round]
    plain_rate: float
    tls_rate: float
    plain_serial_p50_ms: float
    tls_serial_p50_ms: float
    ratio: float


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=REPOSITORY, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition: Callable[[], bool], patience: float = 30.0) -> None:
    limit = time.monotonic() + patience
    while not condition():
        if time.monotonic() > limit:
            raise TimeoutError("the reference's roles did not come up")
        time.sleep(0.05)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure_ours(
    zookeeper: ApacheZooKeeper, options: argparse.Namespace, servers: str = ""
) -> tuple[list[Round], list[float]]:
    hosts = f"{servers or zookeeper.hosts}/ours-{uuid.uuid4().hex[:8]}"
    os.environ["HERD_ZOOKEEPER"] = hosts
    with ExitStack() as stack:
        quiet = ["--log-level", "warning", *(["--listen", ":0"] if options.metrics else [])]
        worker = ["herdmaster", "worker", hosts, "--app", "benchmarks.noop", *quiet]
        roles = {
            "primary": stack.enter_context(running(["herdmaster", "master", hosts, *quiet])),
            "worker 1": stack.enter_context(running(worker)),
            "worker 2": stack.enter_context(running(worker)),
        }
        pids = {"client": os.getpid(), "ZooKeeper": zookeeper.pid} | {name: role.pid for name, role in roles.items()}
        stack.enter_context(herd)
        for _ in noop.map(range(200)):
            pass
        rounds = [one_round(noop.map, options.tasks, options.window, pids) for _ in range(options.rounds + 1)]
        spans = []
        for number in range(options.serial):
            began = time.perf_counter()
            assert noop.submit(number).result(30) == number
            spans.append(time.perf_counter() - began)
    return rounds, spans


def one_round(submit_all: Callable[..., Iterable[int]], tasks: int, window: int, pids: dict[str, int]) -> Round:
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    began = time.perf_counter()
    total = sum(submit_all(range(tasks), window=window))
    seconds = time.perf_counter() - began
    assert total == tasks * (tasks - 1) // 2, "a result is wrong"
    cpu = {name: (cpu_seconds(pid) - before[name]) / tasks * 1e6 for name, pid in pids.items()}
    return Round(tasks, seconds, cpu)


def measure_reference(zookeeper: ApacheZooKeeper, options: argparse.Namespace) -> tuple[float, list[float]]:
    name = f"/reference-{uuid.uuid4().hex[:8]}"
    with Znodes(zookeeper.hosts) as znodes:
        znodes.create(name)
    hosts = zookeeper.hosts + name
    with ExitStack() as stack, Znodes(hosts) as znodes:
        stack.enter_context(running(["tests.reference", "master", hosts]))
        wait_until(lambda: znodes.exists("/master") and znodes.exists("/workers"))
        for _ in range(2):
            stack.enter_context(running(["tests.reference", "worker", hosts]))
        wait_until(lambda: len(znodes.children("/workers")) == 2)
        client = ReferenceClient(hosts)
        client.start()
        stack.callback(client.close)
        client.submit_many([b"no-op"] * 100, 100)
        began = time.perf_counter()
        client.submit_many([b"no-op"] * options.reference_tasks, 100)
        rate = options.reference_tasks / (time.perf_counter() - began)
        spans = []
        for _ in range(options.serial):
            began = time.perf_counter()
            client.submit_many([b"no-op"], 1)
            spans.append(time.perf_counter() - began)
    return rate, spans


def measure_tls(options: argparse.Namespace) -> TlsReport:
    with tempfile.TemporaryDirectory(prefix="herd-benchmark-") as folder:
        authority = Authority(Path(folder))
        own = authority.client
        with ApacheZooKeeper(tick_time=2000, java_options=("-Xmx512m",), tls=authority.server.tls()) as zookeeper:
            plain, plain_spans = measure_ours(zookeeper, options)
            os.environ.update(
                HERD_TLS_CA=str(own.ca), HERD_TLS_CERTIFICATE=str(own.certificate), HERD_TLS_KEY=str(own.key)
            )
            tls, tls_spans = measure_ours(zookeeper, options, zookeeper.secure_hosts)
    plain_rate, tls_rate = (statistics.median(each.rate for each in rounds[1:]) for rounds in (plain, tls))
    plain_serial, tls_serial = (percentile(spans, 0.5) * 1e3 for spans in (plain_spans, tls_spans))
    return TlsReport(plain, tls, plain_rate, tls_rate, plain_serial, tls_serial, tls_rate / plain_rate)


def show_tls(report: TlsReport) -> None:
    for name, rounds in (("plain", report.plain_rounds), ("TLS", report.tls_rounds)):
        print(name)
        show_rounds(rounds)
    print(f"\n{'':8}{'tasks/s':>10}{'serial p50':>13}")
    print(f"{'plain':8}{report.plain_rate:10,.0f}{report.plain_serial_p50_ms:10.1f} ms")
    print(f"{'TLS':8}{report.tls_rate:10,.0f}{report.tls_serial_p50_ms:10.1f} ms")
    print(f"ratio: {report.ratio:.2f}")


def show_rounds(rounds: list[Round]) -> None:
    for number, each in enumerate(rounds):
        cpu = ", ".join(f"{name} {value:.0f}" for name, value in each.cpu.items())
        label = "warm-up" if number == 0 else f"round {number}"
        print(f"{label:8} {each.tasks} tasks in {each.seconds:.2f} s = {each.rate:,.0f}/s; CPU us per task: {cpu}")


def show(report: Report) -> None:
    show_rounds(report.rounds)
    print(f"\n{'':12}{'tasks/s':>10}{'serial p50':>13}{'serial p99':>13}")
    print(f"{'Herdmaster':12}{report.rate:10,.0f}{report.serial_p50_ms:10.1f} ms{report.serial_p99_ms:10.1f} ms")
    print(
        f"{'reference':12}{report.reference_rate:10,.0f}{report.reference_serial_p50_ms:10.1f} ms"
        f"{report.reference_serial_p99_ms:10.1f} ms"
    )
    print(f"ratio: {report.ratio:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=20_000, help="per round")
    parser.add_argument("--rounds", type=int, default=3, help="counted ones, after a warm-up")
    parser.add_argument("--window", type=int, default=4000, help="tasks under way at a time")
    parser.add_argument("--serial", type=int, default=300, help="tasks one after the other")
    parser.add_argument("--reference-tasks", type=int, default=1000)
    parser.add_argument("--metrics", action="store_true", help="masters and workers count metrics (--listen)")
    parser.add_argument("--tls", action="store_true", help="over a plain port, then over TLS, without the reference")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.tls:
        found = measure_tls(options)
        print(json.dumps(msgspec.to_builtins(found))) if options.json else show_tls(found)
        return
    with ApacheZooKeeper(tick_time=2000, java_options=("-Xmx512m",)) as zookeeper:
        rounds, spans = measure_ours(zookeeper, options)
        reference_rate, reference_spans = measure_reference(zookeeper, options)
    rate = statistics.median(each.rate for each in rounds[1:])
    report = Report(
        rounds,
        rate,
        percentile(spans, 0.5) * 1e3,
        percentile(spans, 0.99) * 1e3,
        reference_rate,
        percentile(reference_spans, 0.5) * 1e3,
        percentile(reference_spans, 0.99) * 1e3,
        rate / reference_rate,
    )
    print(json.dumps(msgspec.to_builtins(report))) if options.json else show(report)


if __name__ == "__main__":
    main()
