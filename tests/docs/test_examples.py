"""The programs in `examples/`, as their readers run them: on real input, with a master and workers of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

from herdmaster.testing.ports import free_ports
from tests.cli.processes import HerdProcess, run_herd, wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = [pytest.mark.timeout(300), pytest.mark.long]


@contextmanager
def served(name: str, app: str, hosts: str, variables: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """The environment of a program whose example has a master and a worker."""
    environment = {"HERD_ZOOKEEPER": hosts, "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", "/tmp/herd-matplotlib")}
    environment |= variables or {}
    with (
        HerdProcess("master", environment=environment) as master,
        HerdProcess("worker", f"--app={app}", folder=EXAMPLES / name, environment=environment) as worker,
    ):
        master.wait_for_log("elected")
        worker.wait_for_log("is ready", timeout=60)
        yield environment


def test_thumbnails_are_made_of_real_images_and_a_broken_one_harms_no_other(namespace: str, tmp_path: Path) -> None:
    source, target = tmp_path / "images", tmp_path / "thumbnails"
    source.mkdir()
    images = sorted(Path(mpl.get_data_path(), "images").glob("*_large.png"))[:8]
    for image in images:
        (source / image.name).write_bytes(image.read_bytes())
    (source / "broken.png").write_bytes(b"not an image")
    with served("thumbnails", "thumbnails", namespace) as environment:
        result = run_herd(
            str(source), str(target), folder=EXAMPLES / "thumbnails", environment=environment, module="thumbnails",
            timeout=120,
        )  # fmt: skip
    assert result.returncode == 1
    assert result.stdout == f"{len(images)} thumbnails in {target}, 1 failed\n"
    assert "broken.png: PIL.UnidentifiedImageError: cannot identify image file" in result.stderr
    made = sorted(target.iterdir())
    assert len(made) == len(images)
    for path in made:
        with Image.open(path) as thumbnail:
            assert max(thumbnail.size) <= 128


def test_the_sweep_plots_what_all_its_values_gave(namespace: str, tmp_path: Path) -> None:
    target = tmp_path / "diagram.png"
    with served("sweep", "sweep", namespace) as environment:
        result = run_herd(str(target), folder=EXAMPLES / "sweep", environment=environment, module="sweep", timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    assert "points of 1,200 values" in result.stdout
    with Image.open(target) as image:
        assert image.size == (1080, 720)
        assert len(image.convert("L").getcolors() or ()) > 1  # something was drawn


@contextmanager
def service(environment: dict[str, str]) -> Iterator[str]:
    """The address of the web service."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "service:app", f"--port={port}", "--log-level=warning"],
        cwd=EXAMPLES / "webapp",
        env={**os.environ, **environment},
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
            except urllib.error.HTTPError:
                break
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def ask(url: str, method: str = "GET") -> list[dict[str, object]]:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=90) as reply:
        return [json.loads(line) for line in reply]


def test_the_web_service_submits_and_streams_to_the_result(namespace: str, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("x" * number)
    with served("webapp", "jobs", namespace) as environment, service(environment) as url:
        (accepted,) = ask(f"{url}/checksums?folder={tmp_path}", "POST")
        (again,) = ask(f"{url}/checksums?folder={tmp_path}", "POST")
        assert accepted == again
        *_, last = ask(f"{url}/tasks/{accepted['task']}")
        result = last["result"]
        assert isinstance(result, dict)
        assert sorted(result) == ["0.txt", "1.txt", "2.txt"]
        assert result["0.txt"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        assert ask(f"{url}/tasks/{accepted['task']}", "DELETE") == [{"cancelled": False}]
        with pytest.raises(urllib.error.HTTPError):
            ask(f"{url}/checksums?folder=relative", "POST")


def test_snapshots_are_made_at_each_tick_and_old_ones_deleted(namespace: str, tmp_path: Path) -> None:
    source, target = tmp_path / "papers", tmp_path / "snapshots"
    source.mkdir()
    (source / "letter.txt").write_text("Dear Ada")
    target.mkdir()
    old = target / "20200101T000000Z.tar.gz"
    old.touch()
    folders = {"SNAPSHOTS_OF": str(source), "SNAPSHOTS_IN": str(target)}
    with served("snapshots", "snapshots", namespace, folders) as environment:
        run = partial(run_herd, folder=EXAMPLES / "snapshots", environment=environment)
        applied = run("schedules", "apply", "--app", "snapshots")
        assert applied.stdout.split() == ["create", "delete_old", "create", "snapshot"], applied.stderr
        wait_until(lambda: len(list(target.glob("2*.tar.gz"))) >= 3 or None, "two snapshots")
        assert run("schedules", "run", "delete_old").returncode == 0
        wait_until(lambda: not old.exists() or None, "the deletion of the old one")
    made = sorted(target.glob("*.tar.gz"))
    assert all(int(path.name[13:15]) % 2 == 0 for path in made)  # the seconds of the ticks
    with tarfile.open(made[0]) as archive:
        letter = archive.extractfile("papers/letter.txt")
        assert letter is not None
        assert letter.read() == b"Dear Ada"


def flow_of(environment: dict[str, str]) -> dict[str, object]:
    """The only flow, as `herd flows list` shows it; empty before it is there."""
    listed = run_herd("flows", "list", "--json", environment=environment).stdout
    found: dict[str, object] = json.loads(listed) if listed else {}
    return found


def done(environment: dict[str, str]) -> int:
    steps = flow_of(environment).get("done", 0)
    assert isinstance(steps, int)
    return steps


def test_the_etl_ends_in_spite_of_kills_and_a_retry_parses_only_what_failed(namespace: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "report.txt"
    source.mkdir()
    for number in range(499):
        (source / f"{number:03}.py").write_text(f"def first_{number}(): pass\n\ndef second_{number}(): return 1\n")
    bad = source / "bad.py"
    bad.write_text("numbers = [" + "1, " * 4_000_000 + "]\n")  # needs far more than the 300 MB that a process may have
    environment = {"HERD_ZOOKEEPER": namespace}
    etl = partial(HerdProcess, "worker", "--app=etl", "--slots=2", folder=EXAMPLES / "etl", environment=environment)
    with (
        HerdProcess("master", "--session-timeout=4", environment=environment) as first,
        etl() as worker,
        etl(),
        ThreadPoolExecutor(1) as threads,
    ):
        first.wait_for_log("elected")
        with HerdProcess("master", "--session-timeout=4", environment=environment):
            ran = threads.submit(
                run_herd, str(source), str(target), folder=EXAMPLES / "etl", environment=environment, module="etl",
                timeout=280,
            )  # fmt: skip
            wait_until(lambda: done(environment) > 50 or None, "50 steps", timeout=120)
            first.kill()
            worker.kill()
            failed = ran.result()
            assert failed.returncode == 1
            assert "TaskFailed" in failed.stderr
            assert not target.exists()
            for path in source.iterdir():
                path.unlink()  # what is parsed already is not read again
            bad.write_text("def mended(): pass\n")
            flow = str(flow_of(environment)["id"])
            retried = run_herd("flows", "retry", flow, "--wait", environment=environment, timeout=60)
            assert retried.returncode == 0, retried.stderr
    assert len(target.read_text().splitlines()) == 499 * 2 + 1
