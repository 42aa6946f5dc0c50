"""A kept outcome outlives its submitter, its worker, the primary and its readers, and is read by all that ask."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.cli.processes import REPOSITORY, connect
from tests.kills.aftermath import assert_settled, kill, wait_lines
from tests.kills.diary import BEGAN, read
from tests.kills.test_kills import PATIENCE, Cluster

pytestmark = [pytest.mark.timeout(300), pytest.mark.long]

_SUBMITTER: Final = """
import sys
from pathlib import Path
from herdmaster import Herd
from tests.kills.features_app import keep
with Herd(sys.argv[1], session_timeout=1.5) as herd:
    future = herd.submit_call(keep.call, (sys.argv[2], 7, 2.0), keep_outcome=600)
    print(future.name, flush=True)
    future.result()
"""
_READER: Final = """
import signal, sys
from herdmaster import Herd
with Herd(sys.argv[1], session_timeout=1.5) as herd:
    print(herd.future(sys.argv[2]).result(60), flush=True)
    signal.pause()
"""


@pytest.fixture
def cluster(namespace: str) -> Iterator[Cluster]:
    with ExitStack() as stack:
        options = ("--app=tests.kills.features_app", "--slots=4")
        yield Cluster(namespace, stack, (options, options))


def _first_line(program: str, *arguments: str) -> str:
    """Return what a program prints first; it is killed then."""
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    return line


def test_a_kept_outcome_is_read_by_everyone_although_everyone_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    name = _first_line(_SUBMITTER, cluster.hosts, str(diary))
    wait_lines(diary, BEGAN, 1)
    primary = cluster.primary()
    kill(primary, next(worker for worker in cluster.workers if worker.pid == read(diary)[0].pid))

    waiting = cluster.herd.future(name)
    assert [_first_line(_READER, cluster.hosts, name) for _ in range(2)] == ["7", "7"]
    assert waiting.result(PATIENCE) == 7
    assert cluster.herd.future(name).result(PATIENCE) == 7
    assert_settled(cluster, kept=(name,))
    with connect(cluster.hosts) as client:
        assert client.get_children("/status") == [name]
