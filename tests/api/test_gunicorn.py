"""Web servers that fork their workers: each worker submits by a session of its own, also where the app was loaded and
used before the fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from herdmaster.testing.ports import free_ports

pytest.importorskip("gunicorn")
pytestmark = pytest.mark.long

APP = """\
import os
from herdmaster import Herd

herd = Herd(os.environ["SERVED"], session_timeout=4.0)
if "AT_IMPORT" in os.environ:
    assert herd.submit_call("tests.api.tasks:add", [1, 1]).result(20) == 2


def app(environ, start):
    try:
        text = str(herd.submit_call("tests.api.tasks:add", [2, 3]).result(20))
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    start("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
"""


@contextmanager
def gunicorn(folder: Path, served: str, *options: str) -> Iterator[str]:
    """Its address."""
    (folder / "web.py").write_text(APP)
    (port,) = free_ports(1)
    environment = {**os.environ, "SERVED": served, **({"AT_IMPORT": "1"} if "--preload" in options else {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "web:app", f"--bind=127.0.0.1:{port}", "--log-level=warning", *options],
        cwd=folder, env=environment,
    )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def answer(url: str) -> str:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as reply:
                text: str = reply.read().decode()
                return text
        except urllib.error.URLError:  # it does not listen yet
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize(
    "options",
    [("--workers=2",), ("--workers=2", "--preload"), ("--workers=2", "--worker-class=gthread", "--threads=4")],
    ids=["sync", "preload", "gthread"],
)
def test_each_worker_submits(tmp_path: Path, served: str, options: tuple[str, ...]) -> None:
    with gunicorn(tmp_path, served, *options) as url, ThreadPoolExecutor(8) as threads:
        assert list(threads.map(answer, [url] * 16)) == ["5"] * 16


def test_a_gevent_worker_is_told_what_to_do(tmp_path: Path, served: str) -> None:
    pytest.importorskip("gevent")
    with gunicorn(tmp_path, served, "--worker-class=gevent") as url:
        said = answer(url)
    assert said.startswith("ConfigurationError: gevent has replaced threading and socket in this process")
    assert "gthread" in said
