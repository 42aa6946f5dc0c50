"""Celery's canvas on Redis, for `benchmarks.flows`: prints the seconds of each shape as JSON.

    python -m benchmarks.peers.celery_canvas CHAIN FAN SMALL

Two workers of one process each (`--pool solo`) must run: `celery --app benchmarks.peers.celery_canvas worker`.
"""

from __future__ import annotations

import json
import os
import sys
import time

from celery import Celery, chain, chord

URL = os.environ.get("HERD_BENCHMARK_REDIS", "redis://127.0.0.1:6379/0")
app = Celery("benchmark", broker=URL, backend=URL)
app.conf.update(worker_prefetch_multiplier=100, task_acks_late=True, worker_hijack_root_logger=False)


def _add_one(number: int) -> int:
    return number + 1


def _total(numbers: list[int]) -> int:
    return sum(numbers)


add_one = app.task(_add_one, name="add_one")
total = app.task(_total, name="total")


def main() -> None:
    length, width, flows = map(int, sys.argv[1:4])
    assert add_one.delay(1).get(timeout=30) == 2
    began = time.perf_counter()
    assert chain(add_one.s(0), *(add_one.s() for _ in range(length - 1)))().get(timeout=600) == length
    in_chain = time.perf_counter() - began
    began = time.perf_counter()
    assert chord([add_one.s(number) for number in range(width)])(total.s()).get(timeout=600) == width * (width + 1) // 2
    in_fan = time.perf_counter() - began
    began = time.perf_counter()
    pending = [chord([add_one.s(0), add_one.s(1), add_one.s(2)])(total.s()) for _ in range(flows)]
    assert all(each.get(timeout=600) == 6 for each in pending)
    in_small = time.perf_counter() - began
    print(json.dumps({"chain": in_chain, "fan": in_fan, "small": in_small}))


if __name__ == "__main__":
    main()
