"""Workers are killed and stopped around `once`: no result is lost or made twice after it was saved."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.processes import HerdProcess, run_herd, wait_until
from tests.kills import once_app
from tests.kills.aftermath import kill
from tests.kills.test_kills import PATIENCE, SESSION_TIMEOUT, Cluster

pytestmark = [pytest.mark.timeout(300), pytest.mark.long]

WORKER = ("--app=tests.kills.once_app", "--slots=6", "--processes=2")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_a_killed_worker_a_retry_and_a_replay_find_what_was_saved(
    namespace: str, stack: ExitStack, tmp_path: Path
) -> None:
    cluster = Cluster(namespace, stack, (WORKER,))
    plain = cluster.herd.task(max_attempts=2, backoff=0)(once_app.order_and_fail.function)
    coroutine = cluster.herd.task(max_attempts=2, backoff=0)(once_app.order_in_coroutine.function)
    folders = [tmp_path / name for name in ("thread", "process", "coroutine")]
    for folder in folders:
        folder.mkdir()
    thread, process, async_ = folders
    futures = (plain.submit(thread), plain.options(pool="process").submit(process), coroutine.submit(async_))
    wait_until(lambda: all((folder / "waits").exists() for folder in folders), "an order", PATIENCE)
    kill(*cluster.workers)

    stack.enter_context(HerdProcess("worker", namespace, *WORKER, f"--session-timeout={SESSION_TIMEOUT}"))
    for folder in folders:
        (folder / "go").touch()
    for future in futures:
        with pytest.raises(LookupError, match="order 1"):
            future.result(PATIENCE)
    for folder in folders:
        (folder / "mended").touch()
    assert run_herd("dead", "replay", "--all", "--zookeeper", namespace).returncode == 0
    for folder in folders:
        wait_until((folder / "number").exists, "the end", PATIENCE)
        assert (folder / "number").read_text() == "1"
        assert (folder / "orders").read_text() == "x"


@pytest.mark.slow
@pytest.mark.parametrize("in_process", [False, True], ids=["thread", "process"])
def test_a_worker_that_was_stopped_between_the_call_and_the_save_cannot_save(
    namespace: str, stack: ExitStack, tmp_path: Path, in_process: bool
) -> None:
    cluster = Cluster(namespace, stack, (WORKER, WORKER))
    task = cluster.herd.task(once_app.pay_and_stop.function)
    if in_process:
        task = task.options(pool="process")
    assert task.submit(tmp_path, in_process).result(PATIENCE) == 2, "the other worker has called the function again"

    (tmp_path / "go").touch()
    os.kill(int((tmp_path / "stopped").read_text()), signal.SIGCONT)
    cluster.wait(lambda seen: len(seen.workers) == 2)
    if not in_process:  # a process is killed at the end of the session of its worker
        wait_until((tmp_path / "refused").exists, "the refusal", PATIENCE)
    assert [path.name for path in tmp_path.glob("paid-*")] == ["paid-2"]
