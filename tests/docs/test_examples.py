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
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image

from herdmaster.testing.ports import free_ports
from tests.cli.processes import HerdProcess, run_herd, wait_until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = [pytest.mark.timeout(180), pytest.mark.long]


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
