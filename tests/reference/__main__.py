"""A role of the reference as a process: `python -m tests.reference master|worker|client HOSTS ...`.

Logs go to stderr. SIGTERM and Ctrl-C end the session and exit 0; an expired session exits 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence

from tests.reference.client import ReferenceClient, Task, is_success
from tests.reference.master import ReferenceMaster
from tests.reference.session import SESSION_TIMEOUT
from tests.reference.worker import ReferenceWorker

SAMPLES = ("Sample task", "Another sample task")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.reference", description="The reference's roles, with kazoo.")
    parser.add_argument("--session-timeout", type=float, default=SESSION_TIMEOUT, metavar="SECONDS")
    parser.add_argument("--verbose", action="store_true", help="log what goes well too")
    roles = parser.add_subparsers(dest="role", required=True)
    for name in ("master", "worker", "client"):
        role = roles.add_parser(name)
        role.add_argument("hosts", metavar="HOSTS", help="host:port[,host:port...][/chroot]; the chroot must exist")
        if name == "client":
            role.add_argument("data", metavar="DATA", nargs="*", help="one task each (default: the two samples)")
            role.add_argument("--count", type=int, help="submit N tasks and print one line of JSON with the speed")
            role.add_argument("--window", type=int, default=100, help="tasks under way at a time (default 100)")
    return parser.parse_args(arguments)


def run_until_stopped(role: ReferenceMaster | ReferenceWorker) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    role.start()
    while not stop.wait(0.1):
        if role.expired.is_set():
            sys.stderr.write("the session expired\n")
            return 1
    role.close()
    return 0


def run_client(client: ReferenceClient, options: argparse.Namespace) -> int:
    client.start()
    try:
        if options.count is not None:
            return print_speed(client, options.count, options.window, options.data)
        data = options.data or SAMPLES
        ended = client.submit_many([text.encode() for text in data], options.window)
    finally:
        client.close()
    for name, outcome in ended:
        sys.stdout.write(f"{name}: {outcome.decode(errors='replace')}\n")
    return 0 if all(is_success(outcome) for _, outcome in ended) else 1


def print_speed(client: ReferenceClient, count: int, window: int, data: Sequence[str]) -> int:
    payloads = [text.encode() for text in data] or [b"no-op"]
    spans: list[float] = []
    room = threading.Semaphore(window)
    tasks: list[Task] = []
    began = time.perf_counter()
    for number in range(count):
        room.acquire()
        submitted = time.perf_counter()

        def ended(submitted: float = submitted) -> None:
            spans.append(time.perf_counter() - submitted)
            room.release()

        tasks.append(client.submit_nowait(payloads[number % len(payloads)], ended))
    outcomes = [task.wait(timeout=60.0) for task in tasks]
    seconds = time.perf_counter() - began
    spans.sort()
    failed = sum(not is_success(outcome) for outcome in outcomes)
    report = {
        "tasks": count,
        "window": window,
        "failed": failed,
        "seconds": round(seconds, 3),
        "tasks_per_second": round(count / seconds, 1),
        "p50_ms": round(spans[len(spans) // 2] * 1000, 2),
        "p99_ms": round(spans[len(spans) * 99 // 100] * 1000, 2),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if failed else 0


def main(arguments: Sequence[str]) -> int:
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, stream=sys.stderr)
    timeout: float = options.session_timeout
    try:
        if options.role == "master":
            return run_until_stopped(ReferenceMaster(options.hosts, session_timeout=timeout))
        if options.role == "worker":
            return run_until_stopped(ReferenceWorker(options.hosts, session_timeout=timeout))
        return run_client(ReferenceClient(options.hosts, session_timeout=timeout), options)
    except (ConnectionError, LookupError, TimeoutError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"{options.role}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
