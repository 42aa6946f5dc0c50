"""What directs a worker directs every use of its app's Herd: nothing is sent to the servers that the app names."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from herdmaster import Future, Herd
from herdmaster.roles.primary.master import Master
from herdmaster.testing.running import RunningRoles
from tests.cli.directed_app import USED_ALL
from tests.cli.processes import HerdProcess, wait_until
from tests.cli.test_development import hosts_of
from tests.cli.test_roles import wait_for_overview

pytestmark = pytest.mark.long

APP = "tests.cli.directed_app"
WAYS = ("in_thread", "in_loop", "in_process")


def check_every_use(herd: Herd, diary: Path, imports: int) -> None:
    futures: list[Future[object]] = [herd.submit_call(f"{APP}:{way}", queue="watched") for way in WAYS]
    failing: list[Future[None]] = [herd.submit_call(f"{APP}:fail_{way}", queue="watched") for way in WAYS]
    in_subprocess: Future[str] = herd.submit_call(f"{APP}:in_subprocess")
    assert [future.result(60) for future in futures] == [USED_ALL] * len(WAYS)
    assert [type(future.exception(60)) for future in failing] == [ValueError] * len(WAYS)
    assert in_subprocess.result(60) == f"{USED_ALL}\n"
    expected = sorted(["start", *["before", "after", "before", "error"] * len(WAYS), *["import"] * imports])
    wait_until(
        lambda: diary.exists() and sorted(diary.read_text().splitlines()) == expected,
        f"expected {expected}: a use went elsewhere",
    )


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary"


def test_a_worker_that_was_given_hosts_sends_nothing_to_those_of_its_app(namespace: str, diary: Path) -> None:
    with (
        RunningRoles(Master(namespace)),
        HerdProcess(
            "worker", "--zookeeper", namespace, f"--app={APP}:herd", "--slots=8", "--processes=2",
            environment={"DIRECTED_DIARY": str(diary)},
        ) as worker,
        Herd(namespace) as herd,
    ):  # fmt: skip
        worker.wait_for_log("is ready")
        check_every_use(herd, diary, imports=4)  # the worker, its two processes, the subprocess
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        wait_for_overview(namespace, lambda seen: seen.tasks.backlog == 1, "what the stop hook submits went elsewhere")
        assert "is used although this process is directed" not in worker.stderr


def test_herd_dev_sends_nothing_to_the_hosts_of_its_app(diary: Path) -> None:
    with HerdProcess(
        "dev", "--port=0", f"--app={APP}:herd", "--slots=8", environment={"DIRECTED_DIARY": str(diary)}
    ) as dev:
        dev.wait_for_log("is ready")
        with Herd(hosts_of(dev)) as herd:
            check_every_use(herd, diary, imports=3)  # when the app itself is imported no server is there


@contextmanager
def fresh_app(monkeypatch: pytest.MonkeyPatch, diary: Path) -> Iterator[Herd]:
    """Imported anew, without a use of its Herd at that."""
    sys.modules.pop(APP, None)
    app = importlib.import_module(APP)
    monkeypatch.setenv("DIRECTED_DIARY", str(diary))
    try:
        yield app.herd
    finally:
        app.herd.close()
        app.same_deployment.close()


HerdWorker = Callable[..., AbstractContextManager[str]]


def test_the_fixture_sends_nothing_to_the_hosts_of_its_app(
    herd_worker: HerdWorker, diary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_app(monkeypatch, diary) as herd, herd_worker(herd, slots=8):
        check_every_use(herd, diary, imports=3)


def test_a_worker_without_an_app_directs_the_herds_of_what_it_imports(namespace: str) -> None:
    with (
        RunningRoles(Master(namespace)),
        HerdProcess("worker", namespace, f"--allow-import={APP}", "--slots=8"),
        Herd(namespace) as herd,
    ):
        # `double` is run by import, too.
        assert herd.submit_call(f"{APP}:use_all").result(60) == USED_ALL


def test_a_worker_that_is_given_the_hosts_of_its_app_directs_nothing(namespace: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(f"""
import os
from herdmaster import Herd
herd = Herd("{namespace}")
@herd.task
def directions() -> str | None:
    return os.environ.get("HERD_DIRECTIONS")
@herd.raw_handler
def take(name, data): ...
at_import = herd.submit_raw(b"x")
@herd.task
def was_done() -> bool:
    return at_import.result(60) is None
""")
    with (
        RunningRoles(Master(namespace)),
        HerdProcess("worker", namespace, "--app=shop", folder=tmp_path),
        Herd(namespace) as herd,
    ):
        assert herd.submit_call("shop:directions").result(60) is None
        assert herd.submit_call("shop:was_done").result(60) is True


def test_a_second_deployment_keeps_its_servers_and_is_warned_of(namespace: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("""
from os.path import basename
from herdmaster import Herd, HerdExecutor
herd = Herd("127.0.0.1:1")
other = Herd("127.0.0.1:2/prod")
@herd.task
def hosts() -> list[str]:
    return [herd.hosts, other.hosts]
@herd.task
def use_other() -> str:
    executor = HerdExecutor(other)
    return executor.submit(basename, "a/b").name + executor.submit(basename, "a/b").name
""")
    with (
        RunningRoles(Master(namespace)),
        HerdProcess("worker", namespace, "--app=shop:herd", folder=tmp_path) as worker,
        Herd(namespace) as herd,
    ):
        assert herd.submit_call("shop:hosts").result(60) == [namespace, "127.0.0.1:2/prod"]
        herd.submit_call("shop:use_other").result(60)
        line = worker.wait_for_log("is used although")
        assert (
            f"WARNING client: a Herd of 127.0.0.1:2/prod is used although this process is directed to {namespace}"
            in (line)
        )
        assert worker.stderr.count("is used although") == 1
