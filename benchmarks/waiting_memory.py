"""The memory of Apache's server for each waiting task.

    python -m benchmarks.waiting_memory [--tasks N] [--characters N]

Submits tasks while no master runs, then compares the used part of the server's heap after a full collection (`jcmd`,
from a JDK) with that before. The client is gone by then, so its watches and its journal are not counted.
"""

from __future__ import annotations

import argparse
import re
import subprocess

from herdmaster import Herd
from herdmaster.testing.apache import ApacheZooKeeper

KIB = 1024
CHUNK = 10_000
"""Tasks per call of `submit_many`."""


def heap_bytes(pid: int) -> int:
    """Return the used bytes of a Java heap after a full collection."""
    subprocess.run(["jcmd", str(pid), "GC.run"], check=True, capture_output=True)
    report = subprocess.run(["jcmd", str(pid), "GC.heap_info"], check=True, capture_output=True, text=True).stdout
    return sum(int(used) for used in re.findall(r"total \d+K, used (\d+)K", report)) * KIB


def data_bytes(server: ApacheZooKeeper) -> int:
    """Return ZooKeeper's count of the bytes in names and data."""
    found = re.search(r"zk_approximate_data_size\t(\d+)", server.four_letter_word("mntr"))
    assert found is not None
    return int(found[1])


def submit(hosts: str, tasks: int, characters: int) -> None:
    """Submit tasks with one string as argument, and forget them."""
    herd = Herd(hosts)

    @herd.task
    def wait(text: str) -> None: ...

    with herd:
        for _ in range(tasks // CHUNK):
            herd.submit_many(wait, [("x" * characters,)] * CHUNK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000, metavar="N")
    parser.add_argument("--characters", type=int, default=100, metavar="N", help="length of the argument")
    options = parser.parse_args()
    with ApacheZooKeeper(java_options=("-XX:+UseSerialGC", "-Xmx2g")) as server:
        submit(server.hosts, CHUNK, options.characters)
        heap, data = heap_bytes(server.pid), data_bytes(server)
        submit(server.hosts, options.tasks, options.characters)
        heap, data = heap_bytes(server.pid) - heap, data_bytes(server) - data
    print(f"{options.tasks} tasks with an argument of {options.characters} characters, for each:")
    print(f"{heap / options.tasks:.0f} bytes of heap, {data / options.tasks:.0f} bytes of names and data")


if __name__ == "__main__":
    main()
