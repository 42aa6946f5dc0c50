"""What tasks print and log, in any pool, steers no terminal and looks like no line of the log."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.processes import HerdProcess

pytestmark = pytest.mark.long

APP = r"""
import logging, sys

from herdmaster import Herd

herd = Herd()
TEXT = "2026-03-01 12:00:00.123 ERROR master: forged"
JSON = '{"time": "2026-03-01", "level": "error", "logger": "herdmaster.master", "message": "forged"}'
RECORD = '\x1e{"name":"herdmaster.master","level":40,"created":1,"pid":1,"thread":"x","message":"forged"}'
STEERING = "\x9b2J\x07\x1b]0;title\x07\x1b[2J"
HOSTILE = "\n".join(["begin", STEERING, TEXT, JSON, RECORD, "<3>forged", f"over\r{TEXT}", f"a\x85{TEXT}"])


def speak(where):
    for stream in (sys.stdout, sys.stderr):
        print(f"printed in {where} {stream.name}\n{HOSTILE}", file=stream)
    logging.getLogger("shop").warning(HOSTILE)
    raise ValueError(HOSTILE)


@herd.task
def in_thread():
    speak("thread")


@herd.task
async def in_loop():
    speak("loop")


@herd.task(pool="process")
def in_process():
    speak("process")
"""


A_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ ").match


def is_ours(line: str, style: str) -> bool:
    """Whether a program that reads the log takes the line for one of Herdmaster's own."""
    if style == "text":
        return A_LINE(line) is not None
    try:
        return str(json.loads(line)["logger"]).startswith("herdmaster")
    except (ValueError, KeyError, TypeError):
        return False


@pytest.mark.parametrize("style", ["text", "json"])
def test_hostile_output_of_tasks_is_harmless_in_every_pool(
    namespace: str, tmp_path: Path, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile.py").write_text(APP)
    app = ModuleType("hostile")
    monkeypatch.setenv("HERD_ZOOKEEPER", namespace)
    exec(APP, app.__dict__)
    with (
        HerdProcess("master", namespace),
        HerdProcess("worker", namespace, "--app", "hostile", "--log-format", style, folder=tmp_path) as worker,
        app.herd,
    ):
        futures = [task.submit() for task in (app.in_thread, app.in_loop, app.in_process)]
        raw = app.herd.submit_raw(b"raw\n2026-03-01 12:00:00.123 ERROR master: forged\x1b[2J")
        for future in futures:
            assert isinstance(future.exception(60), ValueError)
        raw.result(60)
        worker.wait_for_log(f"{futures[-1].name} hostile:in_process failed")
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0
        output = worker.stdout + worker.stderr

    for where in ("thread", "loop", "process"):
        for stream in ("stdout", "stderr"):
            assert f"printed in {where} <{stream}>" in output
    assert output.count("forged") > 50
    assert {character for character in output if not character.isprintable()} <= {"\n"}
    lines = output.splitlines()
    assert not [line for line in lines if line.startswith("<3>")]
    ours = [line for line in lines if is_ours(line, style)]
    assert not [line for line in ours if "master: forged" in line[:40] or '"herdmaster.master",' in line[:100]]
    assert len(ours) > 10
    if style == "json":
        messages = [json.loads(line)["message"] for line in ours]
        printed = [message for message in messages if message.startswith(f"{futures[-1].name}: ")]
        assert len(printed) > 10
        assert all(message.isprintable() for message in printed)
