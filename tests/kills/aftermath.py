"""Kills, and what is looked at after them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from tests.cli.processes import REPOSITORY, HerdProcess, connect, wait_until
from tests.kills.diary import read
from tests.kills.test_kills import PATIENCE, Cluster

_SUBMITTER: Final = """
import sys
from pathlib import Path
from herdmaster import Herd
from tests.kills.features_app import work
with Herd(sys.argv[1], session_timeout=1.5) as herd:
    task = herd.task(work.function).options(key="once", outcome_ttl=float(sys.argv[3]))
    future = task.submit(Path(sys.argv[2]), 7, 2.0)
    print(future.name, flush=True)
    future.result()
"""


def submit_and_die(hosts: str, diary: Path, ttl: float) -> str:
    """The name of the task that a process submitted, and then it was killed."""
    command = [sys.executable, "-c", _SUBMITTER, hosts, str(diary), str(ttl)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        process.kill()
    assert name.startswith("task-")
    return name


def kill(*processes: HerdProcess) -> None:
    for process in processes:
        process.send(signal.SIGKILL)


def wait_lines(diary: Path, kind: str, count: int) -> None:
    wait_until(lambda: len(read(diary, kind)) >= count, f"{count} times {kind!r}", PATIENCE)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _children(client: KazooClient, folder: str) -> list[str]:
    try:
        return list(client.get_children(folder))
    except NoNodeError:
        return []


def assert_settled(cluster: Cluster, *, kept: Sequence[str] = ()) -> None:
    """Nothing is under way, each task ended once, and no outcome but the ones to be `kept` is left."""
    with connect(cluster.hosts) as client:

        def left() -> list[str]:
            # An empty inbox that the new primary knows no worker of might be that of one about to register, so it stays
            # for a minute.
            folders = ["/tasks", "/delayed", "/cancel", *(f"/assign/{name}" for name in client.get_children("/assign"))]
            found = [f"{folder}/{name}" for folder in folders for name in _children(client, folder)]
            return found + [f"/status/{name}" for name in client.get_children("/status") if name not in kept]

        try:
            wait_until(lambda: not left(), "something was left behind", PATIENCE)
        except AssertionError as error:
            error.add_note(repr(left()))
            raise
    assert set(cluster.ledger.committed.values()) <= {1}
