"""Dask's graphs on two workers, for `benchmarks.flows`: prints the seconds of each shape as JSON.

python -m benchmarks.peers.dask_graphs CHAIN FAN SMALL

Dask keeps graphs and results in the memory of its processes: what it is compared for here is speed alone.
"""

from __future__ import annotations

import json
import sys
import time

from distributed import Client, LocalCluster


def add_one(number: int) -> int:
    return number + 1


def total(numbers: list[int]) -> int:
    return sum(numbers)


def main() -> None:
    length, width, flows = map(int, sys.argv[1:4])
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        assert client.submit(add_one, 1, pure=False).result() == 2
        began = time.perf_counter()
        last = client.submit(add_one, 0, pure=False)
        for _ in range(length - 1):
            last = client.submit(add_one, last, pure=False)
        assert last.result() == length
        in_chain = time.perf_counter() - began
        began = time.perf_counter()
        joined = client.submit(total, client.map(add_one, range(width), pure=False), pure=False)
        assert joined.result() == width * (width + 1) // 2
        in_fan = time.perf_counter() - began
        began = time.perf_counter()
        pending = [client.submit(total, client.map(add_one, range(3), pure=False), pure=False) for _ in range(flows)]
        assert all(each == 6 for each in client.gather(pending))
        in_small = time.perf_counter() - began
    print(json.dumps({"chain": in_chain, "fan": in_fan, "small": in_small}))


if __name__ == "__main__":
    main()
